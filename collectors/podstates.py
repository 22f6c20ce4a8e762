"""What pods and nodes are by the Kubernetes API's own objects, and when that changes; no network, no clock."""

from collections.abc import Iterator
from datetime import datetime

import msgspec

from holdfast.events import Change
from holdfast.topology import Kind, Target
from holdfast.verdict import Json

MOST_KNOWN = 262_144
# Which label names the job a pod belongs to; the first that is there counts. A pod without any is no worker.
JOB_LABELS = (
    "holdfast.io/job", "volcano.sh/job-name", "training.kubeflow.org/job-name", "jobset.sigs.k8s.io/jobset-name",
    "batch.kubernetes.io/job-name", "job-name",
)  # fmt: skip
# Whoever deletes a pod because an order said so leaves the order's id here first: then nobody took the worker away.
ORDER_ANNOTATION = "holdfast.io/order"

_ENDED = frozenset({"finished", "failed", "evicted", "deleted"})
_PHASES = {"Pending": "pending", "Running": "running", "Succeeded": "finished", "Failed": "failed"}
# After a watch was away it lists everything again; what is not in the list after so long is gone.
_LISTED_S = 30.0


class EventError(ValueError):
    """Not a watch event of the API; the message names the field."""


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class _Terminated(msgspec.Struct, rename="camel"):
    exit_code: int = 0
    signal: int | None = None
    reason: str | None = None
    message: str | None = None
    finished_at: str | None = None


class _Phase(msgspec.Struct):
    terminated: _Terminated | None = None


class _Container(msgspec.Struct, rename="camel"):
    name: str = ""
    restart_count: int = 0
    state: _Phase | None = None
    last_state: _Phase | None = None


class _Condition(msgspec.Struct, rename="camel"):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None


class _Status(msgspec.Struct, rename="camel"):
    phase: str = ""
    reason: str | None = None
    message: str | None = None
    conditions: list[_Condition] | None = None
    container_statuses: list[_Container] | None = None


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str | None = None
    unschedulable: bool | None = None


class _Object(msgspec.Struct):
    kind: str = ""
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Kind(msgspec.Struct):
    kind: str = ""


class Known(msgspec.Struct):
    """A pod or node as last told of. round: of its watch, which goes up by one each time the watch was away."""

    target: Target
    state: str
    watch: str = ""
    round: int = 0
    restarts: int = 0


class States:
    """Remembers the last state of each object, so that one change is told for each real change.

    An object that had ended before anything was read, and a node that is ready when first seen, are no change.
    """

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._since: float | None = None
        self._rounds: dict[str, int] = {}
        self._back_at: dict[str, float | None] = {}
        self._event = msgspec.json.Decoder(_Event)
        self._kind = msgspec.json.Decoder(_Kind)
        self._object = msgspec.json.Decoder(_Object)

    def changes_of(self, event: bytes, now: float, *, watch: str = "") -> Iterator[tuple[str, Change]]:
        """The changes in a watch event, each with the job it concerns ("" none). now: Unix seconds; watch: which one it is of.

        raises EventError: not JSON, or not what the API says a pod or node is
        """
        try:
            read = self._event.decode(event)
            kind = self._kind.decode(read.object).kind
            if kind not in ("Pod", "Node") or read.type not in ("ADDED", "MODIFIED", "DELETED"):
                return
            object = self._object.decode(read.object)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise EventError(str(error)) from error
        self._since = now if self._since is None else self._since
        if self._back_at.get(watch, 0.0) is None:
            self._back_at[watch] = now
        gone = read.type == "DELETED"
        yield from self._on_pod(object, now, watch, gone) if kind == "Pod" else self._on_node(object, now, watch, gone)

    def away(self, watch: str) -> None:
        """A watch has ended: what happens until it lists everything again is not seen."""
        self._rounds[watch] = self._rounds.get(watch, 0) + 1
        self._back_at[watch] = None

    def missed(self, watch: str, now: float) -> Iterator[tuple[str, Change]]:
        """What was deleted while the watch was away, once it has had the time to list what is left."""
        back_at = self._back_at.get(watch)
        if back_at is None or now - back_at < _LISTED_S:
            return
        del self._back_at[watch]
        for uid in [uid for uid, known in self._known.items() if known.watch == watch and known.round < self._rounds[watch]]:
            known = self._known.pop(uid)
            if known.state not in _ENDED:
                yield known.target.job, Change(target=known.target, state="deleted", at=now, reason="gone while the watch was away")

    def _on_pod(self, pod: _Object, now: float, watch: str, gone: bool) -> Iterator[tuple[str, Change]]:
        labels = pod.metadata.labels or {}
        job = next((labels[label] for label in JOB_LABELS if labels.get(label)), "")
        if not job or not pod.metadata.name:
            return
        uid = pod.metadata.uid or f"{pod.metadata.namespace}/{pod.metadata.name}"
        target = Target(Kind.PROCESS, pod.metadata.name, node=pod.spec.node_name or "", job=job)
        known, restarts = self._known.get(uid), _restarts(pod)
        state = _pod_state(pod, gone=gone) or (known.state if known else "pending")
        change = _pod_change(pod, target, state, now)
        # one that has no time of its own (an evicted pod has none) may be of any age
        first_and_over = known is None and state in _ENDED and not (self._since or 0.0) <= change.at < now
        over = known is not None and known.state in _ENDED
        if known is not None and not over and state in ("pending", "running") and restarts > known.restarts:
            yield from ((job, failed) for failed in _restarted(pod, target, now))
        elif not first_and_over and not over and (known is None or known.state != state):
            yield job, change
        self._remember(uid, Known(target, known.state if over and known else state, watch, self._rounds.get(watch, 0), restarts))
        if gone:
            del self._known[uid]

    def _on_node(self, node: _Object, now: float, watch: str, gone: bool) -> Iterator[tuple[str, Change]]:
        name, uid = node.metadata.name, node.metadata.uid or f"node/{node.metadata.name}"
        ready = next((one for one in node.status.conditions or () if one.type == "Ready"), None)
        known = self._known.get(uid)
        if not name or (ready is None and not gone):
            return
        target = Target(Kind.NODE, name, node=name)
        state, reason, at = _node_state(node, ready, now, gone=gone)
        if (known.state if known else "ready") != state:
            job = next((k.target.job for k in self._known.values() if k.target.node == name and k.target.job and k.state not in _ENDED), "")
            yield job, Change(target=target, state=state, at=at, reason=reason)
        self._remember(uid, Known(target, state, watch, self._rounds.get(watch, 0)))
        if gone:
            del self._known[uid]

    def _remember(self, uid: str, known: Known) -> None:
        while len(self._known) >= MOST_KNOWN and uid not in self._known:
            del self._known[next(iter(self._known))]
        self._known[uid] = known


def _pod_state(pod: _Object, *, gone: bool) -> str:
    if pod.status.reason == "Evicted" or _disruption(pod) is not None:
        return "evicted"
    if gone or pod.metadata.deletion_timestamp:
        return "deleted"
    return _PHASES.get(pod.status.phase, "")


def _disruption(pod: _Object) -> _Condition | None:
    """Why the cluster itself takes a pod away: preemption, taints, eviction, a node that is gone."""
    return next((c for c in pod.status.conditions or () if c.type == "DisruptionTarget" and c.status == "True"), None)


def _pod_change(pod: _Object, target: Target, state: str, now: float) -> Change:
    meta, status = pod.metadata, pod.status
    detail: dict[str, Json] = {"namespace": meta.namespace}
    if order := (meta.annotations or {}).get(ORDER_ANNOTATION):
        detail["order"] = order
    if state == "failed":
        return _failed(target, _last_end(pod), now, reason=_words(status.reason, status.message), detail=detail)
    if state == "evicted":
        why = _disruption(pod)
        reason = _words(why.reason, why.message) if why else _words(status.reason, status.message)
        return Change(target=target, state=state, at=_at(why.last_transition_time if why else None, now), reason=reason, detail=detail)
    reason = "deleted by an API request" if state == "deleted" else _words(status.reason, status.message)
    return Change(target=target, state=state, at=now, reason=reason, detail=detail)


def _failed(target: Target, end: _Terminated | None, now: float, *, reason: str = "", detail: dict[str, Json]) -> Change:
    if end is None:
        return Change(target=target, state="failed", at=now, reason=reason, detail=detail)
    # a shell and a container runtime say 128 + n for a process that signal n has ended
    signal = end.signal or (end.exit_code - 128 if 128 < end.exit_code <= 128 + 64 else None)
    return Change(
        target=target, state="failed", at=_at(end.finished_at, now), exit_code=end.exit_code if 0 <= end.exit_code <= 255 else None,
        signal=signal, reason=_words(end.reason, end.message) or reason, detail=detail,
    )  # fmt: skip


def _last_end(pod: _Object) -> _Terminated | None:
    """How the container ended that failed; of several the first in the pod's order."""
    ends = [c.state.terminated for c in pod.status.container_statuses or () if c.state and c.state.terminated]
    return next((end for end in ends if end.exit_code), ends[0] if ends else None)


def _restarted(pod: _Object, target: Target, now: float) -> Iterator[Change]:
    """A container failed and runs again in the same pod, as restartPolicy OnFailure has it."""
    for container in pod.status.container_statuses or ():
        end = container.last_state.terminated if container.last_state else None
        if end is not None and end.exit_code:
            detail: dict[str, Json] = {"namespace": pod.metadata.namespace, "restarts": container.restart_count}
            yield _failed(target, end, now, detail=detail)
            yield Change(target=target, state="running", at=now, detail=detail)
            return


def _restarts(pod: _Object) -> int:
    return sum(container.restart_count for container in pod.status.container_statuses or ())


def _node_state(node: _Object, ready: _Condition | None, now: float, *, gone: bool) -> tuple[str, str, float]:
    """(state, reason, since when): not ready says more than cordoned, which says more than ready."""
    if gone or ready is None:
        return "deleted", "deleted by an API request", now
    at = _at(ready.last_transition_time, now)
    if ready.status != "True":
        return "not_ready", _words(ready.reason, ready.message), at
    if node.spec.unschedulable:
        return "cordoned", "unschedulable", now
    return "ready", _words(ready.reason, ready.message), at


def _words(reason: str | None, message: str | None) -> str:
    return ": ".join(part for part in (reason, message) if part)[:1000]


def _at(stamp: str | None, now: float) -> float:
    """An API time as Unix seconds, never later than now."""
    try:
        return min(now, datetime.fromisoformat(stamp).timestamp()) if stamp else now
    except (ValueError, OverflowError):
        return now

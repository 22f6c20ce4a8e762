"""Claims from the scheduler's word: a worker that failed, was deleted or evicted from outside, a node that is not ready."""

from collections.abc import Iterator

import msgspec

from holdfast.events import Change, Changes, Finding, Observation
from holdfast.faults import Action, Fault, Judgement, NodeAction, Perception, Symptom
from holdfast.topology import JobId, Kind, NodeId
from holdfast.verdict import Culprit, Evidence

MOST_CLAIMS = 65_536
_REMOVED = frozenset({"deleted", "evicted"})
_OVER = frozenset({"restarting", "finished", "stopped"})
_OF_WORKERS = ("pods.removed", "pods.failed")
_RUNS = frozenset({"ready", "cordoned", "deleted"})


class Pods:
    """One finding per worker that failed or went, one per node that is not ready.

    A worker that runs again and a node that is ready again clear their own. A worker that was removed because an order said
    so (`detail` names the order) was taken from nobody.
    """

    consumes = (Changes,)

    def __init__(self) -> None:
        self._claims: dict[str, Finding] = {}
        self._said = 0

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Changes):
            for change in seen.changes:
                if change.target.kind is Kind.NODE:
                    yield from self._on_node(change, seen)
                elif change.target.kind is Kind.JOB:
                    yield from self._on_job(change)
                elif change.target.kind is Kind.PROCESS:
                    yield from self._on_worker(change, JobId(change.target.job or seen.job))

    def tick(self, now: float) -> Iterator[Finding]:
        return iter(())

    def _on_node(self, change: Change, seen: Changes) -> Iterator[Finding]:
        key = f"pods.node_not_ready {change.target}"
        if change.state == "not_ready" and key not in self._claims:
            yield self._claim(self._not_ready(change, seen.job), key)
        elif change.state in _RUNS and key in self._claims:
            yield msgspec.structs.replace(self._claims.pop(key), at=change.at, cleared=True, evidence=())

    def _on_job(self, change: Change) -> Iterator[Finding]:
        """A new attempt has new workers: what was said of the old ones is over."""
        fresh = change.state == "started" and change.attempt > 0
        for key, claim in list(self._claims.items()) if fresh or change.state in _OVER else ():
            if claim.job == change.target.id and claim.check in _OF_WORKERS:
                yield msgspec.structs.replace(self._claims.pop(key), at=change.at, cleared=True, evidence=())

    def _on_worker(self, change: Change, job: JobId) -> Iterator[Finding]:
        worker = f"{job}/{change.target.id}"
        if change.state == "running":
            for check in _OF_WORKERS:
                if (claim := self._claims.pop(f"{check} {worker}", None)) is not None:
                    yield msgspec.structs.replace(claim, at=change.at, cleared=True, evidence=())
        elif change.state in _REMOVED and "order" not in change.detail and f"pods.removed {worker}" not in self._claims:
            yield self._claim(self._removed(change, job), f"pods.removed {worker}")
        elif change.state == "failed" and f"pods.failed {worker}" not in self._claims:
            yield self._claim(self._failed(change, job), f"pods.failed {worker}")

    def _claim(self, finding: Finding, key: str) -> Finding:
        self._claims[key] = finding
        while len(self._claims) > MOST_CLAIMS:
            del self._claims[next(iter(self._claims))]
        return finding

    def _removed(self, change: Change, job: JobId) -> Finding:
        self._said += 1
        text = f"worker {change.target.id} on {change.target.node or 'an unknown node'} was {change.state}: {change.reason or 'no reason'}"
        return Finding(
            at=change.at, id=f"pods/{job}/{self._said}", job=job, target=change.target, perception=Perception.POD_DELETED,
            symptom=Symptom.CRASH, fault=Fault.PLATFORM, check="pods.removed", judgement=Judgement.NOBODY, cause=change.state,
            confidence=0.9, action=Action.RESUBMIT, evidence=(Evidence("scheduler", 0, text),),
        )  # fmt: skip

    def _failed(self, change: Change, job: JobId) -> Finding:
        """The pod's word alone names no cause: what the processes and logs say goes deeper."""
        self._said += 1
        memory = "OOMKilled" in change.reason
        how = f"signal {change.signal}" if change.signal else f"status {change.exit_code}"
        text = f"worker {change.target.id} on {change.target.node or 'an unknown node'} failed: {how}, {change.reason or 'no reason'}"
        return Finding(
            at=change.at, id=f"pods/{job}/{self._said}", job=job, target=change.target, perception=Perception.POD_FAILED,
            symptom=Symptom.CRASH, fault=Fault.HOST_RESOURCE if memory else Fault.UNKNOWN, check="pods.failed",
            judgement=Judgement.UNDECIDED, cause="out_of_memory" if memory else "exited", confidence=0.5, action=Action.RESTART,
            evidence=(Evidence("scheduler", 0, text),),
        )  # fmt: skip

    def _not_ready(self, change: Change, job: JobId) -> Finding:
        self._said += 1
        text = f"node {change.target.id} is not ready: {change.reason or 'no reason'}"
        culprit = Culprit(kind=Kind.NODE, id=change.target.id, cause="not_ready", confidence=0.9, evidence=(text,))
        target = msgspec.structs.replace(change.target, node=NodeId(change.target.id))
        return Finding(
            at=change.at, id=f"pods/{change.target.id}/{self._said}", job=job, target=target, perception=Perception.NODE_FAULT,
            fault=Fault.HOST, check="pods.node_not_ready", cause="not_ready", confidence=0.9, culprits=(culprit,),
            action=Action.REPLACE, node_action=NodeAction.REBOOT, evidence=(Evidence("scheduler", 0, text),),
        )  # fmt: skip

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self._said, self._claims))

    def restore(self, memory: bytes) -> None:
        self._said, self._claims = msgspec.msgpack.decode(memory, type=tuple[int, dict[str, Finding]])

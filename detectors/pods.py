"""Claims from the scheduler's word: a worker that was deleted or evicted from outside, a node that is not ready."""

from collections.abc import Iterator

import msgspec

from holdfast.events import Change, Changes, Finding, Observation
from holdfast.faults import Action, Fault, Judgement, NodeAction, Perception, Symptom
from holdfast.topology import JobId, Kind, NodeId
from holdfast.verdict import Culprit, Evidence

MOST_CLAIMS = 65_536
_REMOVED = frozenset({"deleted", "evicted"})
_ENDS = frozenset({"restarting", "finished", "failed", "stopped"})


class Pods:
    """One finding per worker that went, one per node that is not ready; a node that is ready again clears its own."""

    consumes = (Changes,)

    def __init__(self) -> None:
        self._claims: dict[str, Finding] = {}
        self._said = 0

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Changes):
            for change in seen.changes:
                if change.target.kind is Kind.NODE:
                    yield from self._on_node(change, seen)
                elif change.target.kind is Kind.JOB and change.state in _ENDS:
                    yield from self._on_job(change)
                elif change.target.kind is Kind.PROCESS and change.state in _REMOVED:
                    yield self._claim(self._removed(change, JobId(change.target.job or seen.job)))

    def tick(self, now: float) -> Iterator[Finding]:
        return iter(())

    def _on_node(self, change: Change, seen: Changes) -> Iterator[Finding]:
        key = f"pods.node_not_ready {change.target}"
        if change.state == "not_ready" and key not in self._claims:
            yield self._claim(self._not_ready(change, seen.job))
        elif change.state in ("ready", "deleted") and key in self._claims:
            yield msgspec.structs.replace(self._claims.pop(key), at=change.at, cleared=True, evidence=())

    def _on_job(self, change: Change) -> Iterator[Finding]:
        """A new attempt has new workers: what was said of the old ones is over."""
        for key, claim in list(self._claims.items()):
            if claim.job == change.target.id and claim.check == "pods.removed":
                yield msgspec.structs.replace(self._claims.pop(key), at=change.at, cleared=True, evidence=())

    def _claim(self, finding: Finding) -> Finding:
        self._claims[f"{finding.check} {finding.target}"] = finding
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

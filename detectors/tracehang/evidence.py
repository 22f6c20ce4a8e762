"""Gathers the answers to one collection and gives the verdict when all of it has come, or time is up."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from detectors.tracehang.gather import Pile
from detectors.tracehang.judge import judge
from detectors.tracehang.pieces import Piece
from detectors.tracehang.readers import read_all
from holdfast.events import Beats, Dump, Dumps, Finding
from holdfast.faults import Judgement, Perception, Severity
from holdfast.topology import JobId, Kind, job_of, rank_of
from holdfast.verdict import Verdict

_MOST_OPEN = 64
_MOST_BYTES = 1 << 30
_MOST_AGENTS = 65_536
# An agent that has said nothing for so long before a collection began is not waited for.
_ALIVE_S = 10.0


class _Collection(msgspec.Struct):
    """What one order has brought so far. sources: the agents that have sent all they have."""

    job: JobId
    first_at: float
    dumps: list[Dump] = []
    sources: list[str] = []
    size: int = 0


@dataclass(kw_only=True)
class Evidence:
    """patience_s: how long after the first part of a collection the rest may take

    readers: processes that read what was sent; 0 reads it here, where one that means harm can hold up everything
    """

    patience_s: float
    readers: int = 0
    _open: dict[str, _Collection] = field(default_factory=dict, init=False)
    _judged: dict[str, float] = field(default_factory=dict, init=False)
    _agents: dict[str, tuple[str, float]] = field(default_factory=dict, init=False)

    def hear(self, seen: Beats) -> None:
        """An agent lives: a collection for its job waits for it."""
        self._agents.pop(seen.source, None)
        while len(self._agents) >= _MOST_AGENTS:
            del self._agents[next(iter(self._agents))]
        self._agents[seen.source] = (seen.job, seen.at)

    def observe(self, seen: Dumps) -> Iterator[Finding]:
        """Take a part; the last one of the last agent that lives closes it."""
        if seen.order in self._judged:
            return
        one = self._open.get(seen.order)
        if one is None:
            one = self._open[seen.order] = _Collection(seen.job, seen.at)
        one.size += sum(len(dump.data) for dump in seen.dumps)
        if one.size <= _MOST_BYTES:
            one.dumps.extend(seen.dumps)
        if seen.complete and seen.source not in one.sources:
            one.sources.append(seen.source)
        if seen.complete and self._awaited(one) <= set(one.sources):
            yield self._close(seen.order, seen.at)
        elif len(self._open) > _MOST_OPEN:
            yield self._close(next(iter(self._open)), seen.at)

    def _awaited(self, one: _Collection) -> set[str]:
        return {source for source, (job, at) in self._agents.items() if job == one.job and one.first_at - at <= _ALIVE_S}

    def tick(self, now: float) -> Iterator[Finding]:
        """Judge what has waited long enough with what is there."""
        for order in [o for o, one in self._open.items() if now - one.first_at >= self.patience_s]:
            yield self._close(order, now)

    def _close(self, order: str, now: float) -> Finding:
        one = self._open.pop(order)
        self._judged[order] = now
        while len(self._judged) > _MOST_OPEN:
            del self._judged[next(iter(self._judged))]
        pile = Pile()
        for piece, content in read_all(map(_piece, one.dumps), processes=self.readers):
            pile.take(piece, content)
        placed = {dump.target.id: dump.target.node for dump in one.dumps if dump.target.kind is Kind.RANK}
        return finding_of(_on_nodes(judge(pile.case()), placed), order=order, job=one.job, at=now)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self._open, self._judged, self._agents))

    def restore(self, memory: bytes) -> None:
        form = tuple[dict[str, _Collection], dict[str, float], dict[str, tuple[str, float]]]
        self._open, self._judged, self._agents = msgspec.msgpack.decode(memory, type=form)


def _piece(dump: Dump) -> Piece:
    rank = int(dump.target.id) if dump.target.kind is Kind.RANK and dump.target.id.isdigit() else None
    return Piece(name=dump.name, rank=rank, data=dump.data, error=dump.error)


def _on_nodes(verdict: Verdict, placed: Mapping[str, str]) -> Verdict:
    """Say of each culprit on which node it is: the agents that sent the dumps know. placed: rank -> node."""
    culprits = (msgspec.structs.replace(c, node=placed.get(c.id, "")) for c in verdict.culprits)
    return msgspec.structs.replace(verdict, culprits=tuple(culprits))


def finding_of(verdict: Verdict, *, order: str, job: JobId, at: float) -> Finding:
    """A verdict as a finding of the job; the claim was right that it is still, so `healthy` is `undecided` here."""
    first = verdict.culprits[0] if verdict.culprits else None
    judgement = Judgement.UNDECIDED if verdict.verdict is Judgement.HEALTHY else verdict.verdict
    cause = first.cause if first else judgement.value
    target = rank_of(job, int(first.id), node=first.node) if first else job_of(job)
    return Finding(
        at=at, id=f"tracehang/{order}", job=job, target=target,
        perception=Perception.HANG, symptom=verdict.symptom, fault=verdict.fault, check=f"tracehang.{cause}", judgement=judgement,
        severity=Severity.ERROR, cause=cause, confidence=first.confidence if first else 0.5, culprits=verdict.culprits,
        evidence=verdict.evidence, action=verdict.action, detail={**verdict.detail, "order": order},
    )  # fmt: skip

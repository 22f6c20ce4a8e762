"""Gathers the answers to one collection and gives the verdict when all of it has come, or time is up."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from detectors.tracehang.ahead import Ahead, judged
from detectors.tracehang.devices import Device
from detectors.tracehang.pages import Pages
from detectors.tracehang.pieces import Piece, read_piece
from holdfast.events import Beats, Dump, Dumps, Finding
from holdfast.faults import Judgement, Perception, Severity
from holdfast.topology import JobId, Kind, job_of, rank_of
from holdfast.verdict import Verdict

_MOST_OPEN = 64
_MOST_BYTES = 1 << 30
_MOST_AGENTS = 65_536
# An agent that has said nothing for so long before a collection began is not waited for.
_ALIVE_S = 10.0
# Pages of machines come every half minute or sooner; an undecided verdict waits so much longer for one.
_PAGES_S = 30.0
# How long reading and judging beside the line may take before the line asks for the answer: twice what a slow core needs for it, and
# the start of a process. It is time of the line, so that a journal that is replayed says the same at the same place.
_START_S, _READ_S_PER_BYTE, _JUDGE_S_PER_DUMP = 1.0, 4e-8, 1e-3


class _Collection(msgspec.Struct):
    """What one order has brought so far. sources: the agents that have sent all they have.

    due_at: when it is to have been read and judged, inf while more of it may come; devices: what is known of them for that
    undecided: all is here and names nobody; the next pages of its nodes may; final: they are not waited for any more
    """

    job: JobId
    first_at: float
    dumps: list[Dump] = []
    sources: list[str] = []
    size: int = 0
    due_at: float = math.inf
    devices: dict[int, Device] = {}
    undecided: bool = False
    final: bool = False


@dataclass(kw_only=True)
class Evidence:
    """patience_s: how long after the first part of a collection the rest may take

    readers: processes that read what was sent, beside the line: the verdict is told when they have had time enough by its size
    0 reads it here, at once, where a large one holds up everything, and one that means harm for ever
    rests_at: since when what the machines of a job show is that it stands still; pages: what they last showed
    """

    patience_s: float
    readers: int = 0
    rests_at: Callable[[str], float] = lambda _: math.inf
    pages: Pages = field(default_factory=Pages, init=False)
    _open: dict[str, _Collection] = field(default_factory=dict, init=False)
    _judged: dict[str, float] = field(default_factory=dict, init=False)
    _agents: dict[str, tuple[str, float]] = field(default_factory=dict, init=False)
    _ahead: dict[str, Ahead] = field(default_factory=dict, init=False)  # no memory: all of it can be read again

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
        if one.due_at < math.inf:
            return  # it is being judged: who sends more now was not waited for
        if one.size <= _MOST_BYTES:
            one.dumps.extend(seen.dumps)
            if self.readers and seen.order in self._ahead:
                self._ahead[seen.order].add(map(_piece, seen.dumps))
            elif self.readers:
                self._read_ahead(seen.order, one)
        if seen.complete and seen.source not in one.sources:
            one.sources.append(seen.source)
        if seen.complete and self._awaited(one) <= set(one.sources):
            yield from self._ask(seen.order, seen.at)
        elif len(self._open) > _MOST_OPEN:
            oldest = next(iter(self._open))
            yield from self._ask(oldest, seen.at, final=True)
            yield from self._answer(oldest, seen.at) if oldest in self._open else ()

    def _awaited(self, one: _Collection) -> set[str]:
        return {source for source, (job, at) in self._agents.items() if job == one.job and one.first_at - at <= _ALIVE_S}

    def tick(self, now: float) -> Iterator[Finding]:
        """Judge what has waited long enough with what is there, and say what was found."""
        for order, one in list(self._open.items()):
            if one.due_at < math.inf:
                if now >= one.due_at:
                    yield from self._answer(order, now)
            elif one.undecided and self.rests_at(one.job) > now:
                self._end(order, now)  # it goes on by itself, or was started anew
            elif one.undecided:
                if self._devices(one) or now - one.first_at >= self.patience_s + _PAGES_S:
                    yield from self._ask(order, now, final=True)
            elif now - one.first_at >= self.patience_s:
                yield from self._ask(order, now)

    def _ask(self, order: str, now: float, *, final: bool = False) -> Iterator[Finding]:
        """Have what is there judged."""
        one = self._open[order]
        one.devices, one.final, one.due_at = self._devices(one), final, now
        if not self.readers:
            yield from self._answer(order, now)
            return
        one.due_at += _START_S + _JUDGE_S_PER_DUMP * len(one.dumps) + _READ_S_PER_BYTE * one.size / self.readers
        if order not in self._ahead:
            self._read_ahead(order, one)
        self._ahead[order].ask(one.devices)

    def _answer(self, order: str, now: float) -> Iterator[Finding]:
        """Say what was found. Where it names nobody and the machines have told nothing since, that is waited for, but once."""
        one = self._open[order]
        if not self.readers:
            verdict = judged(((piece, read_piece(piece)) for piece in map(_piece, one.dumps)), one.devices)
        else:
            if order not in self._ahead:  # the memory was given back meanwhile
                self._read_ahead(order, one)
                self._ahead[order].ask(one.devices)
            verdict = self._ahead[order].answer()
        if verdict.verdict is Judgement.UNDECIDED and not one.devices and not one.final and self.pages.told(one.job):
            one.undecided, one.due_at = True, math.inf
            return
        self._end(order, now)
        yield finding_of(_on_nodes(verdict, _placed(one)), order=order, job=one.job, at=now)

    def _read_ahead(self, order: str, one: _Collection) -> None:
        self._ahead[order] = Ahead(self.readers)
        self._ahead[order].add(map(_piece, one.dumps))

    def _end(self, order: str, now: float) -> None:
        del self._open[order]
        self._ahead.pop(order, None)
        self._judged[order] = now
        while len(self._judged) > _MOST_OPEN:
            del self._judged[next(iter(self._judged))]

    def _devices(self, one: _Collection) -> dict[int, Device]:
        return self.pages.devices(one.job, _placed(one), since=self.rests_at(one.job))

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self._open, self._judged, self._agents, self.pages.memory()))

    def restore(self, memory: bytes) -> None:
        form = tuple[dict[str, _Collection], dict[str, float], dict[str, tuple[str, float]], bytes]
        self._open, self._judged, self._agents, pages = msgspec.msgpack.decode(memory, type=form)
        self.pages.remember(pages)
        for one in self._ahead.values():
            one.stop()
        self._ahead = {}


def _piece(dump: Dump) -> Piece:
    rank = int(dump.target.id) if dump.target.kind is Kind.RANK and dump.target.id.isdigit() else None
    return Piece(name=dump.name, rank=rank, data=dump.data, error=dump.error)


def _placed(one: _Collection) -> dict[str, str]:
    """Rank -> its node: the agents that sent the dumps know."""
    return {dump.target.id: dump.target.node for dump in one.dumps if dump.target.kind is Kind.RANK}


def _on_nodes(verdict: Verdict, placed: Mapping[str, str]) -> Verdict:
    """Say of each culprit on which node it is. placed: rank -> node."""
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

"""Blames the ranks at the end of the walk by what their waiters miss, their stacks and their process states."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from detectors.tracehang import words
from detectors.tracehang.case import Case
from detectors.tracehang.order import habit
from detectors.tracehang.waits import Edge, Graph, Why
from holdfast.faults import HangCause

_SYNCHRONOUS = {Why.HOST_NO_RECV: HangCause.MISSING_RECV, Why.HOST_NO_SEND: HangCause.MISSING_SEND}
_ENQUEUED = {Why.NO_RECV: HangCause.MISSING_RECV, Why.NO_SEND: HangCause.MISSING_SEND}
_SEES_STACK, _SEES_DUMP, _SEES_NOTHING = 0.95, 0.85, 0.6


@dataclass(kw_only=False)
class Blame:
    """A rank, why, how sure, and the sentences that show it. group, seq, op: the collective its peers miss it in."""

    rank: int
    cause: HangCause
    confidence: float
    evidence: list[str] = field(default_factory=list)
    group: str = ""
    seq: int = -1
    op: str = ""


def host_blames(case: Case, graph: Graph, ends: Sequence[int]) -> list[Blame]:
    """The ranks among `ends` whose host holds up the others."""
    return [blame for rank in ends for blame in _blame(case, graph, rank)]


def _blame(case: Case, graph: Graph, rank: int) -> Iterator[Blame]:
    if case.pending(rank) is not None:
        return  # it is in an operation itself and waits for nobody: its device's matter
    edges = graph.into(rank)
    cause = _cause(case, rank, edges)
    if cause is None:
        return
    edge = _telling(edges)
    at_work = rank in case.stacks and not case.stacks[rank].waits
    sure = _SEES_NOTHING if cause is HangCause.NO_DUMP else _SEES_STACK if at_work else _SEES_DUMP
    if all(e.why is Why.NOT_THERE for e in edges):
        sure = 0.75  # by stacks alone: no number says what it has missed
    lines = [words.missed(case, edge), *words.stack_lines(case, rank), *words.silence(case, rank)]
    yield Blame(rank, cause, sure, lines, edge.group, edge.seq, edge.op)


def _cause(case: Case, rank: int, edges: Sequence[Edge]) -> HangCause | None:
    whys = {edge.why for edge in edges}
    for why, cause in _SYNCHRONOUS.items():
        # a host that blocks in a transfer shows what comes next for its peer, whatever else is waited for behind it
        if why in whys:
            return cause
    transfers = [edge for edge in edges if edge.why in _ENQUEUED]
    if transfers and (Why.NOT_ENQUEUED not in whys or _next_is_transfer(case, rank)):
        return _ENQUEUED[transfers[0].why]
    if whys & {Why.NOT_ENQUEUED, Why.NOT_THERE}:
        return HangCause.HOST_STUCK
    if Why.ABSENT in whys:
        return HangCause.HOST_STUCK if _lives(case, rank) else HangCause.NO_DUMP
    return None


def _next_is_transfer(case: Case, rank: int) -> bool:
    recording = case.recordings.get(rank)
    usual = habit(list(recording.ring)) if recording else None
    return usual is not None and usual.p2p


def _lives(case: Case, rank: int) -> bool:
    """Whether something beside the dump shows the rank alive: its stack, or a kernel that says so while it does not answer."""
    process = case.processes.get(rank)
    about = case.about.get(rank)
    return (
        rank in case.stacks
        or (process is not None and process.state not in ("X", "Z", ""))
        or (about is not None and not about.answered)
    )


def _telling(edges: Sequence[Edge]) -> Edge:
    """The edge a person would be shown: a transfer first, then the collective most ranks wait in, the lowest number first."""
    counts: dict[tuple[str, int], int] = {}
    for edge in edges:
        counts[edge.group, edge.seq] = counts.get((edge.group, edge.seq), 0) + 1
    return min(edges, key=lambda e: (e.why not in _SYNCHRONOUS, -counts[e.group, e.seq], e.seq, e.waiter))

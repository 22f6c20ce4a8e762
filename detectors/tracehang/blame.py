"""Blames the ranks at the end of the walk by what their waiters miss, their stacks and their process states."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from detectors.tracehang import words
from detectors.tracehang.case import Case
from detectors.tracehang.roles import strayed
from detectors.tracehang.waits import UNKNOWN, Edge, Graph, Why
from holdfast.faults import HangCause

_SYNCHRONOUS = {Why.HOST_NO_RECV: HangCause.MISSING_RECV, Why.HOST_NO_SEND: HangCause.MISSING_SEND}
MISSING = {Why.NO_RECV: HangCause.MISSING_RECV, Why.NO_SEND: HangCause.MISSING_SEND} | _SYNCHRONOUS
MISSED = {True: HangCause.MISSING_SEND, False: HangCause.MISSING_RECV}
_SEES_STACK, _SEES_DUMP, _SEES_NOTHING, _STANDS = 0.95, 0.85, 0.6, 0.5


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
        # it is in an operation itself and waits for nobody: its device's matter, unless it has left out what a peer waits in
        left = [edge for edge in graph.into(rank) if edge.why in (Why.NO_RECV, Why.NO_SEND)]
        gone = strayed(case, rank) if left else None
        if gone is not None:
            lines = [words.missed(case, left[0]), words.strayed(case, gone)]
            yield Blame(rank, MISSING[left[0].why], _SEES_DUMP, lines, left[0].group, left[0].seq, left[0].op)
        return
    edges = graph.into(rank)
    if not edges:
        return
    cause, extra = _cause(case, rank, edges)
    edge = _telling(edges)
    sure = _SEES_STACK if case.busy(rank) else _SEES_DUMP
    if cause is HangCause.NO_DUMP:
        sure = _STANDS if case.stands(rank) else _SEES_NOTHING
    elif all(e.why is Why.NOT_THERE for e in edges) or cause is HangCause.DEVICE_STUCK:
        sure = 0.75  # by stacks alone: no number says what it has missed
    lines = [words.missed(case, edge), *extra, *words.stack_lines(case, rank), *words.silence(case, rank)]
    yield Blame(rank, cause, sure, lines, edge.group, edge.seq, edge.op)


def _cause(case: Case, rank: int, edges: Sequence[Edge]) -> tuple[HangCause, list[str]]:
    """Why a rank is waited for that is in no operation itself, and what shows it beside that."""
    whys = {edge.why for edge in edges}
    transfers = [edge for edge in edges if edge.why in MISSING]
    said_so = next((edge for edge in transfers if edge.why in _SYNCHRONOUS), None)
    if said_so is not None:
        # a host that blocks in a transfer shows what comes next for its peer, whatever else is waited for behind it
        return MISSING[said_so.why], []
    if case.busy(rank):
        return HangCause.HOST_STUCK, []
    if transfers:
        gone = strayed(case, rank)
        if gone is not None:
            return MISSING[transfers[0].why], [words.strayed(case, gone)]
        if whys <= set(MISSING) and not any(_has_before(case, rank, edge) for edge in transfers):
            return MISSING[transfers[0].why], []
    if case.stands(rank) and whys <= {Why.NOT_ENQUEUED, Why.NO_RECV, Why.NO_SEND}:
        return HangCause.DEVICE_STUCK, ["its host waits for its own device, with no operation of it under way"]
    if whys <= set(UNKNOWN) and rank not in case.recordings and (Why.UNSEEN in whys or not _lives(case, rank)):
        return HangCause.NO_DUMP, []
    return HangCause.HOST_STUCK, []


def _has_before(case: Case, rank: int, edge: Edge) -> bool:
    """Whether a rank may have made such transfers before: it is late then, not without them."""
    recording = case.recordings.get(rank)
    if recording is None or recording.lost or not recording.entries:
        return True
    return any(sends is (edge.why is Why.NO_SEND) for _, sends, *_ in recording.ring.transfers_of(edge.group))


def _lives(case: Case, rank: int) -> bool:
    """Whether something shows that a rank lives and yet does not answer: its side thread's silence, or a kernel that holds it."""
    process = case.processes.get(rank)
    about = case.about.get(rank)
    silent = about is not None and not about.answered and (process is None or process.state not in ("X", "Z"))
    return silent or (process is not None and process.state not in ("X", "Z") and case.sleeps_alone(rank))


def _telling(edges: Sequence[Edge]) -> Edge:
    """The edge a person would be shown: a transfer first, then the collective most ranks wait in, the lowest number first."""
    counts: dict[tuple[str, int], int] = {}
    for edge in edges:
        counts[edge.group, edge.seq] = counts.get((edge.group, edge.seq), 0) + 1
    return min(edges, key=lambda e: (e.why not in _SYNCHRONOUS, -counts[e.group, e.seq], e.seq, e.waiter))

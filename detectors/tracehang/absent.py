"""Which ranks of whom no dump is there are needed to explain a hang: most of them stand where their like stand."""

from collections.abc import Iterator, Sequence

from detectors.tracehang.case import Case
from detectors.tracehang.waits import Edge, Front, Graph, Why


def suspects(case: Case, graph: Graph, ends: Sequence[int]) -> dict[int, list[Edge]]:
    """The absent ranks among `ends` that nothing excuses, with the waits that only they explain.

    A rank without a dump is excused where another of its kind keeps an alike waiter waiting for a reason that is known, or where it
    may stand in an operation that waits for somebody else. Of several that could explain one wait those are kept that alone explain
    another.
    """
    found: dict[int, list[Edge]] = {}
    for rank in ends:
        if rank in case.recordings:
            continue
        edges = [e for e in needed(graph, rank) if not _alike(case, graph, rank, e) and not _elsewhere(case, graph, rank, e)]
        if edges:
            found[rank] = edges
    alone = {rank: sole for rank, edges in found.items() if (sole := [e for e in edges if _only(graph, rank, e)])}
    return alone or found


def needed(graph: Graph, rank: int) -> Iterator[Edge]:
    """The waits for an absent rank that no known rank explains."""
    for edge in graph.into(rank):
        front = graph.fronts.get((edge.group, edge.seq))
        if edge.why is not Why.ABSENT or front is None or front.explained is False:
            yield edge


def _only(graph: Graph, rank: int, edge: Edge) -> bool:
    """Whether nobody else keeps the waiter of an edge there."""
    front = graph.fronts.get((edge.group, edge.seq))
    return front is None or front.waited.get(Why.ABSENT, []) == [rank]


def _alike(case: Case, graph: Graph, rank: int, edge: Edge) -> bool:
    """Whether, in another group of the same kind, the one in the rank's place keeps its waiter waiting too, for a known reason."""
    members = case.members.get(edge.group, ())
    if rank not in members or edge.waiter not in members:
        return False
    place, waiter = members.index(rank), members.index(edge.waiter)
    for group in case.kind_of(edge.group):
        others = case.members[group]
        if group == edge.group or len(others) != len(members) or others[place] not in case.recordings:
            continue
        if any(e.other == others[place] and e.why is not Why.ABSENT and e.seq == edge.seq for e in graph.edges(others[waiter])):
            return True
    return False


def _elsewhere(case: Case, graph: Graph, rank: int, edge: Edge) -> bool:
    """Whether the rank may stand in an operation that waits for a known rank, and come to the edge's operation only after it.

    A waiter of the same group runs the same program: what it has finished of that kind comes before where it stands.
    """
    for front in graph.fronts.values():
        if not front.explained or rank not in front.waited.get(Why.ABSENT, ()):
            continue
        if edge.waiter not in case.members.get(edge.group, ()) or edge.op.endswith(_ONE_SIDED):
            return True
        own = case.own_of_kind(edge.waiter, front.group)
        if own is None or case.is_done(edge.waiter, own, front.seq):
            return True
    return False


_ONE_SIDED = tuple("0123456789")  # "recv 0<-1": the other side runs another part of the program

"""Which ranks of whom no dump is there are needed to explain a hang: most of them stand where their like stand."""

from collections.abc import Iterator

from detectors.tracehang.case import Case
from detectors.tracehang.waits import UNKNOWN, Edge, Graph, Why, sinks


def excuse(case: Case, graph: Graph) -> None:
    """Note in the graph which ranks without a dump need not be to blame.

    Such a rank is excused where another of its kind keeps an alike waiter waiting for a reason that is known, or where it may stand in
    an operation that waits for somebody else. Of several that could explain one wait those are left that alone explain another, and
    one that is seen to stand in something only where there is no other.
    """
    found: dict[int, list[Edge]] = {}
    for rank in sinks(graph, graph.waiters):
        if rank in case.recordings:
            continue
        left: list[Edge] = []
        fronts: dict[tuple[str, int], None] = {}
        for edge in needed(graph, rank):
            if not _alike(case, graph, rank, edge):
                fronts |= dict.fromkeys(standing(case, graph, rank, edge))
                left += [] if standing(case, graph, rank, edge) else [edge]
        if left:
            found[rank] = left
        else:
            graph.excused[rank] = list(fronts)
    # where one that is excused keeps them waiting nobody else need be the reason
    found = {rank: left for rank, edges in found.items() if (left := [e for e in edges if not _excused(graph, e)])}
    graph.excused |= {rank: [] for rank in sinks(graph, graph.waiters) if rank not in case.recordings and rank not in found}
    seen = {rank for rank, edges in found.items() if any(e.why is not Why.UNSEEN for e in edges)} or set(found)
    alone = {rank for rank in seen if any(_only(graph, rank, e) for e in found[rank])} or seen
    graph.excused |= {rank: [] for rank in found if rank not in alone}


def needed(graph: Graph, rank: int) -> Iterator[Edge]:
    """The waits for an absent rank that no known rank explains."""
    for edge in graph.into(rank):
        front = graph.fronts.get((edge.group, edge.seq))
        if edge.why not in UNKNOWN or front is None or front.explained is False:
            yield edge


def _excused(graph: Graph, edge: Edge) -> bool:
    front = graph.fronts.get((edge.group, edge.seq))
    return front is not None and any(other in graph.excused for why in UNKNOWN for other in front.waited.get(why, ()))


def _only(graph: Graph, rank: int, edge: Edge) -> bool:
    """Whether nobody else keeps the waiter of an edge there."""
    front = graph.fronts.get((edge.group, edge.seq))
    return front is None or [o for why in UNKNOWN for o in front.waited.get(why, ())] == [rank]


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
        if any(e.other == others[place] and e.why not in UNKNOWN and e.seq == edge.seq for e in graph.edges(others[waiter])):
            return True
    return False


def standing(case: Case, graph: Graph, rank: int, edge: Edge) -> list[tuple[str, int]]:
    """The operations that wait for a known rank in which this one may stand, to come to the edge's operation only after them.

    A waiter of the same group runs the same program: what it has finished of that kind comes before where it stands.
    """
    found = []
    for key, front in graph.fronts.items():
        if not front.explained or not any(rank in front.waited.get(why, ()) for why in UNKNOWN):
            continue
        if edge.waiter in case.members.get(edge.group, ()) and not edge.op.endswith(_ONE_SIDED):
            own = case.own_of_kind(edge.waiter, front.group)
            if own is not None and not case.is_done(edge.waiter, own, front.seq):
                continue
        found.append(key)
    return found


_ONE_SIDED = tuple("0123456789")  # "recv 0<-1": the other side runs another part of the program

"""Who waits for whom: the wait-for graph of a hang, and the walk to those who wait for nobody."""

from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

from detectors.tracehang.case import Case
from detectors.tracehang.flightrecorder import Op
from detectors.tracehang.stacks import Doing

# A rank that has finished its part of any other operation may go on while its peers have not.
_SYNCHRONISES = (
    "all_reduce",
    "allreduce",
    "all_gather",
    "allgather",
    "reduce_scatter",
    "all_to_all",
    "alltoall",
    "barrier",
)


_MOST_BEHIND = 256


class Why(StrEnum):
    """What a rank misses of another."""

    NOT_ENQUEUED = "not_enqueued"  # the other never entered a collective that this one is in
    BEHIND = "behind"  # the other has entered it, but stands before it in an earlier operation
    NO_RECV = "no_recv"  # this one sends, the other has not posted its receive
    NO_SEND = "no_send"
    HOST_NO_RECV = "host_no_recv"  # the same, seen in the stack of a host that blocks there
    HOST_NO_SEND = "host_no_send"
    ABSENT = "absent"  # nothing is known of the other
    NOT_THERE = "not_there"  # by stacks alone: this one waits in a communication, the other is in none


class Edge(msgspec.Struct, frozen=True):
    """`waiter` waits for `other`."""

    waiter: int
    other: int
    why: Why
    group: str = ""
    seq: int = -1
    op: str = ""


class Front(msgspec.Struct):
    """A collective that somebody waits in. waited: members by what is missed of them; passed: a member has completed it."""

    waited: dict[Why, list[int]]
    passed: bool = False


class Graph(msgspec.Struct):
    """edges: by waiter; ahead: ranks that have a synchronising operation pending which a peer has completed.

    fronts: what has been worked out of each (group, number)
    """

    edges: dict[int, list[Edge]]
    ahead: dict[int, Op]
    fronts: dict[tuple[str, int], Front] = {}

    def into(self, rank: int) -> list[Edge]:
        """The edges of those who wait for a rank."""
        return [edge for edges in self.edges.values() for edge in edges if edge.other == rank]


def build(case: Case) -> Graph:
    """Every rank's first pending operation, or the communication its stack shows, and whom that waits for."""
    graph = Graph({}, {})
    for rank in case.seen:
        ops = case.waiting(rank)
        edges = list(_op_edges(case, graph, rank, ops[0]) if ops else _stack_edges(case, rank))
        if ops and not edges and rank not in graph.ahead:
            # what stands behind the first operation waits for that; only where it waits for nobody may they be on streams
            # of their own
            others = (edge for op in ops[1:] for edge in _op_edges(case, graph, rank, op))
            edges = [edge for edge in others if edge.why is Why.NOT_ENQUEUED]
        if edges:
            graph.edges[rank] = edges
    return graph


def sinks(graph: Graph, starts: Iterable[int]) -> list[int]:
    """The ranks reached from `starts` that wait for nobody."""
    seen: set[int] = set()
    line = list(starts)
    found = set()
    while line:
        rank = line.pop()
        if rank in seen:
            continue
        seen.add(rank)
        edges = graph.edges.get(rank)
        if edges:
            line.extend(edge.other for edge in edges)
        else:
            found.add(rank)
    return sorted(found)


def cycles(graph: Graph) -> list[list[int]]:
    """Sets of ranks that wait for each other and reach nobody outside (Tarjan's strongly connected components)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    on_stack: set[int] = set()
    stack: list[int] = []
    found: list[list[int]] = []
    for root in sorted(graph.edges):
        if root in index:
            continue
        work = [(root, iter(_others(graph, root)))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            rank, others = work[-1]
            for other in others:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(_others(graph, other))))
                    break
                if other in on_stack:
                    low[rank] = min(low[rank], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[rank])
                if low[rank] == index[rank]:
                    found.append(_component(stack, on_stack, rank))
    closed = [c for c in found if len(c) > 1 and all(o in c for r in c for o in _others(graph, r))]
    return [sorted(c) for c in closed]


def _component(stack: list[int], on_stack: set[int], rank: int) -> list[int]:
    component = []
    while True:
        top = stack.pop()
        on_stack.discard(top)
        component.append(top)
        if top == rank:
            return component


def _others(graph: Graph, rank: int) -> list[int]:
    return sorted({edge.other for edge in graph.edges.get(rank, ())})


def _op_edges(case: Case, graph: Graph, rank: int, op: Op) -> Iterator[Edge]:
    return _p2p_edges(case, rank, op) if op.p2p else _collective_edges(case, graph, rank, op)


def _collective_edges(case: Case, graph: Graph, rank: int, op: Op) -> Iterator[Edge]:
    front = graph.fronts.get((op.group, op.seq))
    if front is None:
        front = graph.fronts[op.group, op.seq] = _front(case, op)
    for why, others in front.waited.items():
        for other in others:
            if other != rank:
                yield Edge(rank, other, why, op.group, op.seq, op.name)
    if front.passed and any(word in op.name for word in _SYNCHRONISES):
        graph.ahead[rank] = op


def _front(case: Case, op: Op) -> Front:
    """Where the members of a collective's group stand to it; asked once for all that wait in it."""
    front = Front({Why.ABSENT: [], Why.NOT_ENQUEUED: [], Why.BEHIND: []})
    for member in case.members.get(op.group, ()):
        reached = case.enqueued(member, op.group)
        if reached is None:
            stack = case.stacks.get(member)
            if stack is None or stack.doing not in (Doing.COLLECTIVE, Doing.BARRIER):
                front.waited[Why.ABSENT].append(member)
        elif reached < op.seq:
            front.waited[Why.NOT_ENQUEUED].append(member)
        elif case.is_done(member, op.group, op.seq):
            front.passed = True
        else:
            first = case.pending(member)
            if first is not None and (first.group, first.seq) != (op.group, op.seq):
                front.waited[Why.BEHIND].append(member)
    # those who stand before it lead on to one cause; a few of them are as good as thousands
    del front.waited[Why.BEHIND][_MOST_BEHIND:]
    return front


def _p2p_edges(case: Case, rank: int, op: Op) -> Iterator[Edge]:
    members = case.members.get(op.group, ())
    if op.peer >= len(members) or rank not in members:
        return
    other, mine = members[op.peer], members.index(rank)
    recording = case.recordings.get(other)
    if recording is None:
        yield Edge(rank, other, Why.ABSENT, op.group, op.seq, op.name)
        return
    matching = [
        o for o in recording.ops if o.group == op.group and o.p2p and o.peer == mine and o.sends is not op.sends
    ]
    waiting = [o for o in matching if not o.done]
    if not waiting:
        yield Edge(rank, other, Why.NO_RECV if op.sends else Why.NO_SEND, op.group, op.seq, op.name)
    elif case.pending(other) not in waiting:
        yield Edge(rank, other, Why.BEHIND, op.group, op.seq, op.name)


def _stack_edges(case: Case, rank: int) -> Iterator[Edge]:
    """Where the recorder holds nothing of it: gloo records no send and no receive, other libraries nothing at all."""
    stack = case.stacks.get(rank)
    if stack is None or not stack.waits:
        return
    if stack.doing in (Doing.SEND, Doing.RECV):
        why = Why.HOST_NO_RECV if stack.doing is Doing.SEND else Why.HOST_NO_SEND
        peer = _peer(case, rank)
        if peer is not None:
            if not _meets(case, rank, peer):
                yield Edge(rank, peer, why, op=stack.doing.value)
            return
        for other in _idle(case, rank):
            yield Edge(rank, other, why, op=stack.doing.value)
        return
    for other in _idle(case, rank):
        yield Edge(rank, other, Why.NOT_THERE, op=stack.doing.value)


def _peer(case: Case, rank: int) -> int | None:
    """The other side of a send or receive: as the rank itself says, else its partner in its only pair of another stage."""
    about = case.about.get(rank)
    said = about.waiting.get("peer") if about else None
    return said if isinstance(said, int) and said in case.expected else None


def _meets(case: Case, rank: int, peer: int) -> bool:
    """Whether two ranks stand in the two ends of one transfer."""
    mine, theirs = case.stacks.get(rank), case.stacks.get(peer)
    if mine is None or theirs is None:
        return False
    return {mine.doing, theirs.doing} == {Doing.SEND, Doing.RECV} and _peer(case, peer) == rank


def _idle(case: Case, rank: int) -> list[int]:
    """Ranks known to be in no communication."""
    return [
        other
        for other in case.expected
        if other != rank and case.pending(other) is None and (other in case.stacks or other in case.processes)
        and not (other in case.stacks and case.stacks[other].waits)
    ]  # fmt: skip

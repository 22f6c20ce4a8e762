"""Who waits for whom: the wait-for graph of a hang, and the walk to those who wait for nobody."""

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

import msgspec

from detectors.tracehang.case import Case
from detectors.tracehang.ring import Op
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

# Of those who wait in one collective so many are shown one by one.
_MOST_WAITERS = 256


class Why(StrEnum):
    """What a rank misses of another."""

    NOT_ENQUEUED = "not_enqueued"  # the other never entered a collective that this one is in
    BEHIND = "behind"  # the other has entered it, but stands before it in an earlier operation
    NO_RECV = "no_recv"  # this one sends, the other has not posted its receive
    NO_SEND = "no_send"
    HOST_NO_RECV = "host_no_recv"  # the same, seen in the stack of a host that blocks there
    HOST_NO_SEND = "host_no_send"
    ABSENT = "absent"  # nothing is known of the other
    UNSEEN = "unseen"  # it has no dump, but its host is seen to stand in something
    NOT_THERE = "not_there"  # by stacks alone: this one waits in a communication, the other is in none


# What is missed of ranks without a dump; a known reason makes these needless.
UNKNOWN = (Why.ABSENT, Why.UNSEEN)


class Edge(msgspec.Struct, frozen=True):
    """`waiter` waits for `other`."""

    waiter: int
    other: int
    why: Why
    group: str = ""
    seq: int = -1
    op: str = ""


class Front(msgspec.Struct):
    """A collective that somebody waits in.

    waiters: who does; waited: the members of its group by what is missed of them; passed: a member has completed it
    """

    group: str
    seq: int
    op: str
    waited: dict[Why, list[int]]
    waiters: list[int] = []
    passed: bool = False

    @property
    def explained(self) -> bool:
        """Whether a known rank is missed in it: those of whom nothing is known need not be the reason then."""
        return bool(self.waited.get(Why.NOT_ENQUEUED) or self.waited.get(Why.BEHIND))

    def edges(self, waiter: int) -> Iterator[Edge]:
        return (Edge(waiter, o, why, self.group, self.seq, self.op) for why, others in self.waited.items() for o in others if o != waiter)


class Graph:
    """Who waits for whom. Those that wait in one collective share it: a thousand ranks that wait for a hundred are one front.

    pairs: edges by waiter, of transfers and stacks; fronts: by group and number; waits: rank -> the fronts that it waits in
    ahead: ranks that have a synchronising operation pending which a peer has completed
    excused: ranks of whom nothing is known and that explain nothing -> the fronts in which they may stand
    """

    def __init__(self) -> None:
        self.excused: dict[int, list[tuple[str, int]]] = {}
        self.pairs: dict[int, list[Edge]] = {}
        self.fronts: dict[tuple[str, int], Front] = {}
        self.waits: dict[int, list[Front]] = {}
        self.ahead: dict[int, Op] = {}
        self._into: dict[int, list[Edge | Front]] | None = None

    @property
    def waiters(self) -> list[int]:
        """Ranks that wait for another."""
        return sorted({*self.pairs, *self.waits})

    def edges(self, rank: int) -> Iterator[Edge]:
        """For whom a rank waits, and why."""
        yield from self.pairs.get(rank, ())
        for front in self.waits.get(rank, ()):
            yield from front.edges(rank)

    def into(self, rank: int) -> list[Edge]:
        """The edges of those who wait for a rank; of those in one collective the first few hundred."""
        if self._into is None:
            self._into = self._reversed()
        found: list[Edge] = []
        for one in self._into.get(rank, ()):
            if isinstance(one, Edge):
                found.append(one)
            else:
                why = next(why for why, others in one.waited.items() if rank in others)
                found += [Edge(w, rank, why, one.group, one.seq, one.op) for w in one.waiters[:_MOST_WAITERS] if w != rank]
        return found

    def _reversed(self) -> dict[int, list[Edge | Front]]:
        found: dict[int, list[Edge | Front]] = {}
        for edges in self.pairs.values():
            for edge in edges:
                found.setdefault(edge.other, []).append(edge)
        for front in self.fronts.values():
            for others in front.waited.values() if front.waiters else ():
                for other in others:
                    found.setdefault(other, []).append(front)
        return found

    def nexts(self, node: "Node") -> list["Node"]:
        """Where the walk goes from a rank or from a front."""
        if isinstance(node, int):
            if node in self.excused:
                return list(self.excused[node])
            others = {edge.other for edge in self.pairs.get(node, ())}
            return [*sorted(others), *((front.group, front.seq) for front in self.waits.get(node, ()))]
        front = self.fronts[node]
        known = [o for why, others in front.waited.items() if why not in UNKNOWN for o in others]
        return known or [o for why in UNKNOWN for o in front.waited.get(why, ())]  # type: ignore[return-value]


Node = int | tuple[str, int]


def build(case: Case) -> Graph:
    """Every rank's first pending operation, or the communication its stack shows, and whom that waits for."""
    graph = Graph()
    idle: list[int] | None = None
    for rank in case.seen:
        ops = case.waiting(rank)
        if ops:
            _wait_in(case, graph, rank, ops)
        elif rank in case.stacks and case.stacks[rank].waits:
            idle = _idle(case) if idle is None else idle
            if edges := list(_stack_edges(case, rank, idle)):
                graph.pairs[rank] = edges
    return graph


def _wait_in(case: Case, graph: Graph, rank: int, ops: Sequence[Op]) -> None:
    """Note what a rank with pending operations waits for.

    What stands behind the first operation waits for that; only where it waits for nobody may they be on streams of their own.
    The transfers of one coalesced launch are under way together.
    """
    first = ops[0]
    if first.p2p:
        together = [op for op in ops if op.p2p and op.batch == first.batch] if first.batch >= 0 else [first]
        if pairs := [edge for op in together for edge in _p2p_edges(case, rank, op)]:
            graph.pairs[rank] = pairs
            return
    elif _enter(graph, _front(case, graph, first), rank, first):
        return
    if rank in graph.ahead:
        return
    for op in ops[1:]:
        if not op.p2p:
            front = _front(case, graph, op)
            missed = front.waited.get(Why.NOT_ENQUEUED, [])
            graph.pairs.setdefault(rank, []).extend(Edge(rank, o, Why.NOT_ENQUEUED, op.group, op.seq, op.name) for o in missed)
    if not graph.pairs.get(rank):
        graph.pairs.pop(rank, None)


def _enter(graph: Graph, front: Front, rank: int, op: Op) -> bool:
    """Let a rank wait in a collective; whether it waits for anybody there."""
    front.waiters.append(rank)
    if front.passed and synchronises(op.name):
        graph.ahead[rank] = op
    if not any(front.waited.values()):
        return False
    graph.waits.setdefault(rank, []).append(front)
    return True


def synchronises(name: str) -> bool:
    """Whether an operation of this name ends on no rank before all have entered it."""
    return any(word in name for word in _SYNCHRONISES)


def sinks(graph: Graph, starts: Iterable[int]) -> list[int]:
    """The ranks reached from `starts` that wait for nobody."""
    line: list[Node] = list(starts)
    seen: set[Node] = set()
    found: set[int] = set()
    while line:
        node = line.pop()
        if node in seen:
            continue
        seen.add(node)
        nexts = graph.nexts(node)
        line.extend(nexts)
        if not nexts and isinstance(node, int) and node not in graph.excused:
            found.add(node)
    return sorted(found)


def cycles(graph: Graph) -> list[list[int]]:
    """Sets of ranks that wait for each other and reach nobody outside (Tarjan's strongly connected components)."""
    index: dict[Node, int] = {}
    low: dict[Node, int] = {}
    on_stack: set[Node] = set()
    stack: list[Node] = []
    found: list[list[Node]] = []
    for root in graph.waiters:
        if root in index:
            continue
        work: list[tuple[Node, Iterator[Node]]] = [(root, iter(graph.nexts(root)))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, nexts = work[-1]
            for other in nexts:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(graph.nexts(other))))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    found.append(_component(stack, on_stack, node))
    blank = _blank(graph)
    rings = (sorted(n for n in one if isinstance(n, int)) for one in found if len(one) > 1 and _closed(graph, one, blank))
    return [ring for ring in rings if len(ring) > 1]


def _closed(graph: Graph, component: Sequence[Node], blank: set[Node]) -> bool:
    inside = blank.union(component)
    return all(other in inside for node in component for other in graph.nexts(node))


def _blank(graph: Graph) -> set[Node]:
    """Ranks and fronts that lead to excused ranks alone: they explain nothing and are no way out of a ring."""
    nodes: list[Node] = [*graph.waiters, *graph.fronts]
    blank: set[Node] = {rank for rank, fronts in graph.excused.items() if not fronts}
    grown = bool(blank)
    while grown:
        new = {n for n in nodes if n not in blank and (nexts := graph.nexts(n)) and all(o in blank for o in nexts)}
        blank |= new
        grown = bool(new)
    return blank


def _component(stack: list[Node], on_stack: set[Node], root: Node) -> list[Node]:
    component = []
    while True:
        top = stack.pop()
        on_stack.discard(top)
        component.append(top)
        if top == root:
            return component


def _front(case: Case, graph: Graph, op: Op) -> Front:
    """Where the members of a collective's group stand to it; asked once for all that wait in it."""
    front = graph.fronts.get((op.group, op.seq))
    if front is not None:
        return front
    front = Front(op.group, op.seq, op.name, {why: [] for why in (Why.ABSENT, Why.NOT_ENQUEUED, Why.BEHIND, Why.UNSEEN)})
    for member in case.members.get(op.group, ()):
        reached = case.enqueued(member, op.group)
        if reached is None:
            front.waited[Why.UNSEEN if case.stands(member) else Why.ABSENT].append(member)
        elif reached < op.seq:
            front.waited[Why.NOT_ENQUEUED].append(member)
        elif case.is_done(member, op.group, op.seq):
            front.passed = True
        else:
            first = case.pending(member)
            if first is not None and (first.group, first.seq) != (op.group, op.seq):
                front.waited[Why.BEHIND].append(member)
    graph.fronts[op.group, op.seq] = front
    return front


def _p2p_edges(case: Case, rank: int, op: Op) -> Iterator[Edge]:
    members = case.members.get(op.group, ())
    if op.peer >= len(members) or rank not in members:
        return
    other, mine = members[op.peer], members.index(rank)
    recording = case.recordings.get(other)
    if recording is None:
        yield Edge(rank, other, Why.UNSEEN if case.stands(other) else Why.ABSENT, op.group, op.seq, op.name)
        return
    waiting = recording.ring.transfers(op.group, mine, sends=not op.sends)
    if not waiting:
        yield Edge(rank, other, Why.NO_RECV if op.sends else Why.NO_SEND, op.group, op.seq, op.name)
    elif (first := case.pending(other)) not in waiting and (first is None or first.batch < 0 or first.batch != waiting[0].batch):
        yield Edge(rank, other, Why.BEHIND, op.group, op.seq, op.name)


def _stack_edges(case: Case, rank: int, idle: Sequence[int]) -> Iterator[Edge]:
    """Where the recorder holds nothing of it: gloo records no send and no receive, other libraries nothing at all."""
    stack = case.stacks[rank]
    transfers = stack.doing in (Doing.SEND, Doing.RECV)
    missing = Why.HOST_NO_RECV if stack.doing is Doing.SEND else Why.HOST_NO_SEND
    peer = _peer(case, rank) if transfers else None
    if peer is None:
        # its dump is there and does not hold the transfer: whoever is idle misses it; without a dump nothing is known of it
        why = missing if transfers and rank in case.recordings else Why.NOT_THERE
        yield from (Edge(rank, other, why, op=stack.doing.value) for other in idle if other != rank)
    elif not _meets(case, rank, peer):
        yield Edge(rank, peer, missing, op=stack.doing.value)


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


def _idle(case: Case) -> list[int]:
    """Ranks known to be in no communication: by their stacks, or by the kernel where nobody could look at those."""
    return [
        rank
        for rank in case.expected
        if case.pending(rank) is None and (case.busy(rank) or (rank not in case.stacks and _held(case, rank)))
    ]


def _held(case: Case, rank: int) -> bool:
    process = case.processes.get(rank)
    return process is not None and process.state in ("D", "T", "t", "Z", "X")

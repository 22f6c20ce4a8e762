"""What a hang's evidence says, in sentences and in the tables of the verdict's detail."""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from detectors.tracehang.case import Case
from detectors.tracehang.stacks import PHASES, Doing, Stack
from detectors.tracehang.waits import Edge, Graph, Why
from holdfast.faults import Fault, HangCause
from holdfast.verdict import Json

if TYPE_CHECKING:
    from detectors.tracehang.blame import Blame
    from detectors.tracehang.roles import Strayed

_MOST_GROUPS = 200
_MOST_EDGES = 400
_MOST_OTHERS = 64
_MOST_CHAIN = 12

_STATES = {
    "T": "stopped by a signal", "t": "stopped by a tracer", "D": "in uninterruptible sleep", "Z": "a zombie", "X": "gone",
    "R": "running", "S": "sleeping",
}  # fmt: skip
_FILE_SYSTEM_WAITS = (
    "nfs", "rpc_wait", "ext4", "xfs", "btrfs", "fuse", "ceph", "lustre", "cl_sync", "ptlrpc", "gpfs", "cxi", "io_schedule", "wait_on_page",
    "folio_wait", "jbd2", "blk_", "wb_wait", "beegfs", "wait_for_partner", "pipe_wait",
)  # fmt: skip
_FAULTS = {
    HangCause.DEVICE_STUCK: Fault.GPU_HW,
    HangCause.HOST_STUCK: Fault.SOFTWARE,
    HangCause.STOPPED: Fault.HOST,
    HangCause.MISMATCH: Fault.USER_CODE,
    HangCause.MISSING_SEND: Fault.SOFTWARE,
    HangCause.MISSING_RECV: Fault.SOFTWARE,
}
_CRASHES = (4, 6, 8, 11)
_MISSES = {
    Why.NOT_ENQUEUED: "which it has not entered",
    Why.NO_RECV: "whose receive it has not posted",
    Why.NO_SEND: "whose send it has not posted",
    Why.HOST_NO_RECV: "and it does not receive",
    Why.HOST_NO_SEND: "and it does not send",
    Why.ABSENT: "and nothing is known of it",
    Why.UNSEEN: "which has left no dump to say whether it has entered it",
    Why.NOT_THERE: "and it is in no communication",
    Why.BEHIND: "which it has entered but stands before, in an earlier operation",
}


def numbers(ranks: Iterable[int]) -> str:
    """Ranks as a person writes them: 0-3,7."""
    runs: list[list[int]] = []
    for rank in sorted(set(ranks)):
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def process(case: Case, rank: int) -> str:
    """A process's state and how it came to it."""
    one = case.processes[rank]
    how = (
        f", killed by signal {one.signal}" if one.signal else f", exit status {one.exit_code}" if one.exit_code else ""
    )
    where = f" in {one.wchan}" if one.wchan and one.wchan != "0" else ""
    return f"process {one.pid} is {_STATES.get(one.state, one.state)} (state {one.state}){where}{how}"


def stack(case: Case, rank: int) -> str:
    """What a rank's stack shows, "" without one."""
    seen = case.stacks.get(rank)
    if seen is None:
        return ""
    what = f"waits in {seen.doing.value}" if seen.waits else "is in no communication"
    what += f" ({seen.doing.value})" if not seen.waits and seen.doing is not Doing.OTHER else ""
    return f"its stack {what}: {seen.where()}"


def stack_lines(case: Case, rank: int) -> list[str]:
    """The sentences on a rank's stack and process state, where there are any."""
    lines = [stack(case, rank)] if rank in case.stacks else []
    if rank in case.processes and case.processes[rank].state == "D":
        lines.append(process(case, rank))
    return lines


def silence(case: Case, rank: int) -> list[str]:
    """That a rank's side thread did not answer while it lives, and why its dump is missing."""
    about = case.about.get(rank)
    lines = (
        ["its side thread does not answer while the process lives"] if about is not None and not about.answered else []
    )
    return lines + ([f"no dump: {case.no_dump[rank]}"] if case.no_dump.get(rank) else [])


def own_frame(seen: Stack) -> str:
    """The innermost frame of the job's own code."""
    own = [
        f
        for f in seen.frames
        if "site-packages" not in f.file and "/lib/python" not in f.file and not f.file.startswith("<")
    ]
    return str(own[0] if own else seen.frames[0])


def phase(case: Case, rank: int) -> str:
    """The phase that takes long by nature in which a rank was found, "" for none."""
    seen = case.stacks.get(rank)
    about = case.about.get(rank)
    said = seen.phase if seen and not seen.waits else ""
    announced = about.phase if about else ""
    return said or (announced if announced in PHASES else "")


def fault_of(case: Case, rank: int, cause: HangCause) -> Fault:
    """What broke, by the cause and by what the rank was found doing."""
    one, seen = case.processes.get(rank), case.stacks.get(rank)
    if cause in (HangCause.HOST_STUCK, HangCause.MISSING_RECV, HangCause.MISSING_SEND):
        in_storage = seen is not None and seen.doing is Doing.STORAGE
        waits_for_files = one is not None and any(word in one.wchan for word in _FILE_SYSTEM_WAITS)
        if one is not None and one.state == "D":
            return Fault.STORAGE if in_storage or waits_for_files or not one.wchan.strip("0") else Fault.HOST
    if cause is HangCause.EXITED and one is not None and (one.signal in _CRASHES):
        return Fault.SOFTWARE
    return _FAULTS.get(cause, Fault.UNKNOWN)


def missed(case: Case, edge: Edge) -> str:
    """Why a rank is waited for."""
    what = f"{edge.op} #{edge.seq} of group {case.describe(edge.group)}" if edge.group else edge.op
    reached = case.enqueued(edge.other, edge.group) if edge.why is Why.NOT_ENQUEUED else None
    last = "" if reached is None else " (it has entered none)" if reached < 0 else f" (its last there is #{reached})"
    return f"rank {edge.waiter} waits for it in {what}, {_MISSES[edge.why]}{last}"


def strayed(case: Case, gone: "Strayed") -> str:
    """What a rank has left out of its transfers."""
    left = ", ".join(f"{'a send to' if sends else 'a receive from'} place {peer}" for sends, peer in gone.missing) or "something else"
    return (
        f"at transfer #{gone.seq} of group {case.describe(gone.group)} it leaves the order of the {gone.like} ranks that run the same part "
        f"of the program: it has left out {left}"
    )


def chain(case: Case, graph: Graph, blamed: Sequence[int]) -> list[str]:
    """The walk from waiting ranks to each of the blamed, a sentence a hop, the shortest road from the farthest waiter."""
    told: list[str] = []
    for rank in blamed[:4]:
        for edge in road(graph, rank):
            op = f"{edge.op} #{edge.seq} of group {case.describe(edge.group)}" if edge.group else edge.op
            line = f"rank {edge.waiter} waits in {op} for rank {edge.other}, {_MISSES[edge.why]}"
            if line not in told and len(told) < _MOST_CHAIN:
                told.append(line)
    return told


def road(graph: Graph, rank: int) -> list[Edge]:
    """Edges from the rank farthest away (by hops) to `rank`, in walking order."""
    hop: dict[int, Edge] = {}
    line = deque([rank])
    last = rank
    while line:
        last = line.popleft()
        for edge in sorted(graph.into(last), key=lambda e: e.waiter):
            if edge.waiter != rank and edge.waiter not in hop:
                hop[edge.waiter] = edge
                line.append(edge.waiter)
    road = []
    while last != rank:
        road.append(hop[last])
        last = hop[last].other
    return road


def first_stuck(case: Case, graph: Graph, blame: "Blame | None") -> Json:
    """The operation at which the job came to a stop: {group, op, seq, waiting}."""
    group, seq, op = (blame.group, blame.seq, blame.op) if blame else ("", -1, "")
    if not op:
        into = graph.into(blame.rank) if blame else []
        ops = [o for r in case.recordings if (o := case.pending(r)) is not None]
        if into:
            group, seq, op = into[0].group, into[0].seq, into[0].op
        elif ops:
            least = min(ops, key=lambda o: (o.seq, o.group))
            group, seq, op = least.group, least.seq, least.name
    if not op:
        return None
    waiting: list[Json] = [
        r for r in case.seen
        if any(e.group == group and e.seq == seq and e.op == op for e in graph.pairs.get(r, ()))
        or any((o.group, o.seq) == (group, seq) and not o.p2p for o in case.waiting(r))
    ]  # fmt: skip
    return {"group": group, "desc": case.descriptions.get(group, ""), "op": op, "seq": seq, "waiting": waiting}


def groups(case: Case) -> list[Json]:
    """Each process group: who is in it and how far each has come."""
    rows: list[Json] = []
    for name, members in sorted(case.members.items())[:_MOST_GROUPS]:
        reached = {r: n for r in members if (n := case.enqueued(r, name)) is not None}
        rows.append({
            "group": name, "desc": case.descriptions.get(name, ""), "ranks": list[Json](members),
            "least_enqueued": min(reached.values(), default=None), "most_enqueued": max(reached.values(), default=None),
        })  # fmt: skip
    return rows


def edges(graph: Graph) -> list[Json]:
    """The wait-for graph, as rows {rank, for, why}."""
    rows: list[Json] = []
    for rank in graph.waiters[:_MOST_EDGES]:
        first = next(iter(graph.edges(rank)), None)
        others = islice(graph.edges(rank), _MOST_OTHERS)
        if first is not None:
            rows.append({"rank": rank, "for": list[Json](sorted({e.other for e in others})), "why": first.why.value})
    return rows

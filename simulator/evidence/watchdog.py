"""Lines that the process group's watchdog and heartbeat monitor write into a rank's log while the job hangs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter

from simulator.evidence.acts import UNEVEN, Act, Op, Sizes
from simulator.evidence.course import Course
from simulator.evidence.groups import Group
from simulator.evidence.ring import ring
from simulator.evidence.stall import Kind

_TYPES = {
    Op.ALL_REDUCE: "ALLREDUCE", Op.ALL_GATHER: "_ALLGATHER_BASE", Op.REDUCE_SCATTER: "_REDUCE_SCATTER_BASE", Op.ALL_TO_ALL: "ALLTOALL_BASE",
    Op.BROADCAST: "BROADCAST", Op.BARRIER: "ALLREDUCE",
}  # fmt: skip
_SIGNAL_S = 1.2  # from one rank's timeout to the others' seeing its signal in the store
_TEARDOWN_S = 60.0


@dataclass(frozen=True)
class Waiting:
    """A rank's oldest operation of a group that has not ended. since: Unix seconds of its launch; rank: within the group"""

    group: Group
    local: int
    rank: int
    number: int
    kind: str
    numel: tuple[int, int]
    since: float


def waiting(course: Course, rank: int) -> list[Waiting]:
    """What a rank's watchdog watches that has not ended, the oldest of each group, in the order of their launch."""
    line, own = course.line(rank), course.layout.own[rank]
    launched, _ = course.times(rank, now=True)
    began = course.scene.began_at + course.scene.skew(rank)
    status = ring(course, rank).status
    found: dict[str, Waiting] = {}
    left: dict[str, int] = {}
    for at in range(line.entered - 1, -1, -1):
        act = line.acts[at]
        if not act.talks or line.done(at):
            continue
        group = next(g for g in own if g.desc == act.group)
        calls = 1 if not act.parts or course.scene.model.batched_transfers else len(act.parts)
        left[act.group] = left.get(act.group, 0) + calls
        number = status[act.group][0] - left[act.group] + 1
        numel = _numel(act.inputs), _numel(act.outputs)
        found[act.group] = Waiting(
            group,
            own.index(group),
            group.ranks.index(rank),
            number,
            _kind(act, course),
            numel,
            began + float(launched[at]),
        )
    return sorted(found.values(), key=lambda one: one.since)


def _kind(act: Act, course: Course) -> str:
    if not act.parts:
        return _TYPES[act.op]
    return "COALESCED" if course.scene.model.batched_transfers else "SEND" if act.parts[0].sends else "RECV"


def _numel(sizes: Sizes) -> int:
    return sum(math.prod(abs(n) if n == UNEVEN else n for n in size) for size in sizes)


def first_signal(course: Course) -> tuple[float, int]:
    """When the first watchdog of the job times out, and whose it is; infinity where none ever does."""
    found = [
        (since + course.scene.timeout_s, rank)
        for rank in range(course.layout.world)
        if (since := _oldest(course, rank)) is not None
    ]
    return min(found, default=(math.inf, -1))


def _oldest(course: Course, rank: int) -> float | None:
    """When a rank whose watchdog lives has launched the oldest operation that has not ended, in true Unix seconds."""
    line = course.line(rank)
    if course.stalled(rank, Kind.STOPPED, Kind.GONE):
        return None
    at = next((n for n in range(line.entered) if line.acts[n].talks and not line.done(n)), None)
    return None if at is None else course.scene.began_at + float(course.times(rank, now=True)[0][at])


def watchdog_lines(course: Course, rank: int, at: float, *, first: tuple[float, int] | None = None) -> list[str]:
    """What a rank's log holds of the hang at a moment, Unix seconds. first: what `first_signal` gives, where it is known already."""
    if course.stalled(rank, Kind.STOPPED, Kind.GONE):
        return []
    return [
        text
        for when, text in sorted(_lines(course, rank, first or first_signal(course)), key=itemgetter(0))
        if when <= at
    ]


def _lines(course: Course, rank: int, first: tuple[float, int]) -> Iterator[tuple[float, str]]:
    """Lines with the true moment of each; the log shows the node's own clock."""
    scene, skew = course.scene, course.scene.skew(rank)
    signalled, whose = first
    status = ring(course, rank).status
    enqueued, completed = next(((s[0], s[2]) for d, s in status.items() if d == "default_pg"), (-1, -1))
    timed_out = False
    for one in waiting(course, rank):
        at = one.since - skew + scene.timeout_s + 0.05
        if at > signalled + _TEARDOWN_S:
            continue  # the process is taken down before that
        timed_out = True
        last = status[one.group.desc]
        mark = _mark(one)
        yield at, _log(rank, at + skew, 683, (
            f"[Rank {one.rank}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum={one.number}, OpType={one.kind}, "
            f"NumelIn={one.numel[0]}, NumelOut={one.numel[1]}, Timeout(ms)={scene.timeout_s * 1e3:.0f}) ran for "
            f"{(scene.timeout_s + 0.05) * 1e3:.0f} milliseconds before timing out."
        ))  # fmt: skip
        yield at + 0.01, _log(rank, at + skew + 0.01, 2241, (
            f"{mark}  failure detected by watchdog at work sequence id: {one.number} PG status: last enqueued work: {last[0]}, "
            f"last completed work: {last[2]}"
        ))  # fmt: skip
        if rank == whose and at <= signalled + 0.1:
            yield at + 0.02, _log(rank, at + skew + 0.02, 2279, f"{mark} First PG on this rank to signal dumping.")
    if math.isfinite(signalled) and rank != whose:
        seen = signalled + _SIGNAL_S
        mark = f"[PG ID 0 PG GUID 0(default_pg) Rank {rank}]"
        yield (
            seen,
            _log(
                rank, seen + skew, 1794, f"{mark} Observed flight recorder dump signal from another rank via TCPStore."
            ),
        )
        yield seen + 0.01, _log(rank, seen + skew + 0.01, 1858, (
            f"{mark} Received a dump signal due to a collective timeout from  rank {whose} and we will try our best to dump the debug "
            f"info. Last enqueued NCCL work: {enqueued}, last completed NCCL work: {completed}."
        ))  # fmt: skip
        if course.stalled(rank, Kind.LOCK):
            yield (
                seen + 0.4,
                _log(
                    rank,
                    seen + skew + 0.4,
                    1683,
                    f"{mark} Could not acquire GIL within 300 ms on exit, possible GIL induced hang",
                ),
            )
    yield from _taken_down(course, rank, first, timed_out=timed_out)


def _taken_down(course: Course, rank: int, first: tuple[float, int], *, timed_out: bool) -> Iterator[tuple[float, str]]:
    """The end that each process makes of itself, or its heartbeat monitor for it."""
    scene, skew = course.scene, course.scene.skew(rank)
    mark = f"[PG ID 0 PG GUID 0(default_pg) Rank {rank}]"
    if timed_out:
        end = first[0] + _TEARDOWN_S
        yield end, _log(rank, end + skew, 731, (
            "Some NCCL operations have failed or timed out. Due to the asynchronous nature of CUDA kernels, subsequent GPU operations "
            "might run on corrupted/incomplete data."
        ))  # fmt: skip
        yield (
            end + 0.001,
            _log(rank, end + skew + 0.001, 745, "To avoid data inconsistency, we are taking the entire process down."),
        )
    elif course.stalled(rank, Kind.DEVICE_BEFORE, Kind.DEVICE_IN, Kind.LOCK):
        stuck = first[0] + scene.heartbeat_s
        yield stuck, _log(rank, stuck + skew, 1684, (
            f"{mark} ProcessGroupNCCL's watchdog got stuck for {scene.heartbeat_s:.0f} seconds without making progress in monitoring "
            "enqueued collectives."
        ))  # fmt: skip


def _mark(one: Waiting) -> str:
    return f"[PG ID {one.local} PG GUID {one.group.name}({one.group.desc}) Rank {one.rank}]"


def _log(rank: int, at: float, line: int, text: str) -> str:
    when = datetime.fromtimestamp(at, tz=UTC)
    nanoseconds = int(at * 1e9) % 1_000_000_000
    return f"[rank{rank}]:[E{when:%m%d %H:%M:%S}.{nanoseconds:09d} ProcessGroupNCCL.cpp:{line}] {text}"

"""What is seen of a rank from beside it: its process in the kernel, its device's load, and what its agent writes of it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from simulator.chance import stream
from simulator.evidence.acts import Op
from simulator.evidence.course import Course
from simulator.evidence.stall import Kind

# Where in the kernel a task sleeps that waits for a file system: NFS, Lustre, a FUSE client, a local disk's page.
_STORAGE_WAITS = ("rpc_wait_bit_killable", "cl_sync_io_wait", "request_wait_answer", "folio_wait_bit_common")


@dataclass(frozen=True)
class Process:
    """A row of the kernel's table. state: one letter as in /proc; wait_channel: the function it sleeps in, "0" for none"""

    state: str
    wait_channel: str
    exit_code: int | None = None
    signal: int | None = None
    since: float = 0.0


def process(course: Course, rank: int) -> Process:
    """A rank's process as the kernel shows it."""
    if course.stalled(rank, Kind.GONE):
        signal = (9, 11, 7)[int(stream(course.scene.seed, "signal", rank).integers(3))]
        return Process("X", "", signal=signal, since=course.stood_at)
    if course.stalled(rank, Kind.STOPPED):
        return Process("T", "do_signal_stop")
    if course.stalled(rank, Kind.STORAGE):
        waits = _STORAGE_WAITS
        return Process("D", waits[int(stream(course.scene.seed, "storage").integers(len(waits)))])
    if course.stalled(rank, Kind.DATA, Kind.LOCK):
        return Process("S", "futex_wait_queue")
    if course.stalled(rank, Kind.LOOP):
        return Process("R", "0")
    # a host that waits for its device polls it, and one whose queue of launches is full as well
    return Process("R", "0")


def answers(course: Course, rank: int) -> bool:
    """Whether the side thread does: not without the process, nor without the interpreter's lock."""
    return not course.stalled(rank, Kind.STOPPED, Kind.GONE, Kind.LOCK)


def can_be_attached(course: Course, rank: int) -> bool:
    """Whether py-spy can stop the process to look; without stopping it can look at whatever lives."""
    return not course.stalled(rank, Kind.STOPPED, Kind.GONE, Kind.STORAGE)


def device_load(course: Course, rank: int) -> tuple[float, float]:
    """Utilisation and share of the power limit. A kernel that only spins keeps a device busy at about a fifth of its power."""
    rng = stream(course.scene.seed, "load", rank)
    spins, idles = 0.22 + 0.02 * float(rng.random()), 0.10 + 0.01 * float(rng.random())
    line = course.line(rank)
    if course.stalled(rank, Kind.GONE):
        return 0.0, idles
    if course.stalled(rank, Kind.DEVICE_BEFORE):
        # a kernel that never began leaves the device idle, one that never ends does not
        return (0.0, idles) if rng.random() < 0.7 else (1.0, idles + 0.02)
    if course.stalled(rank, Kind.DEVICE_IN):
        return 1.0, idles + 0.03
    waits = (line.at < line.entered and line.acts[line.at].op is not Op.SETTLE) or bool(line.open)
    return (1.0, spins) if waits else (0.0, idles)


def about(course: Course, rank: int, *, step: int, stepped_at: float) -> dict[str, Any]:
    """What the agent writes of a rank: its groups, as far as its side thread says them."""
    replies = answers(course, rank)
    groups = {
        group.name: {
            "local_id": str(n),
            "desc": group.desc,
            "ranks": msgspec.Raw(group.text.encode()),
            "backend": course.scene.recording.backend.value,
        }
        for n, group in enumerate(course.layout.own[rank])
        if replies and group.size > 1
    }
    return {
        "kind": "holdfast.rank", "version": 1, "rank": rank, "world_size": course.layout.world, "pid": course.scene.pid(rank),
        "start_time": 0,
        "host": course.scene.node(rank), "taken_at": course.looked_at, "backend": course.scene.recording.backend.value if replies else "",
        "groups": groups, "answered": replies, "answer_s": 0.02 if replies else 0.0, "step": step, "stepped_at": stepped_at, "phase": "",
        "phase_at": 0.0,
    }  # fmt: skip


def row(course: Course, rank: int) -> dict[str, Any]:
    """A rank's row of the agent's process table."""
    one = process(course, rank)
    return {
        "pid": course.scene.pid(rank), "parent": 19_000, "rank": rank, "name": "python3", "command": "python3 -u pretrain_gpt.py",
        "state": one.state, "wchan": one.wait_channel, "start_time": 0, "cpu_s": 0.0, "io_bytes": 0, "exit_code": one.exit_code,
        "signal": one.signal, "since": one.since or course.stood_at,
    }  # fmt: skip


_LIMIT_W = 700.0


def query_gpu(course: Course, node: int) -> bytes:
    """`nvidia-smi --query-gpu=timestamp,index,utilization.gpu,power.draw,power.limit,memory.used --format=csv` on a node."""
    when = datetime.fromtimestamp(course.looked_at, tz=UTC)
    lines = ["timestamp, index, utilization.gpu [%], power.draw [W], power.limit [W], memory.used [MiB]"]
    for rank in course.layout.ranks_of_node(node):
        use, power = device_load(course, rank)
        held = 4 if course.stalled(rank, Kind.GONE) else 71_034
        stamp = f"{when:%Y/%m/%d %H:%M:%S}.{when.microsecond // 1000:03d}"
        index = rank % course.layout.per_node
        lines.append(f"{stamp}, {index}, {use * 100:.0f} %, {power * _LIMIT_W:.2f} W, {_LIMIT_W:.2f} W, {held} MiB")
    return ("\n".join(lines) + "\n").encode()

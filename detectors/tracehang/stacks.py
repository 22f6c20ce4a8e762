"""Stacks of ranks (py-spy as JSON or text, faulthandler) -> what each rank is doing, by a table of function names."""

import json
import re
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from typing import Any

import msgspec

MOST_BYTES = 32 << 20
MOST_THREADS = 4096
MOST_FRAMES = 512


class StackError(ValueError):
    """Not a stack dump; the message says why."""


class Doing(StrEnum):
    """What a thread is in."""

    COLLECTIVE = "collective"
    SEND = "send"
    RECV = "recv"
    BARRIER = "barrier"
    STORE = "store"
    CHECKPOINT = "checkpoint"
    EVALUATION = "evaluation"
    DATA = "data_loading"
    STORAGE = "storage"
    LOCK = "lock"
    SLEEP = "sleep"
    GC = "gc"
    DEVICE = "device"
    OTHER = "other"


WAITS = frozenset({Doing.COLLECTIVE, Doing.SEND, Doing.RECV, Doing.BARRIER, Doing.STORE})
PHASES = frozenset({Doing.CHECKPOINT, Doing.EVALUATION})


class Frame(msgspec.Struct, frozen=True):
    """One call. file as written in the dump; line 0 where unknown."""

    name: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.name} ({self.file.rsplit('/', 1)[-1]}:{self.line})"


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """The thread of a rank that matters. frames: innermost first; doing: what it waits for; phase: what the job is in."""

    doing: Doing
    frames: tuple[Frame, ...]
    thread: str = ""
    phase: str = ""

    @property
    def waits(self) -> bool:
        return self.doing in WAITS

    def where(self) -> str:
        """The innermost frames a person would read."""
        return " < ".join(str(frame) for frame in self.frames[:4])


# (what, function name, file), the first row that fits any frame from the outside in wins within its tier.
_COMM_FILE = r"distributed|deepspeed|megatron|nccl|horovod|apex|comm|ring|parallel|accelerate|hccl|mpi"
_ROWS: tuple[tuple[Doing, re.Pattern[str], re.Pattern[str]], ...] = tuple(
    (doing, re.compile(name, re.IGNORECASE), re.compile(file, re.IGNORECASE))
    for doing, name, file in (
        (Doing.BARRIER, r"(^|[._:])(monitored_)?barrier$", r""),
        (
            Doing.STORE,
            r"rendezvous|_store_based_barrier|^init_process_group$|next_rendezvous|^_?tcp_?store|store_?get|store::wait",
            r"",
        ),
        (
            Doing.COLLECTIVE,
            r"(^|[._:])(all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|broadcast|gather|scatter|reduce)"
            r"(_coalesced|_into_tensor|_tensor|_base|_object|_object_list|_single|_multigpu|_params|_grads)*$",
            _COMM_FILE,
        ),
        (Doing.COLLECTIVE, r"(^|[._:])(ring_)?all_?reduce$|(^|[._:])reduce_?scatter$|(^|[._:])all_?gather$", r""),
        (Doing.SEND, r"(^|[._:])i?send(_object_list|_forward|_backward|_chunk|_tensor)?$", _COMM_FILE),
        (Doing.RECV, r"(^|[._:])(i?recv|receive)(_object_list|_forward|_backward|_chunk|_tensor)?$", _COMM_FILE),
        (Doing.RECV, r"batch_isend_irecv|send_forward_recv_backward|send_backward_recv_forward|_communicate$", r""),
        (
            Doing.COLLECTIVE,
            r"^ncclGroupEnd|ProcessGroup(NCCL|Gloo).*(allreduce|allgather|wait)|gloo::.*wait|^wait$",
            _COMM_FILE,
        ),
    )
)
_OWN: tuple[tuple[Doing, re.Pattern[str], re.Pattern[str]], ...] = tuple(
    (doing, re.compile(name, re.IGNORECASE), re.compile(file, re.IGNORECASE))
    for doing, name, file in (
        (
            Doing.DATA,
            r"^_try_get_data$|^_next_data$|^_get_data$|^__next__$|fetch$",
            r"dataloader|data/_utils|datasets?/|webdataset",
        ),
        (
            Doing.STORAGE,
            r"^(open|read|write|readinto|fsync|flush|stat|listdir|nfs_\w+|rpc_wait\w*|ext4_\w+|fuse_\w+)$",
            r"",
        ),
        (Doing.GC, r"^gc_collect|^collect$", r"\bgc\b|gcmodule"),
        (Doing.DEVICE, r"cuda(stream|device|event)?_?synchronize$|^synchronize$|^item$|^cpu$", r"cuda|torch|libcuda"),
        (
            Doing.LOCK,
            r"^acquire$|^wait$|^_wait_for_tstate_lock$|^join$|futex|pthread_(mutex|cond)",
            r"threading|lock|queue|libc|libpthread|concurrent",
        ),
        (Doing.SLEEP, r"sleep$|nanosleep", r""),
    )
)
_PHASE_NAMES: tuple[tuple[Doing, re.Pattern[str]], ...] = (
    (
        Doing.CHECKPOINT,
        re.compile(
            r"save_checkpoint|_?save_(model|state|ckpt|optimizer)|checkpoint_save|^save$|_save_to_state|dist_checkpoint|torch_save|load_checkpoint",
            re.I,
        ),
    ),
    (
        Doing.EVALUATION,
        re.compile(
            r"^(run_)?(eval|evaluate|validate|validation|evaluation)(_\w+)?$|_(eval|evaluate|validate|evaluation)$",
            re.I,
        ),
    ),
)
_SIDE = re.compile(
    r"^(ftagent|Thread-\d+ \(_?(serve|monitor|heartbeat|pin_memory).*|.*(heartbeat|watchdog|pin_memory|tensorboard|QueueFeeder).*)$",
    re.I,
)


def looks_like_stacks(head: bytes) -> bool:
    """Whether a file's beginning is that of a py-spy or faulthandler dump."""
    text = head.lstrip()
    if text[:1] == b"[":
        return b'"frames"' in head and b'"pid"' in head and b'"thread_id"' in head
    return bool(re.search(rb"^(Process \d+: |Thread (0x)?[0-9a-f]+ ?(\(|\"|\[)|Current thread 0x)", text, re.MULTILINE))


def read_stacks(data: bytes) -> dict[int, Stack]:
    """Read a dump of one process or of several, and judge the most telling thread of each.

    Returns stacks by process id, in the order of the file; ids below 0 where the dump does not say them.
    raises StackError: empty, too large, or no stack in it
    """
    if len(data) > MOST_BYTES:
        raise StackError(f"{len(data)} bytes, at most {MOST_BYTES} are read")
    text = data.lstrip()
    if not text:
        raise StackError("empty file")
    threads = _of_json(text) if text[:1] in b"[{" else _of_text(text.decode("utf-8", "replace"))
    by_process: dict[int, list[tuple[str, tuple[Frame, ...]]]] = {}
    for pid, name, frames in islice(threads, MOST_THREADS):
        if frames:
            by_process.setdefault(pid, []).append((name, frames))
    if not by_process:
        raise StackError("no stack in it")
    return {pid: _of_process(own) for pid, own in by_process.items()}


def _of_process(threads: list[tuple[str, tuple[Frame, ...]]]) -> Stack:
    own = [judge(frames, name) for name, frames in threads if not _SIDE.match(name)]
    return _telling(own or [judge(threads[0][1], threads[0][0])])


def judge(frames: tuple[Frame, ...], thread: str = "") -> Stack:
    """Say what one thread is doing."""
    phase = next((what for what, name in _PHASE_NAMES if any(name.search(f.name) for f in frames)), None)
    doing = _first(_ROWS, frames[: _reach(frames)])
    if doing is None:
        # the innermost frames say what a thread of the host's own is held up by
        doing = _first(_OWN, frames[:6]) or Doing.OTHER
    return Stack(doing=doing, frames=frames[:32], thread=thread, phase=phase.value if phase else "")


_LIBRARY = re.compile(r"(site|dist)-packages|/lib/python|^<|(^|/)torch/|^[\w.]+$(?<!\.py)", re.IGNORECASE)


def _reach(frames: tuple[Frame, ...]) -> int:
    """How many of the innermost frames may say that a thread is in a communication: up to the first of the program's own code.

    What has called back into the program from a wrapper of a collective is at work and no more in it.
    """
    return next((n + 1 for n, frame in enumerate(frames) if not _LIBRARY.search(frame.file)), len(frames))


def _first(rows: tuple[tuple[Doing, re.Pattern[str], re.Pattern[str]], ...], frames: tuple[Frame, ...]) -> Doing | None:
    return next(
        (
            doing
            for doing, name, file in rows
            for f in frames
            if name.search(f.name.split("(")[0]) and file.search(f.file)
        ),
        None,
    )


def _telling(stacks: list[Stack]) -> Stack:
    """The main thread, unless it only drives a backward pass in which another thread communicates."""
    main = next((s for s in stacks if s.thread == "MainThread"), stacks[0])
    backward = any("backward" in frame.name for frame in main.frames)
    others = [s for s in stacks if s is not main and s.doing in (Doing.COLLECTIVE, Doing.SEND, Doing.RECV)]
    return others[0] if others and backward and not main.waits else main


def _of_json(data: bytes) -> Iterator[tuple[int, str, tuple[Frame, ...]]]:
    try:
        threads = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StackError(f"not JSON: {error}") from error
    for thread in threads if isinstance(threads, list) else [threads]:
        if not isinstance(thread, dict) or not isinstance(thread.get("frames"), list):
            raise StackError("a thread without frames")
        pid = thread.get("pid")
        frames = tuple(_frame(row) for row in thread["frames"][:MOST_FRAMES] if isinstance(row, dict))
        yield pid if isinstance(pid, int) else -1, str(thread.get("thread_name") or ""), frames


def _frame(row: dict[str, Any]) -> Frame:
    line = row.get("line")
    return Frame(
        str(row.get("name", "")),
        str(row.get("filename") or row.get("module") or ""),
        line if isinstance(line, int) else 0,
    )


_THREAD_HEAD = re.compile(
    r'^(?:Current thread|Thread) (?:0x)?[0-9a-fA-F]+ ?(?:\((?P<state>[^)"]*)\))?:? ?(?:"(?P<name>[^"]*)"|\[(?P<name2>[^\]]*)\])?'
)
_PROCESS_HEAD = re.compile(r"^Process (\d{1,10}): ")
_SPY_FRAME = re.compile(r"^\s+(?P<name>.+) \((?P<file>[^()]*?)(?::(?P<line>\d+))?\)\s*$")
_FAULT_FRAME = re.compile(r'^\s+File "(?P<file>[^"]*)", line (?P<line>\d+) in (?P<name>.+)$')


def _of_text(text: str) -> Iterator[tuple[int, str, tuple[Frame, ...]]]:
    pid, name, frames, inside, mains = -1, "", list[Frame](), False, 0
    for row in text.splitlines():
        head, process = _THREAD_HEAD.match(row), _PROCESS_HEAD.match(row)
        if head or process:
            if inside:
                yield pid, name, tuple(frames)
            name, frames, inside = "", [], head is not None
        if process:
            pid, mains = int(process.group(1)), 0
        elif head:
            name = head.group("name") or head.group("name2") or ""
            mains += name == "MainThread"
            if mains > 1:  # several processes' dumps run together, their heads cut off
                pid, mains = min(pid, 0) - 1, 1
        else:
            found = _FAULT_FRAME.match(row) or _SPY_FRAME.match(row)
            if found and inside and len(frames) < MOST_FRAMES:
                frames.append(Frame(found.group("name"), found.group("file"), int(found.group("line") or 0)))
    if inside:
        yield pid, name, tuple(frames)

"""Stacks of a rank's threads as py-spy shows them, JSON or text, fit to where the rank's host stands."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from simulator.chance import stream
from simulator.evidence.acts import Op
from simulator.evidence.course import Course
from simulator.evidence.frames import Frame, driving_backward, frames_of, in_backward, python_frames
from simulator.evidence.stall import Kind


@dataclass(frozen=True)
class Thread:
    """name: "" where the interpreter gave it none; holds_lock: the interpreter's"""

    name: str
    active: bool
    holds_lock: bool
    frames: tuple[Frame, ...]


# What a host that stalls is in, above the place where it stalls; of several the seed picks one.
_AT_WORK: dict[Kind, tuple[tuple[str, ...], ...]] = {
    Kind.LOOP: (
        ("pack_documents pretrain_gpt.py:96", "rebalance_sequences pretrain_gpt.py:118"),
        ("sub re.py:185", "clean_text data/filters.py:57", "annotate pretrain_gpt.py:109"),
        ("check_values diagnostics/values.py:41", "after_layer diagnostics/hooks.py:73"),
    ),
    Kind.DATA: (
        (
            "wait threading.py:331",
            "get queue.py:180",
            "_try_get_data torch/utils/data/dataloader.py:1284",
            "_get_data torch/utils/data/dataloader.py:1443",
            "_next_data torch/utils/data/dataloader.py:1485",
        ),
        (
            "poll selectors.py:415",
            "wait multiprocessing/connection.py:948",
            "get multiprocessing/queues.py:113",
            "_try_get_data torch/utils/data/dataloader.py:1284",
            "_next_data torch/utils/data/dataloader.py:1485",
        ),
    ),
    Kind.LOCK: (
        ("emit telemetry/native_client.py:88", "record_step telemetry/hooks.py:31"),
        ("encode_batch tokenizer/fast.py:212", "annotate pretrain_gpt.py:109"),
    ),
}
_READING = (
    "read megatron/core/datasets/indexed_dataset.py:412",
    "__getitem__ megatron/core/datasets/gpt_dataset.py:266",
)
_WRITING = (
    "_write_item torch/distributed/checkpoint/filesystem.py:338",
    "_write_files_from_queue torch/distributed/checkpoint/filesystem.py:402",
)

# Files of the library whose call a host that stalls has not made.
_LIBRARY = ("torch/distributed/distributed_c10d", "torch/distributed/c10d_logger", "torch/cuda")

# Threads that every process has beside the one that trains.
_BESIDE = (
    Thread(
        "ftagent",
        False,
        False,
        frames_of("wait threading.py:331", "_serve ftagent/side.py:142", "run threading.py:982"),
    ),
    Thread(
        "Thread-1 (_pin_memory_loop)",
        False,
        False,
        frames_of(
            "select selectors.py:415",
            "wait multiprocessing/connection.py:948",
            "do_one_step torch/utils/data/_utils/pin_memory.py:35",
            "_pin_memory_loop torch/utils/data/_utils/pin_memory.py:60",
            "run threading.py:982",
            "_bootstrap threading.py:1002",
        ),
    ),
    Thread(
        "Thread-2 (_monitor)",
        False,
        False,
        frames_of("wait threading.py:331", "_monitor torch/_inductor/async_compile.py:204"),
    ),
)


def threads(course: Course, rank: int) -> list[Thread]:
    """What py-spy finds in a rank's process; empty where there is none."""
    if course.stalled(rank, Kind.GONE):
        return []
    act = course.host_act(rank)
    own = python_frames(act.place, act.op.value, course.layout)
    stall = course.stalls.get(rank)
    at_work = stall is not None and course.stalled(rank, Kind.LOOP, Kind.DATA, Kind.LOCK, Kind.STORAGE)
    if at_work and stall is not None:
        own = [*_in_trouble(course, rank, stall.kind, act.op), *_without_call(own)]
    kind = stall.kind if at_work and stall is not None else None
    found = [Thread("MainThread", kind in (Kind.LOOP, None), kind in (Kind.LOOP, Kind.LOCK), tuple(own))]
    if act.place.startswith("backward") and not at_work:
        # the backward pass is the engine's own thread; the main one waits for it
        call = python_frames("", act.op.value, course.layout)
        engine = Thread("", True, False, (*(f for f in call if f.file.startswith("torch/distributed")), *in_backward()))
        found = [Thread("MainThread", False, False, tuple(driving_backward(course.layout))), engine]
    return [*found, *_BESIDE]


def _in_trouble(course: Course, rank: int, kind: Kind, op: Op) -> list[Frame]:
    if kind is Kind.STORAGE:
        return list(frames_of(*(_WRITING if op is Op.SAVE else _READING)))
    choices = _AT_WORK[kind]
    return list(frames_of(*choices[int(stream(course.scene.seed, "code", rank).integers(len(choices)))]))


def _without_call(frames: Sequence[Frame]) -> list[Frame]:
    """The frames around a call that has not been made."""
    return [
        f
        for f in frames
        if not f.file.startswith(("torch/distributed/distributed_c10d", "torch/distributed/c10d_logger", "torch/cuda"))
    ]


def as_json(course: Course, rank: int) -> bytes:
    """`py-spy dump --json`."""
    pid = course.scene.pid(rank)
    rows = []
    for n, thread in enumerate(threads(course, rank)):
        frames = [
            {
                "name": f.name,
                "filename": _full(f.file),
                "module": None,
                "short_filename": f.file,
                "line": f.line,
                "locals": None,
                "is_entry": m == len(thread.frames) - 1,
                "is_shim_entry": False,
            }
            for m, f in enumerate(thread.frames)
        ]
        rows.append(
            {
                "pid": pid,
                "thread_id": _thread_id(pid, n),
                "thread_name": thread.name or None,
                "os_thread_id": pid + n,
                "active": thread.active,
                "owns_gil": thread.holds_lock,
                "frames": frames,
                "process_info": None,
            }
        )
    return json.dumps(rows).encode() if rows else b""


def as_text(course: Course, rank: int) -> bytes:
    """`py-spy dump`."""
    pid, found = course.scene.pid(rank), threads(course, rank)
    if not found:
        return b""
    command = f"/usr/bin/python3 -u pretrain_gpt.py --tensor-model-parallel-size {course.layout.tp}"
    lines = [f"Process {pid}: {command}", "Python v3.11.9 (/usr/bin/python3.11)", ""]
    for n, thread in enumerate(found):
        how = ("active" if thread.active else "idle") + ("+gil" if thread.holds_lock else "")
        name = f': "{thread.name}"' if thread.name else ""
        lines.append(f"Thread {_thread_id(pid, n) if thread.name != 'MainThread' else pid} ({how}){name}")
        lines += [f"    {f.name} ({f.file}:{f.line})" for f in thread.frames]
    return ("\n".join(lines) + "\n").encode()


def _thread_id(pid: int, number: int) -> int:
    return 0x7F00_0000_0000 + (pid << 12) + number * 0x100_0000


def _full(file: str) -> str:
    if file.startswith(("torch/", "ftagent/", "tokenizer/", "telemetry/")):
        return f"/usr/local/lib/python3.11/dist-packages/{file}"
    if "/" not in file and file != "pretrain_gpt.py":
        return f"/usr/lib/python3.11/{file}"
    return f"/opt/job/{file}" if not file.startswith(("multiprocessing/",)) else f"/usr/lib/python3.11/{file}"

"""Flight recorder dumps of a rank, as PyTorch 2.x writes them: pickle or JSON, NCCL or gloo."""

import json
import pickle
from typing import Any

import numpy as np

from simulator.chance import stream
from simulator.evidence.acts import UNEVEN, Sizes
from simulator.evidence.course import Course
from simulator.evidence.frames import python_frames
from simulator.evidence.groups import Group
from simulator.evidence.pickled import Form, Hole, Writer, fill
from simulator.evidence.records import Row
from simulator.evidence.ring import DONE, STARTED, STATES, Ring, ring
from simulator.evidence.scene import Backend

_FEW = 96  # up to so many records the general pickler is the faster one
_TIMES = ("time_discovered_started_ns", "time_discovered_completed_ns")


def pickle_dump(course: Course, rank: int) -> bytes:
    """A dump as torch's own pickler writes it; where there are few records, as Python's does, which reads the same."""
    held, writer = ring(course, rank), Writer()
    version = course.scene.version(rank)
    head = _head(course, rank, held, version)
    if len(held.row) <= _FEW:
        return pickle.dumps({**head, "entries": _entries(course, rank, held, version)}, protocol=2)
    parts = [b"\x80\x02}("]
    for name, value in head.items():
        parts += [bytes(writer.form(name).data), bytes(writer.form(value).data)]
    parts.append(bytes(writer.form("entries").data) + b"](")
    forms, which = _forms(course, rank, held, version, writer)
    columns = held.columns | {"duration": held.columns["duration"].astype(float)}
    return b"".join([*parts, fill(forms, which, columns), b"eu."])


def _forms(course: Course, rank: int, held: Ring, version: str, writer: Writer) -> tuple[list[Form], np.ndarray]:
    """A form for the first record of each kind, and one for the later ones, which refer to texts that the first has brought."""
    kind = held.row * len(STATES) + held.state
    kinds, firsts, inverse = np.unique(kind, return_index=True, return_inverse=True)
    forms: list[Form] = [Form()] * (2 * len(kinds))
    for n in np.argsort(firsts).tolist():
        row, state = divmod(int(kinds[n]), len(STATES))
        entry = _entry(course, rank, held.rows[row], state, version)
        forms[2 * n], forms[2 * n + 1] = writer.form(entry), writer.form(entry)
    which = 2 * inverse.reshape(-1) + 1
    which[firsts] -= 1
    return forms, which


def json_dump(course: Course, rank: int) -> bytes:
    """A dump as `_dump_nccl_trace_json` gives it: no frames, unknown times are 0, no `entries` where there are none."""
    held = ring(course, rank)
    version = course.scene.version(rank)
    head = _head(course, rank, held, version)
    head["pg_status"] = {g: {name: str(n) for name, n in row.items()} for g, row in head["pg_status"].items()}
    entries = _entries(course, rank, held, version)
    for entry in entries:
        entry.pop("frames", None)
        entry.update({name: 0 for name in _TIMES if entry[name] is None})
    return json.dumps({**head, "entries": entries} if entries else head).encode()


def _entries(course: Course, rank: int, held: Ring, version: str) -> list[dict[str, Any]]:
    """The records as plain values."""
    columns = {name: column.tolist() for name, column in held.columns.items()}
    kinds = list(zip(held.row.tolist(), held.state.tolist(), strict=True))
    patterns = {(row, state): _entry(course, rank, held.rows[row], state, version) for row, state in set(kinds)}
    holes = {kind: [(n, h.column) for n, h in entry.items() if isinstance(h, Hole)] for kind, entry in patterns.items()}
    return [
        {**patterns[kind], **{name: columns[column][n] for name, column in holes[kind]}} for n, kind in enumerate(kinds)
    ]


def _head(course: Course, rank: int, held: Ring, version: str) -> dict[str, Any]:
    scene, own = course.scene, course.layout.own[rank]
    minor = int(version.split(".")[1])
    called = [(n, group) for n, group in enumerate(own) if group.desc in held.status]
    config: dict[str, Any] = {g.name: {"name": g.name, "desc": g.desc, "ranks": g.text} for _, g in called}
    if scene.recording.backend is Backend.GLOO:
        config = {"": {"name": "", "desc": "", "ranks": "[]"}}
    names = ("last_enqueued_collective", "last_started_collective", "last_completed_collective")
    status = {str(n): dict(zip(names, held.status[g.desc], strict=True)) for n, g in called}
    library = "comm_lib_version" if minor >= 10 else "nccl_version"
    return {"version": version, "pg_config": config, library: scene.recording.library, "pg_status": status}


def _entry(course: Course, rank: int, row: Row, state: int, version: str) -> dict[str, Any]:
    """A record with holes for its numbers."""
    scene, gloo = course.scene, course.scene.recording.backend is Backend.GLOO
    group = course.layout.group(rank, row.group)
    if group is None:
        raise LookupError(f"rank {rank} has no {row.group}")
    local = course.layout.own[rank].index(group)
    done, timed = state == DONE, scene.recording.timing and not gloo
    started = timed and state in (STARTED, DONE)
    entry: dict[str, Any] = {}
    if scene.recording.frames:
        entry["frames"] = [
            {"name": f.name, "filename": f.file, "line": f.line}
            for f in python_frames(row.place, row.name, course.layout)
        ]
    entry |= {"record_id": Hole("record_id", "int"), "pg_id": local, "process_group": (group.name, group.desc)}
    if int(version.split(".")[1]) >= 9:
        entry |= {"thread_name": "python3", "thread_id": str(140_000_000_000_000 + rank * 4096)}
    entry |= {
        "collective_seq_id": Hole("collective", "int"), "p2p_seq_id": Hole("p2p", "int"), "op_id": Hole("op", "int"),
        "profiling_name": f"{scene.recording.backend.value}:{row.name}", "time_created_ns": Hole("created", "long"),
    }  # fmt: skip
    if timed and done:
        entry["duration_ms"] = Hole("duration", "float")
    inputs, outputs = (_sizes(course, rank, row, sizes, group) for sizes in (row.inputs, row.outputs))
    types = [row.dtype] * len(inputs)
    if row.name == "coalesced":
        inputs, outputs, types = [], [], []
    return entry | {
        "input_sizes": inputs, "input_dtypes": types, "output_sizes": outputs, "output_dtypes": types,
        "state": "scheduled" if gloo else STATES[state],
        "time_discovered_started_ns": Hole("started", "long") if started else None,
        "time_discovered_completed_ns": Hole("completed", "long") if done and not gloo else None,
        "retired": done, "timeout_ms": int(scene.timeout_s * 1e3), "is_p2p": row.p2p,
    }  # fmt: skip


def _sizes(course: Course, rank: int, row: Row, sizes: Sizes, group: Group) -> list[list[int]]:
    return [
        [_received(course, row, group)[group.ranks.index(rank)] if n == UNEVEN else n for n in size] for size in sizes
    ]


def _received(course: Course, row: Row, group: Group) -> list[int]:
    """How many tokens each member's experts are sent in a layer: what the members hold, divided by chance."""
    held = max(1, course.scene.model.sequence // course.layout.cp // course.layout.tp)
    rng = stream(course.scene.seed, "router", group.name, row.layer)
    shares = rng.dirichlet([400.0] * group.size)
    return [int(n) for n in rng.multinomial(held * group.size, shares)]

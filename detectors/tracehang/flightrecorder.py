"""Flight recorder dumps (PyTorch, versions 2.x, pickle or JSON, NCCL or gloo) -> what each rank has enqueued and completed.

Format: torch/csrc/distributed/c10d/FlightRecorder. A dump knows neither its rank nor its host, group numbers are the
process's own, gloo leaves `state` at `scheduled` for ever and `pg_config` empty; so only `retired`, the discovery times
and `pg_status` are believed, and groups are joined by name.
"""

import json
import marshal
import re
import reprlib
from collections.abc import Mapping
from typing import Any

import msgspec

from detectors.tracehang.unpickle import MOST_BYTES, PickleError, plain

# Of each group only the tail matters to a hang; a wrapped ring holds no more of it anyway.
TAIL = 512
MOST_ENTRIES = 200_000
MOST_GROUPS = 10_000
MOST_RANKS = 1_000_000
MOST_SHAPES = 4096

_P2P = re.compile(r"(send|recv) (\d+)(?:->|<-)(\d+)")
_RANKS = re.compile(r"\d+")
_COALESCED = ":coalesced"


_SHORT = reprlib.Repr()  # its bounds are arguments from Python 3.12 on
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxstring = 4, 64, 64, 64


class DumpError(ValueError):
    """Not a flight recorder dump; the message says why."""


class Op(msgspec.Struct, frozen=True, gc=False):
    """One operation of one group.

    order: the record's number in this process; seq: the group's collective number, for p2p that of its p2p numbering
    peer: group-local rank of the other side, -1 for a collective; sends: whether a p2p is a send
    started: its kernel has begun, where the recorder's timing is on; False says nothing
    """

    order: int
    group: str
    seq: int
    name: str
    done: bool
    shape: str
    peer: int = -1
    sends: bool = False
    started: bool = False

    @property
    def p2p(self) -> bool:
        return self.peer >= 0


class Status(msgspec.Struct, frozen=True, gc=False):
    """Collective numbers of one group as the process itself counts them, -1 none."""

    enqueued: int
    completed: int


class Recording(msgspec.Struct, kw_only=True):
    """What one rank's dump says.

    members: group -> global ranks, only where the dump says so; status: by the process's own group id
    local: group -> that id; ops: the tail of each group in recorded order; lost: records overwritten before the dump
    """

    rank: int
    version: str = ""
    members: dict[str, tuple[int, ...]] = {}
    desc: dict[str, str] = {}
    status: dict[str, Status] = {}
    local: dict[str, str] = {}
    ops: list[Op] = []
    entries: int = 0
    lost: int = 0


def looks_like_dump(head: bytes) -> bool:
    """Whether a file's beginning is that of a dump."""
    if head[:1] == b"\x80":
        return b"pg_config" in head or b"pg_status" in head or b"entries" in head
    return head.lstrip()[:1] == b"{" and (
        b'"pg_config"' in head or b'"pg_status"' in head or b'"comm_lib_version"' in head
    )


def rank_of_name(name: str) -> int | None:
    """The rank in a file's name: its last number ("_dump_10", "fr_rank3", "nccl_trace_rank_12.json"); None without one."""
    stem = re.sub(r"\.(json|pkl|pickle|bin|dump|txt|trace)$", "", name.rsplit("/", 1)[-1])
    found = re.search(r"rank[_\-.]?(\d+)", stem) or re.search(r"(\d+)$", stem)
    return int(found.group(1)) if found else None


def read_dump(data: bytes, rank: int) -> Recording:
    """Decode one dump.

    raises DumpError: empty, broken, hostile, or not a dump
    """
    if not data:
        raise DumpError("empty file")
    if len(data) > MOST_BYTES:
        raise DumpError(f"{len(data)} bytes, at most {MOST_BYTES} are read")
    try:
        raw = plain(data) if data[:1] == b"\x80" else json.loads(data)
    except (PickleError, ValueError, RecursionError) as error:
        raise DumpError(str(error)) from error
    if not isinstance(raw, dict) or not ({"entries", "pg_config", "pg_status"} & set(raw)):
        raise DumpError("not a flight recorder dump: neither entries, pg_config nor pg_status in it")
    try:
        return _recording(raw, rank)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise DumpError(f"a field is not as it should be: {type(error).__name__}: {error}") from error


def _recording(raw: Mapping[str, Any], rank: int) -> Recording:
    recording = Recording(rank=rank, version=_text(raw.get("version")))
    for name, config in _pairs(raw.get("pg_config")):
        ranks = tuple(int(r) for r in _members(config.get("ranks")))
        if name and ranks:
            recording.members[name] = ranks
            recording.desc[name] = _text(config.get("desc"))
    for local, status in _pairs(raw.get("pg_status")):
        enqueued = int(status.get("last_enqueued_collective", -1))
        recording.status[local] = Status(enqueued, int(status.get("last_completed_collective", -1)))
    entries = raw.get("entries") or []
    if not isinstance(entries, list) or len(entries) > MOST_ENTRIES:
        raise ValueError(f"entries is not a list of at most {MOST_ENTRIES}")
    recording.entries = len(entries)
    _read_entries(recording, entries)
    return recording


def _pairs(table: Any) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(table, dict):
        return []
    if len(table) > MOST_GROUPS:
        raise ValueError(f"over {MOST_GROUPS} groups")
    return [(_text(name), row) for name, row in table.items() if isinstance(row, dict)]


def _read_entries(recording: Recording, entries: list[Any]) -> None:
    """Take the tail of each group, the newest record first. Nothing is called here that most records do not need."""
    counts: dict[str, int] = {}
    kept: list[Op] = []
    newest = -1
    coalesced: dict[tuple[str, bool, int], bool] = {}
    shapes: dict[bytes, str] = {}
    for index in range(len(entries) - 1, -1, -1):
        entry = entries[index]
        order = int(entry.get("record_id", index))
        if order > newest:
            newest = order
        group = _group(entry)
        if group not in counts:
            counts[group] = 0
            _note_group(recording, group, entry)
        name = _text(entry.get("profiling_name"))
        if _COALESCED in name:
            coalesced[group, bool(entry.get("is_p2p")), _seq(entry)] = _done(entry, name)
            continue
        # the parts of a coalesced launch have no state of their own: theirs is that of the record which closes it
        done = _done(entry, name) or (bool(coalesced) and coalesced.get((group, bool(entry.get("is_p2p")), _seq(entry)), False))
        counts[group] += 1
        if not done or counts[group] <= TAIL:
            kept.append(_op(entry, order, group, name, done, shapes))
    recording.ops = sorted(kept, key=lambda op: op.order)
    recording.lost = max(0, newest + 1 - len(entries))


def _note_group(recording: Recording, group: str, entry: Mapping[str, Any]) -> None:
    recording.local.setdefault(group, _text(entry.get("pg_id")))
    named = entry.get("process_group")
    if isinstance(named, list | tuple) and len(named) > 1 and (desc := _text(named[1])):
        recording.desc.setdefault(group, desc)


def _text(value: Any) -> str:
    """A name or a number as text; anything deeper is none: written out in full a few shared tuples can fill all memory."""
    if type(value) is str and len(value) <= 1000:
        return value
    return str(value)[:1000] if isinstance(value, str | int) else ""


def _brief(value: Any) -> str:
    """Sizes or types as text, bounded whatever they are."""
    if type(value) is list and len(value) == 1:  # nearly all are one short list
        inner = value[0]
        if type(inner) is str or (type(inner) is list and len(inner) < 9 and all(type(n) is int for n in inner)):
            return repr(value)[:200]
    return _SHORT.repr(value)


def _members(value: Any) -> list[str]:
    """Ranks of a group: "[0, 2]", a string, in the dumps; a list would do."""
    if isinstance(value, list | tuple):
        return [str(rank) for rank in value[:MOST_RANKS] if isinstance(rank, int)]
    return _RANKS.findall(value)[:MOST_RANKS] if isinstance(value, str) else []


def _group(entry: Mapping[str, Any]) -> str:
    named = entry.get("process_group")
    return _text(named[0] if isinstance(named, list | tuple) and named else entry.get("pg_id"))


def _done(entry: Mapping[str, Any], name: str) -> bool:
    """`retired` alone is no end: the watchdog retires what has timed out too; gloo's state never leaves `scheduled`."""
    if entry.get("state") == "completed" or entry.get("time_discovered_completed_ns"):
        return True
    return bool(entry.get("retired")) and name.startswith("gloo:")


def _seq(entry: Mapping[str, Any]) -> int:
    return int(entry.get("p2p_seq_id" if entry.get("is_p2p") else "collective_seq_id", -1))


def _op(entry: Mapping[str, Any], order: int, group: str, name: str, done: bool, shapes: dict[bytes, str]) -> Op:
    shape = _shape(entry, shapes)
    started = done or entry.get("state") == "started" or bool(entry.get("time_discovered_started_ns"))
    p2p = _P2P.search(name) if "send" in name or "recv" in name else None
    if p2p is None:
        return Op(order, group, int(entry.get("collective_seq_id", -1)), name, done, shape, started=started)
    peer, sends = int(p2p.group(3)), p2p.group(1) == "send"
    return Op(order, group, int(entry.get("p2p_seq_id", -1)), name, done, shape, peer, sends, started)


def _shape(entry: Mapping[str, Any], shapes: dict[bytes, str]) -> str:
    """Types and sizes as text, written once for all records that have the same."""
    parts = [entry.get(name) for name in ("input_dtypes", "input_sizes", "output_dtypes", "output_sizes")]
    try:
        # a key made in one call; lists that are long are no usual ones and are cut short below
        key = marshal.dumps(parts) if all(type(part) is list and len(part) <= 8 for part in parts) else b""
    except ValueError:  # too deep, or of a kind that stands in no dump
        key = b""
    known = shapes.get(key) if key else None
    if known is None:
        put, sizes, got, out = map(_brief, parts)
        known = f"{put}{sizes}->{got}{out}"
        if key and len(shapes) < MOST_SHAPES:
            shapes[key] = known
    return known

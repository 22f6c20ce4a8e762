"""Flight recorder dumps (PyTorch, versions 2.x, pickle or JSON, NCCL or gloo) -> what each rank has enqueued and completed.

Format: torch/csrc/distributed/c10d/FlightRecorder. A dump knows neither its rank nor its host, group numbers are the
process's own, gloo leaves `state` at `scheduled` for ever and `pg_config` empty; so only `retired`, the discovery times
and `pg_status` are believed, and groups are joined by name.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from detectors.tracehang.ring import Ring, read_ring, text
from detectors.tracehang.unpickle import PickleError, plain, plain_json, uncollected

MOST_ENTRIES = 200_000
MOST_GROUPS = 10_000
MOST_RANKS = 1_000_000
_RANKS_CHARS = 8 * MOST_RANKS

_RANKS = re.compile(r"\d{1,7}")


class DumpError(ValueError):
    """Not a flight recorder dump; the message says why."""


class Status(msgspec.Struct, frozen=True, gc=False):
    """Numbers of one group as the process itself counts them, -1 none. Where a group has sends, theirs are counted in between."""

    enqueued: int
    completed: int


class Recording(msgspec.Struct, kw_only=True):
    """What one rank's dump says.

    members: group -> its global ranks as the dump writes them, only where it says so; status: by the process's own group id
    local: group -> that id; entries: records in the dump; lost: records that are not in it, overwritten or left out as completed
    latest_ns: the newest time in it, Unix, 0 unknown: the dump is no older
    """

    rank: int
    version: str = ""
    members: dict[str, str] = {}
    desc: dict[str, str] = {}
    status: dict[str, Status] = {}
    local: dict[str, str] = {}
    ring: Ring = msgspec.field(default_factory=Ring)
    entries: int = 0
    lost: int = 0
    latest_ns: int = 0


def looks_like_dump(head: bytes) -> bool:
    """Whether a file's beginning is that of a dump."""
    if head[:1] == b"\x80":
        return b"pg_config" in head or b"pg_status" in head or b"entries" in head
    return head.lstrip()[:1] == b"{" and any(
        key in head for key in (b'"pg_config"', b'"pg_status"', b'"comm_lib_version"', b'"profiling_name"')
    )


_ENDINGS = re.compile(r"(\.(json|pkl|pickle|bin|dump|txt|trace|log|pt))+$", re.IGNORECASE)
_NUMBERED = re.compile(r"(?<![a-z])(?:global_?)?(?:rank|trainer|proc)[_\-.=]?(\d{1,7})(?!\d)", re.IGNORECASE)


def rank_of_name(name: str) -> int | None:
    """The rank in a file's name: `rank3` anywhere in it, else its last number ("_dump_10", "nccl_trace_rank_12.json"), else
    that of its folder ("rank_3/stacks.txt"); None without one."""  # fmt: skip
    folder, _, last = name.replace("\\", "/").rpartition("/")
    stem = _ENDINGS.sub("", last)
    found = _NUMBERED.search(stem) or re.search(r"(\d{1,7})$", stem) or _NUMBERED.fullmatch(folder.rsplit("/", 1)[-1])
    return int(found.group(1)) if found else None


def read_dump(data: bytes, rank: int) -> Recording:
    """Decode one dump.

    raises DumpError: empty, broken, hostile, or not a dump
    """
    if not data:
        raise DumpError("empty file")
    with uncollected():
        return _decoded(data, rank)


def _decoded(data: bytes, rank: int) -> Recording:
    try:
        raw = plain(data) if data[:1] == b"\x80" else plain_json(data)
    except PickleError as error:
        raise DumpError(str(error)) from error
    if not isinstance(raw, dict) or not any(key in raw for key in ("entries", "pg_config", "pg_status")):
        raise DumpError("not a flight recorder dump: neither entries, pg_config nor pg_status in it")
    try:
        return _recording(raw, rank)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise DumpError(f"a field is not as it should be: {type(error).__name__}: {error}") from error


def ranks_of(written: str) -> tuple[int, ...]:
    """The ranks of a group as a dump writes them: "[0, 2]"."""
    return tuple(map(int, _RANKS.findall(written)[:MOST_RANKS]))


def _recording(raw: Mapping[str, Any], rank: int) -> Recording:
    recording = Recording(rank=rank, version=text(raw.get("version")))
    for name, config in _pairs(raw.get("pg_config")):
        ranks = _written(config.get("ranks"))
        if name and ranks:
            recording.members[name] = ranks
            recording.desc[name] = text(config.get("desc"))
    for local, status in _pairs(raw.get("pg_status")):
        enqueued = int(status.get("last_enqueued_collective", -1))
        recording.status[local] = Status(enqueued, int(status.get("last_completed_collective", -1)))
    entries = raw.get("entries") or []
    if not isinstance(entries, list) or len(entries) > MOST_ENTRIES:
        raise ValueError(f"entries is not a list of at most {MOST_ENTRIES}")
    recording.entries = len(entries)
    recording.ring, newest, recording.latest_ns, described = read_ring(entries)
    recording.lost = max(0, newest + 1 - len(entries))
    for group, (local, desc) in described.items():
        recording.local[group] = local
        if desc:
            recording.desc.setdefault(group, desc)
    return recording


def _pairs(table: Any) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(table, dict):
        return []
    if len(table) > MOST_GROUPS:
        raise ValueError(f"over {MOST_GROUPS} groups")
    return [(text(name), row) for name, row in table.items() if isinstance(row, dict)]


def _written(value: Any) -> str:
    """Ranks of a group: "[0, 2]", a string, in the dumps; a list would do. "" where there is no number."""
    if isinstance(value, list | tuple):
        value = ",".join(str(rank) for rank in value[:MOST_RANKS] if isinstance(rank, int))
    return value[:_RANKS_CHARS] if isinstance(value, str) and _RANKS.search(value) else ""

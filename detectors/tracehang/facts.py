"""Facts from beside the process: its state in the kernel, whether it answers, what groups it is in."""

import re
from typing import Any

import msgspec

MOST_BYTES = 16 << 20


class FactsError(ValueError):
    """Not such a file; the message says why."""


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A rank's process. state: one letter as in /proc, X ended; since: Unix seconds, 0.0 unknown."""

    pid: int
    state: str
    wchan: str = ""
    exit_code: int | None = None
    signal: int | None = None
    since: float = 0.0
    host: str = ""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A process group as its member knows it."""

    ranks: tuple[int, ...]
    local_id: str = ""
    desc: str = ""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent wrote of a rank (`rank<R>.json`). answered: whether its side thread did."""

    rank: int
    pid: int = 0
    host: str = ""
    world_size: int | None = None
    groups: dict[str, Group] = {}
    answered: bool = True
    phase: str = ""
    waiting: dict[str, Any] = {}
    step: int = -1


class _Row(msgspec.Struct, kw_only=True):
    pid: int
    state: str
    rank: int | None = None
    wchan: str = ""
    exit_code: int | None = None
    signal: int | None = None
    since: float = 0.0


class _Table(msgspec.Struct, kw_only=True):
    processes: list[_Row]
    host: str = ""


def looks_like_about(head: bytes) -> bool:
    return head.lstrip()[:1] == b"{" and b'"holdfast.rank"' in head[:4096]


def looks_like_processes(head: bytes) -> bool:
    """Our own table, or the output of ps with a STAT column."""
    if head.lstrip()[:1] == b"{":
        return b'"holdfast.processes"' in head[:4096]
    first = head.lstrip().split(b"\n", 1)[0]
    return bool(re.search(rb"\bPID\b", first) and re.search(rb"\bSTAT?\b", first))


def read_about(data: bytes) -> About:
    """Read `rank<R>.json`; raises FactsError."""
    try:
        return msgspec.json.decode(data[:MOST_BYTES], type=About)
    except msgspec.MsgspecError as error:
        raise FactsError(str(error)) from error


def read_processes(data: bytes) -> dict[int, Process]:
    """The processes of ranks, by rank; raises FactsError."""
    if data.lstrip()[:1] != b"{":
        return _of_ps(data[:MOST_BYTES].decode("utf-8", "replace"))
    try:
        table = msgspec.json.decode(data[:MOST_BYTES], type=_Table)
    except msgspec.MsgspecError as error:
        raise FactsError(str(error)) from error
    found: dict[int, Process] = {}
    for row in table.processes:
        if row.rank is not None and (row.rank not in found or found[row.rank].state == "X"):
            found[row.rank] = Process(
                pid=row.pid,
                state=row.state[:1],
                wchan=row.wchan,
                exit_code=row.exit_code,
                signal=row.signal,
                since=row.since,
                host=table.host,
            )
    return found


_RANK = re.compile(r"(?:--?(?:local[_-])?rank[= ]|\bRANK=)(\d+)")


def _of_ps(text: str) -> dict[int, Process]:
    """`ps -eo pid,ppid,stat,wchan,args`: a row is a rank's where its arguments say which."""
    lines = text.splitlines()
    heads = lines[0].split() if lines else []
    state_at = next((n for n, head in enumerate(heads) if head in ("STAT", "S", "STATE")), None)
    if "PID" not in heads or state_at is None:
        raise FactsError("no PID and STAT columns")
    pid_at, wchan_at = heads.index("PID"), heads.index("WCHAN") if "WCHAN" in heads else None
    found = {}
    for line in lines[1:]:
        fields = line.split(None, len(heads) - 1)
        rank = _RANK.search(line)
        if rank and len(fields) > max(pid_at, state_at) and fields[pid_at].isdigit():
            wchan = fields[wchan_at] if wchan_at is not None and wchan_at < len(fields) else ""
            found[int(rank.group(1))] = Process(pid=int(fields[pid_at]), state=fields[state_at][:1], wchan=wchan)
    return found

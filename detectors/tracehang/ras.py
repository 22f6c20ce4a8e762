"""NCCL RAS as JSON: which rank of which communicator is missing, or has launched fewer collectives than its peers.

Format: the output of `ncclras -f json`, the form interop documents after Ray's reader of it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

MOST_BYTES = 256 << 20


class RasError(ValueError):
    """Not RAS output; the message says why."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A rank of a communicator. rank: of the whole job where that could be told; answers: False for a missing one."""

    rank: int
    host: str
    pid: int
    answers: bool = True
    counts: Mapping[str, int] = {}
    note: str = ""
    device: int = -1


class Communicator(msgspec.Struct, frozen=True, kw_only=True):
    """hash: NCCL's name of it; members: those that answered, and those that did not."""

    hash: str
    size: int
    members: tuple[Member, ...]


def looks_like_ras(head: bytes) -> bool:
    """Whether a file's beginning is that of RAS JSON."""
    return (
        head.lstrip()[:1] == b"{"
        and b'"communicators"' in head
        and (b'"nccl_version"' in head or b'"ranks_count"' in head)
    )


def read_ras(data: bytes) -> list[Communicator]:
    """Decode RAS output; ranks of small communicators become those of the whole job through (host, pid).

    raises RasError: not JSON, or not of this form
    """
    if len(data) > MOST_BYTES:
        raise RasError(f"{len(data)} bytes, at most {MOST_BYTES} are read")
    try:
        rows = json.loads(data)["communicators"]
        found = [_communicator(row) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RasError(f"not NCCL RAS output: {type(error).__name__}: {error}") from error
    largest = max(found, key=lambda c: c.size, default=None)
    if largest is None:
        return []
    whole = {(m.host, m.pid): m.rank for m in largest.members}
    return [c if c is largest else _renamed(c, whole) for c in found]


def behind(communicators: Sequence[Communicator]) -> Iterator[tuple[int, str, bool]]:
    """Ranks that are missing, or behind the most in some collective: (rank, sentence, whether it answers); a rank once."""
    told: set[int] = set()
    waits = {rank for one in communicators for rank in _waiting(one)}
    for one in communicators:
        absent = [m for m in one.members if not m.answers]
        late = [
            (m, kind, most)
            for kind, most in _most(one).items()
            for m in one.members
            if m.answers and m.counts.get(kind, 0) < most and m.rank not in waits
        ]
        if 2 * len({m.rank for m, _, _ in late}) > one.size:
            late = []  # more behind than not: they were looked at while they moved
        for m in absent:
            if m.rank not in told:
                told.add(m.rank)
                yield (
                    m.rank,
                    f"NCCL RAS: no answer from process {m.pid} on {m.host}{f' ({m.note})' if m.note else ''}",
                    False,
                )
        for m, kind, most in late:
            if m.rank not in told:
                told.add(m.rank)
                yield (
                    m.rank,
                    f"NCCL RAS: {m.counts.get(kind, 0)} {kind} launched in communicator {one.hash}, its peers {most}",
                    True,
                )


def _waiting(one: Communicator) -> set[int]:
    """Ranks that have launched all that was in a communicator of which a peer is behind: they wait there, wherever else they are late."""
    most = _most(one)
    late = {m.rank for m in one.members if not m.answers or any(m.counts.get(kind, 0) < n for kind, n in most.items())}
    return {m.rank for m in one.members if m.rank not in late} if late else set()


def _most(one: Communicator) -> dict[str, int]:
    kinds = {kind for m in one.members for kind in m.counts}
    return {kind: max((m.counts.get(kind, 0) for m in one.members if m.answers), default=0) for kind in sorted(kinds)}


def _communicator(row: Mapping[str, Any]) -> Communicator:
    members = [_member(r, answers=True) for r in row.get("ranks") or []]
    members += [_member(r, answers=False) for r in row.get("missing_ranks") or []]
    return Communicator(hash=str(row.get("hash", "")), size=int(row.get("size", len(members))), members=tuple(members))


def _member(row: Mapping[str, Any], *, answers: bool) -> Member:
    counts = {str(kind): int(count) for kind, count in (row.get("collective_counts") or {}).items()}
    status = row.get("status") or {}
    note = ", ".join(name for name in ("unresponsive", "considered_dead") if status.get(name))
    return Member(
        rank=int(row["rank"]),
        host=str(row.get("host", "")),
        pid=int(row.get("pid", 0)),
        answers=answers,
        counts=counts,
        note=note,
        device=int(row.get("cuda_dev", -1)),
    )


def _renamed(one: Communicator, whole: Mapping[tuple[str, int], int]) -> Communicator:
    members = tuple(msgspec.structs.replace(m, rank=whole.get((m.host, m.pid), m.rank)) for m in one.members)
    return msgspec.structs.replace(one, members=members)

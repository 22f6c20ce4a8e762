"""The records of one rank's recorder as columns: a table of numbers, with each name written once.

A job of thousands of ranks has millions of records. Nothing is done per record here that is not one call for a whole column.
"""

import marshal
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from operator import eq, is_, itemgetter
from typing import Any

import msgspec
import numpy as np

from detectors.tracehang.batches import close_batches, end_bare, follow_stream

# Of each group only the tail of what has completed matters to a hang; a wrapped ring holds no more of it anyway.
TAIL = 512
MOST_NAMES = 20_000
MOST_SHAPES = 4096
NEWEST_SHAPES = 400  # of so many of the newest records it is told how they compare
_SHAPE = ("input_dtypes", "input_sizes", "output_dtypes", "output_sizes")
_SHAPES = itemgetter(*_SHAPE)
_READ = ("process_group", "profiling_name", "state", "collective_seq_id")  # of every record
_FIELDS = itemgetter(*_READ)

# Operations whose types and sizes are the same on all ranks of a group, on one side at least.
ALIKE = ("all_reduce", "allreduce", "broadcast", "all_gather", "allgather", "reduce_scatter")
_MOST_FRAMES = 3

ROW = np.dtype([
    ("order", "<i8"), ("created_ns", "<i8"), ("seq", "<i4"), ("batch", "<i4"), ("peer", "<i4"), ("group", "<i2"), ("name", "<i2"),
    ("shape", "<i2"), ("sends", "?"), ("done", "?"), ("started", "?"),
])  # fmt: skip

_P2P = re.compile(r"(send|recv) (\d{1,7})(?:->|<-)(\d{1,7})")
_COALESCED = ":coalesced"
_NUMBER_MOST = 2**31 - 1
_MOST_CHARS = 1000  # of one name
_NEWEST = 64
_TIMES = ("time_created_ns", "time_discovered_started_ns", "time_discovered_completed_ns")

_SHORT = reprlib.Repr()  # its bounds are arguments from Python 3.12 on
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxstring = 4, 64, 64, 64

Entries = Sequence[Mapping[str, Any]]


class Op(msgspec.Struct, frozen=True, gc=False):
    """One operation of one group.

    order: the record's number in this process; seq: the group's collective number, for p2p that of its p2p numbering
    peer: group-local rank of the other side, -1 for a collective; sends: whether a p2p is a send
    started: its kernel has begun, where the recorder's timing is on; False says nothing
    batch: number of the coalesced launch it is part of, -1 none; frames: where the program called it, innermost first
    """

    order: int
    group: str
    seq: int
    name: str
    done: bool
    shape: str = ""
    peer: int = -1
    sends: bool = False
    started: bool = False
    batch: int = -1
    created_ns: int = 0
    frames: tuple[str, ...] = ()

    @property
    def p2p(self) -> bool:
        return self.peer >= 0


class Ring(msgspec.Struct, kw_only=True):
    """rows: bytes of a table of `ROW`, in recorded order

    shapes: types and sizes, of the newest operations that must be alike on all ranks and of those that have not completed
    frames: by row, of those that have not completed
    """

    rows: bytes = b""
    groups: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    frames: dict[int, tuple[str, ...]] = {}

    @property
    def table(self) -> np.ndarray:
        return np.frombuffer(self.rows, dtype=ROW)

    def __len__(self) -> int:
        return len(self.rows) // ROW.itemsize

    def at(self, row: int) -> Op:
        """One row as an operation."""
        order, created_ns, seq, batch, peer, group, name, shape, sends, done, started = self.table[row].item()
        return Op(
            order=order, group=self.groups[group], seq=seq, name=self.names[name], done=done, peer=peer, sends=sends, started=started,
            batch=batch, created_ns=created_ns, shape=self.shapes[shape] if shape >= 0 else "", frames=self.frames.get(row, ()),
        )  # fmt: skip

    def __iter__(self) -> Iterator[Op]:
        return map(self.at, range(len(self)))

    def fronts(self) -> list[Op]:
        """The first operation of each group (of each pair, for p2p) that has not completed, in recorded order."""
        table, firsts = self.table, dict[tuple[int, int, bool], int]()
        for row in np.flatnonzero(~table["done"]).tolist():
            one = table[row]
            firsts.setdefault((int(one["group"]), int(one["peer"]), bool(one["sends"])), row)
        return [self.at(row) for row in firsts.values()]

    def find(self, group: str, seq: int) -> Op | None:
        """A collective by its group's number; None where the ring does not hold it."""
        if group not in self.groups:
            return None
        table = self.table
        rows = np.flatnonzero((table["seq"] == seq) & (table["group"] == self.groups.index(group)) & (table["peer"] < 0))
        return self.at(int(rows[-1])) if len(rows) else None

    def newest(self) -> dict[str, tuple[int, int]]:
        """Of each group the highest collective number recorded, and the highest that has completed; -1 none."""
        table = self.table
        reached = np.full((2, len(self.groups)), -1, dtype=np.int64)
        collective = table["peer"] < 0
        for n, rows in enumerate((collective, collective & table["done"])):
            np.maximum.at(reached[n], table["group"][rows], table["seq"][rows])
        return {group: (int(reached[0, n]), int(reached[1, n])) for n, group in enumerate(self.groups)}

    def transferring(self) -> set[str]:
        """The groups with p2p operations."""
        table = self.table
        return {self.groups[n] for n in np.unique(table["group"][table["peer"] >= 0]).tolist()}

    def transfers_of(self, group: str) -> list[tuple[int, bool, int, int]]:
        """All p2p operations of a group: number, whether it sends, peer, order."""
        if group not in self.groups:
            return []
        table = self.table
        rows = table[(table["group"] == self.groups.index(group)) & (table["peer"] >= 0)]
        return list(zip(*(rows[name].tolist() for name in ("seq", "sends", "peer", "order")), strict=True))

    def transfers(self, group: str, peer: int, *, sends: bool) -> list[Op]:
        """The p2p operations with one peer in one direction that have not completed."""
        if group not in self.groups:
            return []
        table = self.table
        mine = (table["peer"] == peer) & (table["group"] == self.groups.index(group)) & (table["sends"] == sends) & ~table["done"]
        return [self.at(row) for row in np.flatnonzero(mine).tolist()]


def read_ring(entries: Entries) -> tuple[Ring, int, int, dict[str, tuple[str, str]]]:
    """Records as a recorder writes them -> their table, the highest record number, the latest time in them (Unix ns, 0 unknown),
    and of each group its process-local id and description.

    raises TypeError, ValueError, KeyError, OverflowError: a field is not of its kind
    """  # fmt: skip
    if not entries:
        return Ring(), -1, 0, {}
    columns = _Columns(entries)
    order = columns.order()
    groups, group = _numbered(columns.groups(), 32_000)
    names, name = _numbered(columns.column("profiling_name"), MOST_NAMES)
    table = np.zeros(len(entries), dtype=ROW)
    table["order"], table["group"], table["name"] = order, group, name
    p2p = [_P2P.search(one) for one in names]
    table["peer"] = np.array([int(found.group(3)) if found else -1 for found in p2p], dtype=np.int64)[name]
    table["sends"] = np.array([found is not None and found.group(1) == "send" for found in p2p], dtype=bool)[name]
    collective = transfer = columns.numbers("collective_seq_id", "seq_id")
    closes = np.array([one.endswith(_COALESCED) for one in names], dtype=bool)
    if any(p2p) or closes.any():
        transfer = columns.numbers("p2p_seq_id", "seq_id")
    table["seq"], table["batch"] = np.where(table["peer"] >= 0, transfer, collective), -1
    gloo = np.array([one.startswith("gloo:") for one in names], dtype=bool)[name]
    done = columns.done(gloo)
    keep = np.ones(len(table), dtype=bool)
    if closes.any():
        transfers = columns.facts("is_p2p")
        keep = close_batches(table, done, closes[name], group, collective, transfer) & ~(closes[name] & transfers)
    if any(p2p):
        end_bare(table, done, closes[name])
    table["done"] = done
    follow_stream(table, gloo)
    keep &= _tail(table)
    columns.note_times(table)
    described = {one: columns.described(int(np.argmax(group == n))) for n, one in enumerate(groups)}
    return _ring(table, keep, groups, names, entries), int(order.max()), columns.latest_ns(), described


class _Columns:
    """The records' fields, a column each; every value is looked at for its type, because whoever wrote the file chose it."""

    def __init__(self, entries: Entries) -> None:
        if set(map(type, entries)) != {dict}:
            raise TypeError("a record is not a table of fields")
        self.entries = entries
        try:  # each record is gone to once: that costs more than what is taken from it
            self._known = dict(zip(_READ, zip(*map(_FIELDS, entries), strict=True), strict=True))
        except KeyError:
            self._known = {}

    def column(self, key: str) -> Sequence[Any]:
        return self._known[key] if key in self._known else [entry.get(key) for entry in self.entries]

    def order(self) -> np.ndarray:
        """Record numbers; they count up by one in a recorder's own dump, which the two ends show."""
        first, last = (text(self.entries[n].get("record_id")) for n in (0, -1))
        if first.isdigit() and last.isdigit() and int(last) - int(first) == len(self.entries) - 1 and int(last) < 2**62:
            return np.arange(int(first), int(last) + 1, dtype=np.int64)
        column = self.column("record_id")
        return self._whole([n if one is None else one for n, one in enumerate(column)], "record_id")

    def numbers(self, key: str, alias: str) -> np.ndarray:
        """Sequence numbers, -1 where absent. alias: the name that old versions give it."""
        column = self.column(key)
        if set(map(type, column)) != {int}:
            column = [one if one is not None else other if other is not None else -1
                      for one, other in zip(column, self.column(alias), strict=True)]  # fmt: skip
        found: np.ndarray = np.clip(self._whole(column, key), -1, _NUMBER_MOST)
        return found

    def _whole(self, column: Sequence[Any], key: str) -> np.ndarray:
        if set(map(type, column)) != {int}:
            raise TypeError(f"{key} is not a whole number")
        return np.array(column, dtype=np.int64)

    def facts(self, key: str) -> np.ndarray:
        return np.fromiter(map(is_, self.column(key), repeat(True)), dtype=bool, count=len(self.entries))

    def done(self, gloo: np.ndarray) -> np.ndarray:
        """Which have completed: by state, and where that is none, by the time.

        `retired` alone is no end: the watchdog retires what has timed out too; gloo's state never leaves `scheduled`.
        """
        found = np.fromiter(map(eq, self.column("state"), repeat("completed")), dtype=bool, count=len(self.entries))
        for row in np.flatnonzero(~found)[-4 * TAIL :].tolist():
            found[row] = bool(self._time(row, "time_discovered_completed_ns"))
        if gloo.any():
            found |= gloo & self.facts("retired")
        return found

    def note_times(self, table: np.ndarray) -> None:
        """When those that have not completed were called, and whether their kernels have begun."""
        table["started"] = table["done"]
        for row in np.flatnonzero(~table["done"])[: 4 * TAIL].tolist():
            began = self.entries[row].get("state") == "started" or self._time(row, "time_discovered_started_ns") > 0
            table["started"][row], table["created_ns"][row] = began, self._time(row, "time_created_ns")

    def latest_ns(self) -> int:
        """The newest time among the newest records."""
        newest = range(max(0, len(self.entries) - _NEWEST), len(self.entries))
        return max(self._time(row, key) for row in newest for key in _TIMES)

    def _time(self, row: int, key: str) -> int:
        value = self.entries[row].get(key)
        return value if type(value) is int and 0 < value < 2**62 else 0

    def groups(self) -> Sequence[Any]:
        """The name of each record's group; its process-local id where there is none, as old versions write."""
        column = self.column("process_group")
        if not set(map(type, column)) - {tuple, list} and all(column):
            return list(map(itemgetter(0), column))
        local = self.column("pg_id")
        return [one[0] if isinstance(one, tuple | list) and one else n for one, n in zip(column, local, strict=True)]

    def described(self, row: int) -> tuple[str, str]:
        """Process-local id and description of the group of one record."""
        entry = self.entries[row]
        named = entry.get("process_group")
        desc = named[1] if isinstance(named, list | tuple) and len(named) > 1 else ""
        return text(entry.get("pg_id")), text(desc)


def text(value: Any) -> str:
    """A name or a number as text; anything deeper is none: written out in full a few shared tuples can fill all memory."""
    if type(value) is str and len(value) <= _MOST_CHARS:
        return value
    return str(value)[:_MOST_CHARS] if isinstance(value, str | int) else ""


def _numbered(column: Sequence[Any], most: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Each text once, and which of them each record has."""
    if set(map(type, column)) != {str} or any(len(one) > _MOST_CHARS for one in set(column)):
        column = list(map(text, column))
    known = {one: n for n, one in enumerate(dict.fromkeys(column))}
    if len(known) > most:
        raise ValueError(f"over {most} different names")
    return tuple(known), np.fromiter(map(known.__getitem__, column), dtype=np.int64, count=len(column))


def _tail(table: np.ndarray) -> np.ndarray:
    """Which rows to keep: all that have not completed, and of each group the newest of the rest."""
    if len(table) <= TAIL:
        return np.ones(len(table), dtype=bool)
    grouped = np.argsort(table["group"], kind="stable")
    sizes = np.bincount(table["group"])
    from_end = np.empty(len(table), dtype=np.int64)
    from_end[grouped] = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(table))
    kept: np.ndarray = ~table["done"] | (from_end <= TAIL)
    return kept


def _ring(table: np.ndarray, keep: np.ndarray, groups: tuple[str, ...], names: tuple[str, ...], entries: Entries) -> Ring:
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(table["order"][rows], kind="stable")]
    kept = table[rows]
    waiting = np.flatnonzero(~kept["done"])[: 4 * TAIL]
    alike = np.array([any(word in one for word in ALIKE) for one in names], dtype=bool)[kept["name"]]
    alike[:-NEWEST_SHAPES] = False
    alike[waiting] = True
    kept["shape"] = -1
    shapes = _shapes(kept, np.flatnonzero(alike), [entries[n] for n in rows[alike].tolist()])
    frames = {n: called for n in waiting[:TAIL].tolist() if (called := _frames(entries[int(rows[n])].get("frames")))}
    return Ring(rows=kept.tobytes(), groups=groups, names=names, shapes=shapes, frames=frames)


def _shapes(table: np.ndarray, rows: np.ndarray, entries: Entries) -> tuple[str, ...]:
    """Write down for these rows which types and sizes each has, and return those; where there are too many the rest has none."""
    try:
        shapes = list(map(_SHAPES, entries))
    except KeyError:
        shapes = [tuple(entry.get(field) for field in _SHAPE) for entry in entries]
    try:
        keys = list(map(marshal.dumps, shapes))
    except ValueError:  # too deep, or of a kind that stands in no dump
        return ()
    known = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    numbers = np.fromiter(map(known.__getitem__, keys), dtype=np.int64, count=len(keys))
    table["shape"][rows] = np.where(numbers < MOST_SHAPES, numbers, -1)
    firsts = np.unique(numbers, return_index=True)[1][:MOST_SHAPES].tolist()
    return tuple(_shape(*shapes[n]) for n in firsts)


def _shape(*parts: Any) -> str:
    put, sizes, got, out = map(_SHORT.repr, parts)
    return f"{put}{sizes}->{got}{out}"


def _frames(frames: Any) -> tuple[str, ...]:
    """The innermost frames of the program itself, as a person would read them."""
    if not isinstance(frames, list):
        return ()
    own = [f for f in frames[:64] if isinstance(f, dict) and "/torch/" not in text(f.get("filename")) and text(f.get("filename"))]
    return tuple(f"{text(f.get('name'))} ({text(f.get('filename')).rsplit('/', 1)[-1]}:{text(f.get('line'))})" for f in own[:_MOST_FRAMES])

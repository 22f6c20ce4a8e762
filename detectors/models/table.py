"""The newest readings of all targets of one kind, a row for each; counters as growth per second. Bounded, and vectorised."""

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from detectors.models.signals import Signal, Signals
from holdfast.events import Samples
from holdfast.topology import Target

MOST_ROWS = 262_144
MOST_COLUMNS = 96
_MOST_SOURCES = 16_384
_FIELDS = ("values", "raw", "at")


class Kept(msgspec.Struct):
    """What a table remembers. cells: its arrays, as bytes; taken: when a source was last heard, and with which job"""

    targets: list[Target]
    jobs: list[str]
    signals: list[str]
    cells: dict[str, bytes]
    taken: dict[str, tuple[float, str]]


class _Places(msgspec.Struct):
    """Where the batches of a source go.

    given, rows: its targets that have a row here, by their places there and here; taken, columns: its signals that are compared, likewise
    counts: which of them are counters
    """

    targets: tuple[Target, ...]
    signals: tuple[str, ...]
    given: np.ndarray
    rows: np.ndarray
    taken: np.ndarray
    columns: np.ndarray
    counts: np.ndarray


class Table:
    """values: float64, shape (rows, signals), NaN: never read; raw: as it was reported; at: when, Unix seconds

    every_s: of what a source says within one such span of the clock the first is taken, 0 all
    targets, jobs: of each row; version: another one when these are others; columns: the signals, in the order of their first reading
    """

    def __init__(self, signals: Signals, *, every_s: float = 0.0) -> None:
        self._signals, self._every_s = signals, every_s
        self._begin()

    def _begin(self) -> None:
        self.targets: list[Target] = []
        self.jobs: list[str] = []
        self.columns: list[Signal] = []
        self.values, self.raw, self.at = (np.full((0, 0), np.nan) for _ in _FIELDS)
        self._row: dict[Target, int] = {}
        self._column: dict[str, int] = {}
        self._places: dict[str, _Places] = {}
        self._taken: dict[str, tuple[float, str]] = {}
        self.version = 0
        self.grouped: tuple[object, np.ndarray, list[np.ndarray], list[np.ndarray]] | None = None  # `looks` keeps it
        self._turned: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def row(self, target: Target) -> int:
        """A target's row, -1 if it has none."""
        return self._row.get(target, -1)

    def column(self, signal: str) -> int:
        """A signal's column, -1 if it has none."""
        return self._column.get(signal, -1)

    def take(self, seen: Samples) -> bool:
        """Note a batch; what is older than what is known is passed over. Returns whether anything in it is compared."""
        key = f"{seen.source} {seen.node}"
        at, job = self._taken.get(key, (-np.inf, seen.job))
        moved = job != seen.job
        if self._every_s and at <= seen.at and seen.at // self._every_s == at // self._every_s and not moved:
            return False  # by the clock, not since the one before: what is taken does not depend on when one began to listen
        places = self._of(seen, key)
        self._taken[key] = seen.at, seen.job
        while len(self._taken) > _MOST_SOURCES:
            del self._taken[next(iter(self._taken))]
        if not len(places.columns) or not len(places.rows):
            return False
        rows = places.rows
        cells = rows[:, None], places.columns
        read = seen.values[places.given[:, None], places.taken]
        earlier, since = self.raw[cells], self.at[cells]
        with np.errstate(invalid="ignore", divide="ignore"):
            past_s = seen.at - since
            grown = (read - earlier) / past_s
            # a counter that began anew has grown by nobody knows how much
            grown = np.where((past_s > 0.0) & (grown >= 0.0), grown, np.nan)
            newer = np.isfinite(read) & ~(past_s <= 0.0)
        self.values[cells] = np.where(newer, np.where(places.counts, grown, read), self.values[cells])
        self.raw[cells], self.at[cells] = np.where(newer, read, earlier), np.where(newer, seen.at, since)
        if moved or any(self.jobs[row] != seen.job for row in rows[:1].tolist()):
            for row in rows.tolist():
                self.jobs[row] = seen.job
            self.version += 1
        return True

    def sides(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(floor, ratio, side) of each column; side: 1 high, -1 low, 0 both."""
        if self._turned is None or len(self._turned[0]) != len(self.columns):
            turn = {"high": 1, "low": -1, "both": 0}
            rows = [(one.floor, one.ratio, turn[one.side]) for one in self.columns]
            floor, ratio, side = np.array(rows, dtype=np.float64).reshape(-1, 3).T
            self._turned = floor, ratio, side
        return self._turned

    def forget(self, before: float, nodes: Iterable[str] = ()) -> bool:
        """Leave out targets without a reading since, and those of these nodes. Returns whether rows have moved."""
        gone = set(nodes)
        last = np.max(np.where(np.isfinite(self.at), self.at, -np.inf), axis=1, initial=-np.inf)
        stays = [n for n, target in enumerate(self.targets) if last[n] >= before and target.node not in gone]
        if len(stays) == len(self.targets):
            return False
        self.targets, self.jobs = [self.targets[n] for n in stays], [self.jobs[n] for n in stays]
        for name in _FIELDS:
            setattr(self, name, getattr(self, name)[stays])
        self._row = {target: n for n, target in enumerate(self.targets)}
        self._places.clear()
        self.version += 1
        return True

    def _of(self, seen: Samples, key: str) -> _Places:
        known = self._places.get(key)
        if known is not None and known.targets == seen.targets and known.signals == seen.signals:
            return known
        taken = [(n, place) for n, name in enumerate(seen.signals) if (place := self._column_of(name)) >= 0]
        rows = [self._row_of(target) if taken else -1 for target in seen.targets]
        self._grow()
        while len(self._places) >= _MOST_SOURCES:
            del self._places[next(iter(self._places))]
        taken_of, columns = np.array(taken, dtype=np.int64).reshape(-1, 2).T
        placed = np.array(rows, dtype=np.int64)
        given = np.flatnonzero(placed >= 0)  # a full table has no place for more
        counts = np.array([self.columns[n].is_counter for n in columns.tolist()], dtype=bool)
        found = self._places[key] = _Places(seen.targets, seen.signals, given, placed[given], taken_of, columns, counts)
        for row in found.rows.tolist():
            self.jobs[row] = seen.job
        self.version += 1
        return found

    def _column_of(self, name: str) -> int:
        place = self._column.get(name)
        if place is None:
            signal = self._signals.of(name)
            if signal is None or len(self.columns) >= MOST_COLUMNS:
                return -1
            place = self._column[name] = len(self.columns)
            self.columns.append(signal)
        return place

    def _row_of(self, target: Target) -> int:
        row = self._row.get(target, -1)
        if row < 0 and len(self.targets) < MOST_ROWS:
            row = self._row[target] = len(self.targets)
            self.targets.append(target)
            self.jobs.append("")
        return row

    def _grow(self) -> None:
        shape = len(self.targets), len(self.columns)
        if self.values.shape != shape:
            more = [(0, new - old) for new, old in zip(shape, self.values.shape, strict=True)]
            for name in _FIELDS:
                setattr(self, name, np.pad(getattr(self, name), more, constant_values=np.nan))

    def kept(self) -> Kept:
        """What a restart needs."""
        names = [one.name for one in self.columns]
        return Kept([*self.targets], [*self.jobs], names, {name: getattr(self, name).tobytes() for name in _FIELDS}, dict(self._taken))

    def recall(self, kept: Kept) -> None:
        """Go on from what was kept; nothing is known if the signals are others by now."""
        self._begin()
        if any(self._column_of(name) < 0 for name in kept.signals):
            self._begin()
            return
        self.targets, self.jobs, self._taken = kept.targets, kept.jobs, kept.taken
        self._row = {target: n for n, target in enumerate(self.targets)}
        for name in _FIELDS:
            cells: Any = np.frombuffer(kept.cells[name], dtype=np.float64)
            setattr(self, name, cells.reshape(len(self.targets), len(self.columns)).copy())

"""What counters did between two readings: how much they grew within a time, whether they stand still, what they fell from."""

from dataclasses import dataclass, field

import msgspec
import numpy as np

from detectors.nodecheck.checks import Check
from holdfast.events import Samples
from holdfast.topology import Target

MOST_SOURCES = 16_384
MOST_LEDGERS = 65_536
_MOST_ENTRIES = 64


class Earlier(msgspec.Struct):
    """The batch before of one source. values: float64 as bytes, a row for each target."""

    at: float
    targets: tuple[Target, ...]
    signals: tuple[str, ...]
    values: bytes


class Ledger(msgspec.Struct):
    """When a counter grew by how much, within the longest time asked for. best: the highest reading of a signal that may fall."""

    entries: list[tuple[float, float]] = []
    grown_at: float = 0.0
    best: float = 0.0


@dataclass(frozen=True)
class Grown:
    """Differences of one batch to the one before, NaN where there is none; a counter that began anew has grown by nothing."""

    column: dict[str, int]
    by: np.ndarray | None

    def still(self, signal: str) -> np.ndarray:
        """Targets whose reading is the same as before."""
        if self.by is None or signal not in self.column:
            return np.array(False)
        return np.asarray(self.by[:, self.column[signal]] == 0.0)


@dataclass
class Growth:
    """The memory of counters, bounded: the sources and targets not seen for longest are forgotten first."""

    earlier: dict[str, Earlier] = field(default_factory=dict)
    ledgers: dict[str, Ledger] = field(default_factory=dict)

    def of(self, seen: Samples, values: np.ndarray) -> Grown:
        """Compare a batch with the one before of the same source and kind."""
        key = f"{seen.source} {seen.node} {seen.targets[0].kind}"
        before = self.earlier.pop(key, None)
        self.earlier[key] = Earlier(seen.at, seen.targets, seen.signals, values.tobytes())
        while len(self.earlier) > MOST_SOURCES:
            del self.earlier[next(iter(self.earlier))]
        column = {signal: n for n, signal in enumerate(seen.signals)}
        if before is None or before.at > seen.at:
            return Grown(column, None)
        return Grown(column, values - _aligned(before, seen))

    def grew(self, check: Check, seen: Samples, grown: Grown) -> np.ndarray:
        """Which targets' counter has grown by as much as the check says, within its time."""
        fits = np.zeros(len(seen.targets), dtype=bool)
        if grown.by is None or check.grows not in grown.column:
            return fits
        by = grown.by[:, grown.column[check.grows]]
        rising = np.flatnonzero(by > 0.0).tolist()
        for n in rising:
            ledger = self._ledger(check, seen.targets[n])
            ledger.entries.append((seen.at, float(by[n])))
            ledger.grown_at = seen.at
            ledger.entries = [entry for entry in ledger.entries if seen.at - entry[0] <= check.within_s]
            if len(ledger.entries) > _MOST_ENTRIES:
                (at, first), (_, second), *rest = ledger.entries
                ledger.entries = [(at, first + second), *rest]
            fits[n] = sum(amount for _, amount in ledger.entries) >= check.by
        return fits

    def is_quiet(self, check: Check, target: Target, at: float) -> bool:
        """Whether a counter has stood still for so long that its claim is over."""
        ledger = self.ledgers.get(_key(check, target))
        if ledger is not None and at - ledger.grown_at < check.quiet:
            return False
        self.ledgers.pop(_key(check, target), None)
        return True

    def fell(self, check: Check, seen: Samples, readings: np.ndarray) -> np.ndarray:
        """Which targets read less than the check's ratio of the best they have had."""
        fits = np.zeros(len(seen.targets), dtype=bool)
        for n, value in enumerate(readings.tolist()):
            if value == value:
                ledger = self._ledger(check, seen.targets[n])
                ledger.best = max(ledger.best, value)
                fits[n] = value < check.ratio * ledger.best
        return fits

    def forget(self, node: str) -> None:
        """A node has booted: its counters begin anew, and its links have not been faster yet."""
        for key in [key for key in self.ledgers if key.endswith(f" {node}")]:
            del self.ledgers[key]

    def _ledger(self, check: Check, target: Target) -> Ledger:
        key = _key(check, target)
        ledger = self.ledgers.get(key)
        if ledger is None:
            while len(self.ledgers) >= MOST_LEDGERS:
                del self.ledgers[next(iter(self.ledgers))]
            ledger = self.ledgers[key] = Ledger()
        return ledger


def _key(check: Check, target: Target) -> str:
    return f"{check.id} {check.signal} {target.kind} {target.id} {target.node}"


def _aligned(before: Earlier, seen: Samples) -> np.ndarray:
    """The readings before in the rows and columns of the batch now, NaN where there were none."""
    old = np.frombuffer(before.values, dtype=np.float64).reshape(len(before.targets), len(before.signals))
    if before.targets == seen.targets and before.signals == seen.signals:
        return old
    rows = {target: n for n, target in enumerate(before.targets)}
    columns = {signal: n for n, signal in enumerate(before.signals)}
    shared = [(n, columns[signal]) for n, signal in enumerate(seen.signals) if signal in columns]
    aligned = np.full((len(seen.targets), len(seen.signals)), np.nan)
    for n, target in enumerate(seen.targets):
        m = rows.get(target)
        if m is not None:
            for here, there in shared:
                aligned[n, here] = old[m, there]
    return aligned

"""How fast a job steps and what it reports with its steps: the latest steps of its present attempt."""

import itertools
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from holdfast.events import Steps

MOST_ROWS = 64
MOST_SOURCES = 65_536
MOST_PHASES = 32
# A rate is taken over this long; without a token for so long, and for three usual steps, it is 0.
WINDOW_S = 60.0
_CHECKPOINT = "phase.checkpoint_s"


@dataclass
class Row:
    """One step of all ranks heard of so far. seconds, tokens: NaN where nobody says."""

    ended_at: float
    seconds: float
    tokens: float
    ranks: int


class Stepped(NamedTuple):
    """A step that has ended. stall_s: what a checkpoint took of it, None where it was not told; bad_loss: it was no number."""

    step: int
    ended_at: float
    stall_s: float | None
    bad_loss: bool


@dataclass
class Pace:
    """The latest steps, and each source's newest one as it came: figures are taken from the arrays when they are asked for."""

    _rows: dict[int, Row] = field(default_factory=dict)
    _latest: dict[str, tuple[int, tuple[str, ...], np.ndarray]] = field(default_factory=dict)
    _makes_tokens: bool = False

    def clear(self) -> None:
        """Another attempt begins."""
        self._rows.clear()
        self._latest.clear()

    def take(self, seen: Steps) -> Iterator[Stepped]:
        """Take in a batch; its steps one by one, the oldest first."""
        if not seen.steps.size:
            return
        first, last = int(seen.steps.min()), int(seen.steps.max())
        if first == last:
            values = seen.values
            yield self._take(seen, last, values, float(seen.ended_at.max()))
        else:
            for step in np.unique(seen.steps)[-MOST_ROWS:].tolist():
                rows = seen.steps == step
                values = seen.values[rows]
                yield self._take(seen, step, values, float(seen.ended_at[rows].max()))
        self._latest[seen.source] = (last, seen.signals, values)
        if len(self._latest) > MOST_SOURCES:
            del self._latest[next(iter(self._latest))]

    def note(self, step: int, ended_at: float) -> None:
        """A step of which only its end is known."""
        self._row(step, ended_at)

    # --- figures; None where the job does not say enough

    def tokens_per_s(self, now: float, tokens_per_step: float | None) -> float | None:
        """Tokens per second of the latest steps, 0 when the last one is too long ago."""
        if tokens_per_step is None and not self._makes_tokens:
            return None
        rows = self._whole()
        usual_s = self.step_s() or 0.0
        window_s = max(WINDOW_S, 3.0 * usual_s)
        if not rows or now - rows[-1][1].ended_at > window_s:
            return 0.0
        (_, newest), recent = rows[-1], [row for row in rows if row[1].ended_at >= rows[-1][1].ended_at - window_s]
        if len(recent) == 1:
            tokens = newest.tokens if tokens_per_step is None else tokens_per_step
            return tokens / usual_s if usual_s > 0 else 0.0
        (first, oldest), (last, _) = recent[0], recent[-1]
        told = sum(row.tokens for _, row in recent[1:])
        tokens = told if tokens_per_step is None else tokens_per_step * (last - first)
        seconds = newest.ended_at - oldest.ended_at
        return tokens / seconds if seconds > 0 else 0.0

    def step_s(self) -> float | None:
        """Seconds of a step: as the ranks say, otherwise from one end to the next."""
        told = [row.seconds for row in self._rows.values() if row.seconds > 0]
        if not told:
            rows = sorted(self._rows.items())
            told = [(b.ended_at - a.ended_at) / (m - n) for (n, a), (m, b) in itertools.pairwise(rows)]
        return statistics.median(told) if told else None

    @property
    def ranks(self) -> int:
        """How many ranks have told of one step."""
        return max((row.ranks for row in self._rows.values()), default=0)

    def newest(self) -> "Newest":
        """What the ranks report with the newest step; agents tell one after the other, so the step before it is new enough."""
        newest = max((step for step, _, _ in self._latest.values()), default=0)
        alike: dict[tuple[str, ...], list[np.ndarray]] = {}
        for step, signals, values in self._latest.values():
            if step >= newest - 1:
                alike.setdefault(signals, []).append(values)
        return Newest([(signals, np.concatenate(tables)) for signals, tables in alike.items()])

    # --- how it is kept

    def _take(self, seen: Steps, step: int, values: np.ndarray, ended_at: float) -> Stepped:
        row = self._row(step, ended_at)
        row.ranks += len(values)
        if (seconds := _column(seen.signals, values, "step_s")) is not None and seconds.size:
            row.seconds = _median(seconds)
        if (tokens := _column(seen.signals, values, "tokens")) is not None and tokens.size:
            row.tokens = float(tokens.sum()) + (0.0 if np.isnan(row.tokens) else row.tokens)
            self._makes_tokens = True
        stall = _column(seen.signals, values, _CHECKPOINT)
        bad = _column(seen.signals, values, "loss_nan")
        return Stepped(
            step, ended_at,
            stall_s=float(stall.max()) if stall is not None and stall.size else None,
            bad_loss=bad is not None and bool((bad > 0).any()),
        )  # fmt: skip

    def _row(self, step: int, ended_at: float) -> Row:
        row = self._rows.get(step)
        if row is None:
            row = self._rows[step] = Row(ended_at, np.nan, np.nan, 0)
            if len(self._rows) > MOST_ROWS:
                del self._rows[min(self._rows)]
        row.ended_at = max(row.ended_at, ended_at)
        return row

    def _whole(self) -> list[tuple[int, Row]]:
        """The steps in their order, without a newest one of which some ranks have not told yet."""
        rows = sorted(self._rows.items())
        if len(rows) > 1 and rows[-1][1].ranks < rows[-2][1].ranks:
            rows.pop()
        return rows


class Newest:
    """One step of many ranks. tables: signals and their values, shape (ranks, signals), for each way in which agents report."""

    def __init__(self, tables: list[tuple[tuple[str, ...], np.ndarray]]) -> None:
        self._tables = tables

    def median(self, signal: str) -> float | None:
        """The median over the ranks that report a number."""
        values = self._of(signal)
        return _median(values) if values.size else None

    def phases(self) -> Iterator[tuple[str, float, float]]:
        """Each phase with the median and the greatest of its seconds over the ranks."""
        signals = dict.fromkeys(name for names, _ in self._tables for name in names)
        phases = [name for name in signals if name.startswith("phase.") and name.endswith("_s")]
        for name in phases[:MOST_PHASES]:
            values = self._of(name)
            if values.size:
                yield name[len("phase.") : -len("_s")], _median(values), float(values.max())

    def _of(self, signal: str) -> np.ndarray:
        columns = [column for names, values in self._tables if (column := _column(names, values, signal)) is not None]
        return np.concatenate(columns) if columns else np.empty(0)


def _column(signals: tuple[str, ...], values: np.ndarray, signal: str) -> np.ndarray | None:
    """The numbers of one signal, those who do not report it left out; None where nobody could."""
    if signal not in signals:
        return None
    column = values[:, signals.index(signal)]
    return np.asarray(column[np.isfinite(column)])


def _median(values: np.ndarray) -> float:
    """The median of at least one number, without np.median's checks, which cost more than the rest of a page."""
    low, high = (values.size - 1) // 2, values.size // 2
    ordered = np.partition(values, (low, high))
    return float((ordered[low] + ordered[high]) / 2.0)

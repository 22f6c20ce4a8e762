"""Tells the writers of one output apart, and which of their step lines belong to which attempt."""

import math
import re
from collections.abc import Callable

import msgspec

from detectors.joblog.prefix import bare
from detectors.training.forms import Told

MOST_LANES = 4096
MOST_PREFIX = 256
_LAG = 2  # so many steps may one rank be behind another without having been restarted

_STAMP = re.compile(r"\d{4}[-/]\d\d[-/]\d\d[T _]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?")


class Lane(msgspec.Struct):
    """One writer. last: its last step; stride: between its last two; clock_s, skipped, epoch: what it said last; -1: not yet."""

    attempt: int
    last: int = -1
    stride: int = 1
    clock_s: float = math.nan
    skipped: int = -1
    epoch: float = -1.0


class Lanes:
    """The writers of one output. attempt: the newest of any of them."""

    def __init__(self) -> None:
        self.attempt = 0
        self._lanes: dict[str, Lane] = {}
        self._writers: dict[str, str] = {}
        self._prefix = ("", "")  # the last, and its writer
        self._numbered = -1  # step of the latest line that told no loss

    def place(self, prefix: str, row: Told, told: Callable[[int, int], float | None]) -> tuple[Lane, int]:
        """The writer of a record and the number of its step; turns its running counts into those of this step.

        prefix: what stands before the record in its line; told: attempt and step -> the loss that is known of them
        """
        lane = self._lane(prefix, row)
        step = row.step if row.step >= 0 else self._step_of(lane, row)
        ahead = step - lane.last if lane.last >= 0 else 0
        # a nameless rank that tells the very same again was not restarted, however far behind it is
        if ahead < 0 and not _same(told(lane.attempt, step), row.loss) and (row.step < 0 or -ahead > _LAG * lane.stride):
            self.attempt = max(self.attempt, lane.attempt + 1)
            lane.attempt, lane.clock_s, lane.skipped = self.attempt, math.nan, -1
        elif ahead > 0:
            lane.stride = ahead
        _count(lane, row, ahead)
        lane.epoch = lane.epoch if row.epoch is None else row.epoch
        lane.last = step
        if row.step >= 0 and row.loss is None:
            self._numbered = step
        return lane, step

    def _lane(self, prefix: str, row: Told) -> Lane:
        writer = f"rank {row.rank}" if row.rank >= 0 else self._writer(prefix) if prefix and not prefix.isspace() else ""
        name = writer if row.step >= 0 else f"{writer} without steps"
        lane = self._lanes.get(name)
        if lane is None:
            while len(self._lanes) >= MOST_LANES:
                del self._lanes[next(iter(self._lanes))]
            lane = self._lanes[name] = Lane(self.attempt)
        return lane

    def _writer(self, prefix: str) -> str:
        if prefix == self._prefix[0]:
            return self._prefix[1]
        whole, prefix = prefix, _STAMP.sub("", prefix[:MOST_PREFIX])  # else each second would be a writer of its own
        writer = self._writers.get(prefix)
        if writer is None:
            while len(self._writers) >= MOST_LANES:
                del self._writers[next(iter(self._writers))]
            writer = self._writers[prefix] = bare(prefix).stream
        self._prefix = (whole, writer)
        return writer

    def _step_of(self, lane: Lane, row: Told) -> int:
        """A number for a record that has none: that of the numbered line beside it, else the count of its kind."""
        beside, self._numbered = self._numbered, -1
        if beside > lane.last or (beside >= 0 and lane.attempt < self.attempt):
            return beside
        if row.epoch is not None and row.epoch < lane.epoch and lane.last > 0:
            return max(0, int(lane.last * row.epoch / lane.epoch) - 1)  # the run began again from a checkpoint
        return lane.last + 1 if lane.last >= 0 else 1


def _count(lane: Lane, row: Told, ahead: int) -> None:
    """The time and the skipped steps of this step alone, from what is counted from the start of the run."""
    if row.clock_s is not None:
        if ahead > 0 and row.clock_s > lane.clock_s:
            row.step_s = (row.clock_s - lane.clock_s) / ahead
        lane.clock_s = row.clock_s
    if row.skipped_so_far is not None:
        row.skipped = max(0, row.skipped_so_far - lane.skipped) if lane.skipped >= 0 else 0
        lane.skipped = row.skipped_so_far


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return False
    return one == other or (math.isnan(one) and math.isnan(other))

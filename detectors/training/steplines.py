"""Reads step lines out of any job output: prefixes, wrapped records, interleaved ranks and restarts told apart.

The output of a parser is one record a step and attempt, in order; what is held back for that is bounded.
"""

import math
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from detectors.joblog.prefix import ANSI
from detectors.scan import blocks, rows, scan_of
from detectors.training.forms import Overflow, Told, goes_on, is_cut, overflow, tells_a_pause, told
from detectors.training.lanes import Lanes
from detectors.training.layout import Layouts

MOST_HELD = 4096
MOST_WRAPS = 8
MOST_CHARACTERS = 16_384

_WORDS = ("loss", "Loss", "iteration  ", "grad_norm", "SamplesPerSec=", "skipped=", "OVERFLOW", "current_steps", "step_time",
          "checkpoint at iteration", "model checkpoint", "eval_")  # fmt: skip


class Record(msgspec.Struct, gc=False):
    """One step of one attempt. line: of its first telling; see `Told` for the rest.

    skipped: steps thrown away since the record before; scale_gone: no lower loss scale was left
    paused: an evaluation or a checkpoint was told since the record before
    """

    attempt: int
    step: int
    line: int
    loss: float | None = None
    grad_norm: float | None = None
    lr: float | None = None
    step_s: float | None = None
    tokens_per_s: float | None = None
    samples_per_s: float | None = None
    loss_scale: float | None = None
    skipped: int = 0
    nan_iterations: int = 0
    scale_gone: bool = False
    paused: bool = False


_SHARED = ("loss", "grad_norm", "lr", "step_s", "tokens_per_s", "samples_per_s", "loss_scale")


class Steplines:
    """A streaming parser of one output. held: records kept back so that other ranks can add to them.

    lines: read so far; records: given or held so far; late: told of steps that were given out before
    """

    def __init__(self, *, held: int = MOST_HELD) -> None:
        self.lines = self.records = self.late = 0
        self._most = held
        self._scan = scan_of(_WORDS)
        self._lanes, self._layouts = Lanes(), Layouts()
        self._held: dict[tuple[int, int], Record] = {}
        self._given = (-1, -1)  # attempt and step of the latest record that was given out
        self._open: tuple[int, str, int] | None = None  # line, text and wraps of a record that is not whole yet
        self._overflows: list[Overflow] = []
        self._paused = False

    def read(self, file: BinaryIO) -> Iterator[Record]:
        """Every record of an open file."""
        for first, block in blocks(file):
            yield from self.feed(first, block)
        yield from self.close()

    def feed(self, first: int, block: bytes) -> Iterator[Record]:
        """Take whole lines. first: number of the block's first line, from 1."""
        starts, found = self._scan.rows_of(block)
        bounds = starts.tolist()
        self.lines += len(bounds) - 1
        # a wrapped record goes on in lines that hold none of the words
        for row in rows(found, len(bounds) - 1, lambda: self._open is not None):
            text = block[bounds[row] : min(bounds[row + 1], bounds[row] + (1 << 20))].decode("utf-8", "replace").rstrip("\r\n")
            known = self._layouts.told(text) if self._open is None else None
            if known is not None:
                self._note(first + row, known[1], known[0])
            else:
                for part in text.split("\r") if "\r" in text else (text,):
                    self._take(first + row, part[:MOST_CHARACTERS])
            if len(self._held) > self._most:
                yield from self._give(self._most // 2)

    def close(self) -> Iterator[Record]:
        """The output has ended."""
        self._close_open()
        if self._overflows and self._held:
            self._add_overflows(self._held[max(self._held)])
        yield from self._give(0)

    def _take(self, number: int, text: str) -> None:
        if "\x1b" in text:
            text = ANSI.sub("", text)
        if self._open is not None:
            begun, front, wraps = self._open
            if wraps < MOST_WRAPS and goes_on(front, text):
                self._open = None
                self._whole(begun, front + text, wraps + 1)
                return
            self._close_open()
        if lost := overflow(text):
            self._overflows.append(lost)
            del self._overflows[:-64]
        else:
            self._whole(number, text, 0)

    def _whole(self, number: int, text: str, wraps: int) -> None:
        """Note a record that ends here, keep one that does not."""
        row = told(text)
        if is_cut(text, row):
            self._open = (number, text, wraps)
        elif row is not None:
            if not wraps:
                self._layouts.learn(text, row)
            self._note(number, text[: max(0, row.start)], row)
        elif tells_a_pause(text):
            self._paused = True

    def _close_open(self) -> None:
        if self._open is not None:
            (number, text, _), self._open = self._open, None
            if row := told(text):
                self._note(number, text[: max(0, row.start)], row)

    # --- one record a step

    def _note(self, number: int, prefix: str, row: Told) -> None:
        if row.step < 0 and row.loss is None:
            return
        lane, step = self._lanes.place(prefix, row, self._told)
        self._keep(number, lane.attempt, step, row)

    def _told(self, attempt: int, step: int) -> float | None:
        """The loss that is known of a step."""
        record = self._held.get((attempt, step))
        return None if record is None else record.loss

    def _keep(self, number: int, attempt: int, step: int, row: Told) -> None:
        key = (attempt, step)
        record = self._held.get(key)
        if record is None:
            if key <= self._given:
                self.late += 1
                return
            self.records += 1
            record = self._held[key] = Record(
                attempt, step, number, row.loss, row.grad_norm, row.lr, row.step_s, row.tokens_per_s, row.samples_per_s,
                row.loss_scale, row.skipped, row.nan_iterations, False, self._paused,
            )  # fmt: skip
            self._paused = False
        else:
            _add(record, row)
        if self._overflows:
            self._add_overflows(record)

    def _add_overflows(self, record: Record) -> None:
        record.skipped = max(record.skipped, len(self._overflows))  # an optimiser counts the same ones beside it
        for lost in self._overflows:
            record.loss_scale = record.loss_scale if lost.scale is None else lost.scale
            record.scale_gone = record.scale_gone or lost.fatal
        self._overflows.clear()

    def _give(self, keep: int) -> Iterator[Record]:
        for key in sorted(self._held)[: len(self._held) - keep]:
            self._given = key
            yield self._held.pop(key)


def _add(record: Record, row: Told) -> None:
    """What another rank, or another line, says of the same step; what was said first stands."""
    for field in _SHARED:
        value = getattr(row, field)
        if value is not None and getattr(record, field) is None:
            setattr(record, field, value)
    if row.loss is not None and not math.isfinite(row.loss):
        record.loss = row.loss  # one rank without a number is a job without one
    record.skipped = max(record.skipped, row.skipped)
    record.nan_iterations = max(record.nan_iterations, row.nan_iterations)

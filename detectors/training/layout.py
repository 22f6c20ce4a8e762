"""Reads step lines of a shape that has been met before: the words between the numbers are the same, so only the numbers are read.

A layout is learned from one line that `forms.told` has understood, and kept only if it reads the very same out of it.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from detectors.joblog.prefix import STAMP
from detectors.training.forms import MOST_CHARACTERS, Told, Value, clock_s, values_of

MOST_LAYOUTS = 32
MOST_TRIES = 16  # lines that are looked at for a new layout and teach none that is used
LEAST_SEEN = 3  # lines of unknown shapes before one is learned: making it costs as much as reading some hundred

_NUMBER = re.compile(r"[-+]?\d[\d.]{0,40}(?:[eE][-+]?\d{1,4})?")
_ANY = r"(?:[-+.0-9eE]{1,42}+|[-+]?(?:nan|NaN|inf|Infinity))"  # possessive: a line that does not fit fails at once
_STAMPS = re.compile(STAMP)


class Layout(NamedTuple):
    """One shape. form: matches a whole line; reads: place in `Told` of each group, and what makes its number of a text.

    prefix: what stands before the record, of the line that taught it: the same writer's; known: `Told` without its numbers
    """

    form: re.Pattern[str]
    reads: tuple[tuple[int, Callable[[str], float]], ...]
    prefix: str
    known: tuple[Any, ...]

    def told(self, text: str) -> Told | None:
        """What a line of this shape says, None if it is of another, or a number of it is none."""
        match = self.form.fullmatch(text)
        if match is None:
            return None
        row = [*self.known]
        try:
            for (place, read), value in zip(self.reads, match.groups(), strict=True):
                row[place] = read(value)
        except ValueError:
            return None
        return Told(*row)


class Layouts:
    """The shapes met so far, the last used first; bounded, and given up where lines are of ever new shapes."""

    def __init__(self) -> None:
        self._known: list[Layout] = []
        self._tries, self._seen = MOST_TRIES, 0

    def told(self, text: str) -> tuple[Told, str] | None:
        """What a line of a known shape says, and what stands before the record in all lines of its shape."""
        for layout in self._known:
            row = layout.told(text)
            if row is not None:
                if layout is not self._known[0]:
                    self._known.remove(layout)
                    self._known.insert(0, layout)
                self._tries = MOST_TRIES
                return row, layout.prefix
        return None

    def learn(self, text: str, row: Told) -> None:
        """Take in the shape of a line that was understood. row: what it says."""
        self._seen += 1
        if self._tries <= 0 or self._seen < LEAST_SEEN:
            return
        self._tries -= 1
        layout = layout_of(text, row)
        if layout is not None:
            self._known = [layout, *self._known[: MOST_LAYOUTS - 1]]


def layout_of(text: str, row: Told) -> Layout | None:
    """The shape of a line, None if it reads anything else out of the line than `row`."""
    values = sorted(values_of(text), key=lambda value: value.start)
    if len(text) > MOST_CHARACTERS or not values or values[0].start < row.start or row.loss is None:
        return None  # a loss that is left out may mean that there was no number
    start = max(0, row.start)
    pieces, at = [_words(text[:start], _STAMPS, STAMP)], start
    for value in values:
        kept = r"([\d:, days]{4,32})" if value.is_clock else r"(\d{1,12})" if value.whole else f"({_ANY})"
        pieces += [_words(text[at : value.start], _NUMBER, _ANY), kept]
        at = value.end
    pieces.append(_words(text[at:], _NUMBER, _ANY))
    known = msgspec.structs.astuple(Told(start=row.start, plain=row.plain))
    reads = tuple((Told.__struct_fields__.index(value.field), _read(value)) for value in values)
    layout = Layout(re.compile("".join(pieces)), reads, text[:start], known)
    return layout if _same(layout.told(text), row) else None


def _read(value: Value) -> Callable[[str], float]:
    if value.is_clock:
        return clock_s
    if value.whole:
        return int
    factor = value.factor
    return float if factor == 1.0 else lambda text: float(text) * factor


def _same(one: Told | None, other: Told) -> bool:
    """Whether two say the same; numbers that are none are the same."""
    return one is not None and repr(one) == repr(other)


def _words(text: str, form: re.Pattern[str], instead: str) -> str:
    """Words, with anything that `form` finds in the place of what it finds here."""
    pieces, at = [], 0
    for found in form.finditer(text):
        pieces += [_spaced(text[at : found.start()]), instead]
        at = found.end()
    return "".join([*pieces, _spaced(text[at:])])


def _spaced(text: str) -> str:
    """Words as they are, with any number of blanks before and behind: numbers are printed in columns."""
    inner = re.escape(text.strip(" "))
    if not inner:
        return " +" if text else ""
    return f"{' +' if text[0] == ' ' else ''}{inner}{' +' if text[-1] == ' ' else ''}"

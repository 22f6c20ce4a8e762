"""Brings the times of several writers together: years that stamps leave out, clocks that are ahead, times that are missing."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from statistics import median

import msgspec

from detectors.joblog.marks import Mark, Step
from detectors.joblog.prefix import YEARLESS

LEAST_ALIKE = 3
LEAST_SKEW_S = 2.0
_MOST_SPREAD = 0.1
_STEP = re.compile(r"(?:iteration|global_step|current_steps['\"]?|\bstep)[ :=/]{1,16}(\d{1,12})")


def anchor(text: str) -> str:
    """What makes a line the same moment for every writer: the step it tells of, else the line itself; "": neither."""
    said = _STEP.search(text)
    return f"step {said.group(1)}" if said else (text[:200] if len(text) >= 16 else "")


def anchors(lines: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Moments of one writer: those that it told of once. lines: (text without its prefixes, Unix seconds)."""
    found: dict[str, float] = {}
    twice = set()
    for text, at in lines:
        name = anchor(text)
        if not at or not name:
            continue
        twice.update({name} & found.keys())
        found[name] = at
    return {name: at for name, at in found.items() if name not in twice}


def skews(told: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """By how many seconds each writer's clock is ahead of that of the one most others share moments with.

    told: writer -> its anchors. A writer is only corrected by moments that agree with each other.
    """
    if len(told) < 2:
        return {}
    first = max(sorted(told), key=lambda name: sum(len(told[name].keys() & other.keys()) for other in told.values()))
    found = {}
    for name, own in told.items():
        ahead = [at - told[first][moment] for moment, at in own.items() if moment in told[first]]
        if name == first or len(ahead) < LEAST_ALIKE:
            continue
        middle = median(ahead)
        spread = median(abs(value - middle) for value in ahead)
        if abs(middle) >= LEAST_SKEW_S and spread <= max(1.0, _MOST_SPREAD * abs(middle)):
            found[name] = middle
    return found


def aligned(marks: Sequence[Mark], ahead: Mapping[str, float], year: int) -> list[Mark]:
    """The same marks by one clock. ahead: file -> seconds, see `skews`; year: see `year_of`."""
    return [_at(mark, _dated(mark.at, year) - ahead.get(mark.file, 0.0)) if mark.at else mark for mark in marks]


def filled(marks: Sequence[Mark]) -> list[Mark]:
    """The same marks in the order of files and lines, each with a time if its file has any: of the line above, else below."""
    found = []
    for _, own in groupby(sorted(marks, key=lambda mark: (mark.file, mark.line)), key=lambda mark: mark.file):
        rows = list(own)
        known = next((mark.at for mark in rows if mark.at), 0.0)
        for mark in rows:
            known = mark.at or known
            found.append(_at(mark, known))
    return found


def _at(mark: Mark, at: float) -> Mark:
    return mark if mark.at == at else msgspec.structs.replace(mark, at=at)


def last_step_at(steps: Mapping[str, Sequence[Step]], ahead: Mapping[str, float], year: int) -> float:
    """When the job took the third of its last steps, 0.0 if no output tells: what was before it has been survived."""
    told = [_dated(last[-3].at, year) - ahead.get(file, 0.0) for file, last in steps.items() if len(last) >= 3 and last[-3].at]
    return max(told, default=0.0)


def year_of(marks: Sequence[Mark], steps: Mapping[str, Sequence[Step]]) -> int:
    """The year that stamps without one belong to, 0 if none says."""
    return _year([*(mark.at for mark in marks), *(step.at for last in steps.values() for step in last)])


def _year(times: Iterable[float]) -> int:
    whole = [at for at in times if at and not _is_yearless(at)]
    return datetime.fromtimestamp(max(whole), UTC).year if whole else 0


def _is_yearless(at: float) -> bool:
    return datetime.fromtimestamp(at, UTC).year == YEARLESS


def _dated(at: float, year: int) -> float:
    if not year or not _is_yearless(at):
        return at
    try:
        return datetime.fromtimestamp(at, UTC).replace(year=year).timestamp()
    except ValueError:  # the 29th of February
        return at

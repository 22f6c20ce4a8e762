"""The table of what is wrong with a node's readings: data in, rows with their conditions taken apart out."""

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import msgspec

from holdfast.faults import Action, Fault, NodeAction, Severity
from holdfast.topology import Kind


class ChecksError(ValueError):
    """A table of checks that is not one; the message names the file and the row."""


class Condition(NamedTuple):
    """signal OP factor * other, or signal OP number where `other` is "". op "missing": there is no such reading."""

    signal: str
    op: str
    number: float
    other: str


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the table; the meaning of each key stands at its head."""

    id: str
    fault: Fault
    severity: Severity
    action: Action
    node_action: NodeAction
    text: str
    when: tuple[str, ...] = ()
    kind: Kind | None = None
    grows: str = ""
    by: float = 1.0
    within_s: float = 3600.0
    quiet_s: float = 0.0
    falls: str = ""
    ratio: float = 1.0
    still: str = ""
    but: tuple[str, ...] = ()
    cause: str = ""
    samples: int = 1
    online: bool = True

    @property
    def signal(self) -> str:
        """The reading that the check is about: the counter, else the first of its conditions."""
        return self.grows or self.falls or self.still or _SIGNAL.split(self.when[0])[0]

    @property
    def quiet(self) -> float:
        """Seconds without growth after which a growing counter is over."""
        return self.quiet_s or max(self.within_s, 600.0)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    check: tuple[Check, ...]
    range: dict[str, tuple[float, float]] = {}


_SIGNAL = re.compile(r"\s")
_NAME = r"[a-z_]+\.[a-z0-9_.]+"
_FORM = re.compile(rf"^({_NAME}) (<=|>=|==|!=|<|>) (?:(-?\d[\d.e+]*)(?: \* ({_NAME}))?|({_NAME}))$")
_MISSING = re.compile(rf"^({_NAME}) is missing$")
_HOLE = re.compile(rf"\{{({_NAME})\}}")

# The end of a signal's name -> (factor, format): numbers as people write them.
_UNITS: tuple[tuple[str, float, str], ...] = (
    ("_per_s", 1.0, "{:.3g}"),
    ("_bps", 1e-9, "{:g} Gb/s"), ("_bytes", 2**-30, "{:.1f} GiB"), ("_hz", 1e-6, "{:.0f} MHz"), ("_ratio", 100.0, "{:.0f} %"),
    ("_c", 1.0, "{:.0f} C"), ("_w", 1.0, "{:.0f} W"), ("_gts", 1.0, "{:g} GT/s"), ("_s", 1.0, "{:.3g} s"), ("_rpm", 1.0, "{:.0f} rpm"),
)  # fmt: skip


class Checks:
    """Checks in the order of the table, taken apart; ranges: signal -> least and most it can be."""

    def __init__(self, rows: tuple[Check, ...], ranges: dict[str, tuple[float, float]]) -> None:
        self.rows, self.ranges = rows, ranges
        self.conditions = tuple(tuple(condition_of(text) for text in row.when) for row in rows)
        self.by_id: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            self.by_id.setdefault(row.id, []).append(number)

    @classmethod
    def read(cls, own: str = "") -> "Checks":
        """Read the table that comes with the package; the user's own file replaces checks of the same id and adds others.

        raises ChecksError: not TOML, an unknown key or word, a condition that cannot be read
        """
        shipped = (resources.files("detectors.nodecheck") / "checks.toml").read_text(encoding="utf-8")
        file = _parsed("checks.toml", shipped)
        if not own:
            return cls(file.check, file.range)
        try:
            text = Path(own).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ChecksError(f"{own}: {error}") from error
        mine = _parsed(own, text)
        replaced = {row.id for row in mine.check}
        kept = tuple(row for row in file.check if row.id not in replaced)
        return cls((*mine.check, *kept), {**file.range, **mine.range})


def condition_of(text: str) -> Condition:
    """Take a condition apart.

    raises ValueError: it is none
    """
    if (missing := _MISSING.match(text)) is not None:
        return Condition(missing.group(1), "missing", 0.0, "")
    found = _FORM.match(text)
    if found is None:
        raise ValueError(f"{text!r} is no condition")
    signal, op, number, times, other = found.groups()
    return Condition(signal, op, float(number) if number else 1.0, times or other or "")


def sentence(check: Check, values: dict[str, float]) -> str:
    """A check's text with the readings in it."""
    return _HOLE.sub(lambda hole: shown(hole.group(1), values.get(hole.group(1))), check.text)


def shown(signal: str, value: float | None) -> str:
    """A reading with its unit."""
    if value is None or value != value:
        return "?"
    for end, factor, form in _UNITS:
        if signal.endswith(end):
            return form.format(value * factor)
    return f"{value:.0f}" if value == int(value) else f"{value:g}"


def _parsed(name: str, text: str) -> _File:
    try:
        file = msgspec.convert(tomllib.loads(text), _File)
        for row in file.check:
            if not (row.when or row.grows or row.falls):
                raise ValueError(f"check {row.id!r} looks at nothing")
            if row.samples < 1 or row.by <= 0 or row.within_s <= 0:
                raise ValueError(f"check {row.id!r}: samples, by and within_s are above 0")
            for condition in row.when:
                condition_of(condition)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError) as error:
        raise ChecksError(f"{name}: {error}") from error
    return file

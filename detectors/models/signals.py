"""Which signals are compared between peers, and the least spread of each that is believed: `signals.toml`, read once."""

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from holdfast.faults import Fault

Least = Annotated[float, msgspec.Meta(ge=0.0)]


class SignalsError(ValueError):
    """Not such a table; the message names the file and the row."""


class Signal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row; the meaning of each key stands at the head of the table. turn: its place, the first counts most."""

    name: str
    fault: Fault
    why: str
    floor: Least = 0.0
    ratio: Least = 0.0
    side: Literal["high", "low", "both"] = "both"
    turn: int = 0

    @property
    def is_counter(self) -> bool:
        """Whether it is compared by its growth per second."""
        return self.name.endswith("_total")


class _Skip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    names: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    beginnings: tuple[str, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    signal: tuple[Signal, ...]
    ending: tuple[Signal, ...] = ()
    skip: _Skip = _Skip()


class Signals:
    """The table, asked by name."""

    def __init__(self, file: _File, *, name: str) -> None:
        for row in (*file.signal, *file.ending):
            if not row.floor and not row.ratio:
                raise SignalsError(f"{name}: {row.name!r} has neither floor nor ratio: peers that read the same would make it endless")
        self._rows = {row.name: msgspec.structs.replace(row, turn=turn) for turn, row in enumerate(file.signal)}
        self._endings, self._skip = file.ending, file.skip

    @classmethod
    def read(cls, own: str = "") -> "Signals":
        """The package's table, or a file of the user's own in its place. raises SignalsError: unreadable, not TOML, a bad row"""
        return _read(own)

    def of(self, name: str) -> Signal | None:
        """How a signal is compared, None where it is not."""
        row = self._rows.get(name)
        if row is not None:
            return row
        skip = self._skip
        if name in skip.names or name.endswith(skip.endings) or name.startswith(skip.beginnings):
            return None
        like = next((row for row in self._endings if name.endswith(row.name)), None)
        return msgspec.structs.replace(like, name=name, turn=len(self._rows)) if like is not None else None


@cache
def _read(own: str) -> Signals:
    name = own or "signals.toml"
    try:
        text = (Path(own) if own else resources.files("detectors.models") / "signals.toml").read_text(encoding="utf-8")
        return Signals(msgspec.convert(tomllib.loads(text), _File), name=name)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SignalsError(f"{name}: {error}") from error

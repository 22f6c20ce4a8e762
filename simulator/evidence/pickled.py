"""Writes many alike records as one pickle (protocol 2, as torch's own pickler lays it out): forms with holes, filled column by column."""

import itertools
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

# How a number that differs from record to record is written: opcode with its prefix, and the bytes that follow, as numpy has them.
WIDTHS: dict[str, tuple[bytes, str]] = {"int": (b"J", "<i4"), "long": (b"\x8a\x08", "<i8"), "float": (b"G", ">f8")}

_GET = [bytes((0x68, number)) for number in range(256)]
_PLAIN = {None: b"N", True: b"\x88", False: b"\x89"}


@dataclass(frozen=True)
class Hole:
    """A number that is filled in later. column: which; kind: a key of `WIDTHS`"""

    column: str
    kind: str


@dataclass
class Form:
    """A value's bytes. holes: (column, kind, where)"""

    data: bytearray = field(default_factory=bytearray)
    holes: list[tuple[str, str, int]] = field(default_factory=list)


class Writer:
    """Writes plain values; a text is written once and referred to afterwards."""

    def __init__(self) -> None:
        self._memo: dict[str, int] = {}

    def form(self, value: Any) -> Form:
        """A value as it is written here and now: what comes next in the stream may refer to its texts."""
        form = Form()
        self._write(form, value)
        return form

    def _write(self, form: Form, value: Any) -> None:
        kind = type(value)
        if kind is str:
            known = self._memo.get(value)
            form.data += _GET[known] if known is not None and known < 256 else self._text(value)
        elif kind is int:
            form.data += _whole(value)
        elif kind is dict:
            self._bracket(form, b"}(", itertools.chain.from_iterable(value.items()), b"u")
        elif kind is list:
            self._bracket(form, b"](", value, b"e")
        elif kind is tuple:
            self._bracket(form, b"", value, b"\x86")
        elif kind is Hole:
            opcode, width = WIDTHS[value.kind]
            form.data += opcode
            form.holes.append((value.column, value.kind, len(form.data)))
            form.data += bytes(int(width[-1]))
        else:
            form.data += _PLAIN[value]

    def _bracket(self, form: Form, opens: bytes, values: Iterable[Any], closes: bytes) -> None:
        form.data += opens
        for one in values:
            self._write(form, one)
        form.data += closes

    def _text(self, value: str) -> bytes:
        known = self._memo.get(value)
        if known is not None:
            return b"j" + struct.pack("<I", known)
        number = self._memo[value] = len(self._memo)
        data = value.encode()
        put = bytes((0x71, number)) if number < 256 else b"r" + struct.pack("<I", number)
        return b"X" + struct.pack("<I", len(data)) + data + put


@lru_cache(maxsize=65_536)
def _whole(value: int) -> bytes:
    if 0 <= value < 256:
        return bytes((0x4B, value))
    if 0 <= value < 65_536:
        return b"M" + struct.pack("<H", value)
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def fill(forms: Sequence[Form], which: np.ndarray, columns: dict[str, np.ndarray]) -> bytes:
    """The forms one after another, their holes filled. which: index of each record's form; columns: values by record"""
    if not len(which):
        return b""
    data = bytearray(b"".join([bytes(forms[n].data) for n in which]))
    lengths = np.asarray([len(form.data) for form in forms])
    starts = np.concatenate(([0], np.cumsum(lengths[which])[:-1]))
    room = np.frombuffer(data, dtype=np.uint8)
    kinds = {(column, kind) for form in forms for column, kind, _ in form.holes}
    for column, kind in sorted(kinds):
        places = np.asarray([next((at for c, _, at in form.holes if c == column), -1) for form in forms])[which]
        has = places >= 0
        numbers = columns[column][has].astype(WIDTHS[kind][1])
        width = numbers.dtype.itemsize
        room[(starts[has] + places[has])[:, None] + np.arange(width)] = numbers.view(np.uint8).reshape(-1, width)
    return bytes(data)

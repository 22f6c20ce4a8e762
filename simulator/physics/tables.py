"""The data files of the physics, read once and checked, and the error that says what cannot be."""

from collections.abc import Mapping
from importlib import resources
from typing import TypeVar

import msgspec

Row = TypeVar("Row")


class PhysicsError(ValueError):
    """Something asked for cannot be: an unknown kind, a layout that does not divide, a job that does not fit its memory."""


def rows_of(file: str, kind: type[Row]) -> dict[str, Row]:
    """The rows of a data file beside this module, by the name of their table.

    raises PhysicsError: a row has an unknown or a missing key; the message names the file and the key
    """
    data = resources.files("simulator.physics").joinpath(file).read_bytes()
    try:
        return msgspec.toml.decode(data, type=dict[str, kind])  # type: ignore[valid-type]
    except msgspec.DecodeError as error:
        raise PhysicsError(f"{file}: {error}") from error


def pick(rows: Mapping[str, Row], name: str, what: str) -> Row:
    """The row of this name. raises PhysicsError: there is none; the message lists those that are there"""
    try:
        return rows[name]
    except KeyError:
        raise PhysicsError(f"no {what} called {name!r}; known: {', '.join(sorted(rows))}") from None

"""What a node's sources say, as numbers with the place where each stands."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from holdfast.events import Samples
from holdfast.topology import JobId, Kind, NodeId, Target

MOST_NOTED = 200_000


class Place(NamedTuple):
    """Where a number stands. line: from 1, 0 for the file as a whole; name: the target as it is printed there."""

    file: str
    line: int
    text: str
    name: str


def numbered(text: str, most: int = 500) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1, each cut to so many characters: what is longer is no output of a tool."""
    for number, line in enumerate(text.splitlines(), 1):
        yield number, line[:most]


class Notes:
    """Readings of one node, in the order in which they were noted; the last of one signal counts.

    skipped: file -> why it could not be used
    dropped: readings over `MOST_NOTED`
    facts: what is known in words: "product", "driver", "gpu.model" ...
    """

    def __init__(self, node: str = "") -> None:
        self.node = node
        self.values: dict[Target, dict[str, float]] = {}
        self.places: dict[tuple[Target, str], Place] = {}
        self.skipped: dict[str, str] = {}
        self.facts: dict[str, str] = {}
        self.dropped = 0

    def add(self, kind: Kind, id: str, signal: str, value: float | None, place: Place) -> None:
        """Note a reading; None is no reading."""
        if value is None:
            return
        if len(self.places) >= MOST_NOTED:
            self.dropped += 1
            return
        target = Target(kind, id, node=self.node)
        self.values.setdefault(target, {})[signal] = value
        self.places[target, signal] = place

    def tell(self, signal: str, value: float | None, file: str, text: str, *, line: int = 0) -> None:
        """Note a reading of the node itself."""
        self.add(Kind.NODE, self.node, signal, value, Place(file, line, text, ""))

    def place(self, kind: Kind, id: str, signal: str) -> Place | None:
        """Where a reading stands, None if there is none."""
        return self.places.get((Target(kind, id, node=self.node), signal))

    def reading(self, kind: Kind, id: str, signal: str, otherwise: float) -> float:
        """A reading of a part of the node."""
        return self.values.get(Target(kind, id, node=self.node), {}).get(signal, otherwise)

    def get(self, signal: str) -> float | None:
        """A reading of the node itself."""
        return self.values.get(Target(Kind.NODE, self.node, node=self.node), {}).get(signal)

    def samples(self, at: float, *, source: str, job: str = "") -> list[Samples]:
        """One table for each kind of target."""
        kinds: dict[Kind, dict[Target, dict[str, float]]] = {}
        for target, row in self.values.items():
            kinds.setdefault(target.kind, {})[target] = row
        return [table(rows, at, source=source, node=self.node, job=job) for rows in kinds.values()]


def table(rows: dict[Target, dict[str, float]], at: float, *, source: str, node: str, job: str = "") -> Samples:
    """Rows of readings as one batch, NaN where a target has none of a signal."""
    signals = tuple(dict.fromkeys(signal for row in rows.values() for signal in row))
    column = {signal: n for n, signal in enumerate(signals)}
    values = np.full((len(rows), len(signals)), np.nan)
    for n, row in enumerate(rows.values()):
        for signal, value in row.items():
            values[n, column[signal]] = value
    targets = tuple(rows)
    return Samples(
        at=at, source=source, job=JobId(job), node=NodeId(node or targets[0].node), targets=targets, signals=signals, values=values
    )

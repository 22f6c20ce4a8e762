"""What a collector says of its own sources: that one is up, or down, and how much of it was lost."""

import numpy as np

from holdfast.events import Samples
from holdfast.topology import JobId, Kind, NodeId, Target

MOST_SOURCES = 65_536


class SourceStates:
    """Says `source.up` when it changes, and again each time a source is found down."""

    def __init__(self) -> None:
        self._up: dict[str, bool] = {}

    def of(self, source: str, now: float, *, up: bool, node: str = "", job: str = "") -> list[Samples]:
        """What is to be said of a source that was just looked at; nothing where it is up as before."""
        if up and self._up.get(source):
            return []
        if len(self._up) >= MOST_SOURCES and source not in self._up:
            del self._up[next(iter(self._up))]
        self._up[source] = up
        return [reading(source, {"source.up": float(up)}, now, node=node, job=job)]


def reading(source: str, values: dict[str, float], now: float, *, node: str = "", job: str = "") -> Samples:
    """One row of samples about a source itself."""
    return Samples(
        at=now, source=source, job=JobId(job), node=NodeId(node), targets=(Target(Kind.SOURCE, source, node=node),),
        signals=tuple(values), values=np.array([list(values.values())], dtype=np.float64),
    )  # fmt: skip

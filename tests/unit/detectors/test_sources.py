"""A source that cannot be read is a finding, and so is what it loses."""

import numpy as np
import pytest

from detectors.sources import Sources
from holdfast.events import Samples
from holdfast.topology import Kind, Target


def said(at: float, **signals: float) -> Samples:
    target = Target(Kind.SOURCE, "kmsg:n1", node="n1")
    names = tuple(f"source.{name}" for name in signals)
    return Samples(at=at, source="kmsg:n1", targets=(target,), signals=names, values=np.array([list(signals.values())]))


@pytest.mark.parametrize(
    ("readings", "claims"),
    [
        pytest.param([(0, 1.0), (60, 1.0)], [], id="a source that is up is no news"),
        pytest.param([(0, 0.0), (10, 0.0), (20, 1.0)], [], id="one that is away for a moment is none either"),
        pytest.param([(0, 0.0), (10, 0.0), (40, 0.0), (80, 0.0)], [("source.down", False)], id="one that stays away is claimed once"),
        pytest.param(
            [(0, 0.0), (40, 0.0), (60, 1.0), (70, 0.0), (75, 1.0)], [("source.down", False), ("source.down", True)],
            id="until it is read again",
        ),
    ],
)  # fmt: skip
def test_a_source_that_is_down(readings: list[tuple[float, float]], claims: list[tuple[str, bool]]) -> None:
    detector, found = Sources(), []
    for at, up in readings:
        found += list(detector.observe(said(1000.0 + at, up=up)))
        found += list(detector.tick(1000.0 + at))
    assert [(f.check, f.cleared) for f in found] == claims


@pytest.mark.parametrize(
    ("totals", "claims"),
    [
        pytest.param([0.0, 0.0], [], id="nothing is lost"),
        pytest.param([3.0, 5.0, 9.0], [False], id="a loss that grows is told once"),
        pytest.param([3.0, 3.0, 0.0, 0.0], [False], id="a counter that begins anew is no loss"),
        pytest.param([float("nan"), float("nan")], [], id="a reading that is missing says nothing"),
    ],
)
def test_a_source_that_loses(totals: list[float], claims: list[bool]) -> None:
    detector, found = Sources(), []
    for n, total in enumerate(totals):
        found += list(detector.observe(said(float(n), lost_total=total)))
    assert [f.cleared for f in found] == claims
    over = list(detector.tick(5000.0))
    assert [f.cleared for f in over] == [True] * len(claims)

"""Silence of an agent is said once, and is none where the service was away or the job is over."""

from collections.abc import Iterable

import pytest

from detectors.heartbeat import MOST_SOURCES, Heartbeat, Source
from holdfast.events import Observation
from holdfast.topology import NodeId
from tests.unit.detectors.seen import JOB, answers, claims, job, received


def ticks(first: int, last: int) -> list[float]:
    return [float(n) for n in range(first, last)]


SILENT, HEARD = "heartbeat.silent source agent:n0", "-heartbeat.silent source agent:n0"


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        pytest.param([1.0, received(1), *ticks(2, 16)], [], id="fifteen seconds are no silence"),
        pytest.param([1.0, received(1), *ticks(2, 60)], [SILENT], id="silence is said once"),
        pytest.param([1.0, received(1), *ticks(2, 20), received(20)], [SILENT, HEARD], id="a word withdraws it"),
        pytest.param(
            [1.0, received(9e9), *ticks(2, 20), received(-5), *ticks(20, 24)],
            [SILENT, HEARD],
            id="the agent's own clock does not count",
        ),
        pytest.param([1.0, received(1), 40.0, 41.0, 54.0], [], id="a service that was away accuses nobody"),
        pytest.param([1.0, received(1), 40.0, *ticks(41, 60)], [SILENT], id="but does so later"),
        pytest.param([1.0, received(1), job(2, "finished"), *ticks(2, 60)], [], id="an agent of a finished job may go"),
        pytest.param(
            [1.0, received(1), job(2, "failed"), received(3), *ticks(3, 60)],
            [],
            id="and may say a little more before it goes",
        ),
        pytest.param(
            [1.0, received(1), job(2, "failed"), job(5, "started", attempt=1), 5.0, received(5), *ticks(6, 60)],
            [SILENT],
            id="one that has started again is waited for",
        ),
        pytest.param(
            [1.0, received(1), *ticks(2, 20), job(20, "stopped"), *ticks(20, 40)],
            [SILENT, HEARD],
            id="a silent one whose job is over is no worry any more",
        ),
        pytest.param(
            [1.0, received(1), received(1, node="n1"), job(2, "finished", node="n1"), *ticks(2, 60)],
            [SILENT],
            id="an agent speaks of its own part of the job alone",
        ),
        pytest.param(
            [1.0, received(1), job(2, "finished", node="scheduler"), *ticks(2, 60)],
            [],
            id="the scheduler speaks for all",
        ),
    ],
)
def test_silence(stream: Iterable[Observation | float], said: list[str]) -> None:
    assert claims(answers(Heartbeat(), stream)) == said


def test_who_is_silent_for_a_day_is_given_up() -> None:
    said = answers(Heartbeat(forget_s=60.0), [1.0, received(1), *ticks(2, 80)])
    assert claims(said) == [SILENT, HEARD]


def test_the_agents_that_are_remembered_are_bounded() -> None:
    detector = Heartbeat()
    detector._sources = {str(n): Source(JOB, NodeId("n"), float(n)) for n in range(MOST_SOURCES)}
    list(detector.observe(received(1)))
    assert len(detector._sources) == MOST_SOURCES
    assert "0" not in detector._sources

"""Ports, heat, stalled engines, and the comparison with peers that some of it rests on."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.has.nic import Nic
from detectors.has.thermal import Thermal
from detectors.peers import robust_z
from detectors.serving.stall import EngineStall
from holdfast.events import Change, Changes, Observation
from holdfast.faults import Severity
from holdfast.topology import Kind, Target
from tests.unit.detectors.seen import answers, claims, samples

NAN = math.nan


def ready(at: float) -> Changes:
    return Changes(at=at, source="k8s", changes=(Change(target=Target(Kind.NODE, "n0"), state="ready", at=at),))


def port(states: str, *, every_s: float = 10.0, job: str = "j") -> list[Observation]:
    """One sample of one port per letter: u up, d down, ? not known."""
    value = {"u": 1.0, "d": 0.0, "?": NAN}
    return [samples(n * every_s, {"nic.up": [value[one]]}, kind=Kind.NIC, job=job) for n, one in enumerate(states)]


DOWN, UP, FLAPS, LOST = "nic.down nic 0", "-nic.down nic 0", "nic.flap nic 0", "nic.lost nic 0"


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        pytest.param(port("uuuu"), [], id="a link that is up"),
        pytest.param(port("ud"), [DOWN], id="a link that goes down is one at once"),
        pytest.param(port("d"), [DOWN], id="so is one that never was up"),
        pytest.param(port("uddd"), [DOWN], id="it is claimed once"),
        pytest.param(port("udu"), [DOWN, UP], id="and withdrawn when it is back"),
        pytest.param(port("ud?d?"), [DOWN], id="no reading is no change"),
        pytest.param(port("ududu", every_s=400.0), [DOWN, UP] * 2, id="two returns are bad luck"),
        pytest.param(port("udududu", every_s=400.0), [DOWN, UP, DOWN, UP, DOWN, UP, FLAPS], id="three are a port that flaps"),
        pytest.param(port("ududu"), [DOWN, UP, DOWN, FLAPS, UP], id="so are two losses in five minutes"),
        pytest.param([*port("ud"), 200.0, 260.0, 300.0], [DOWN, LOST], id="a port that stays down is lost"),
        pytest.param([*port("ud"), 300.0, *port("?" * 31 + "u")], [DOWN, LOST, UP], id="and stays so when the link comes back"),
        pytest.param([*port("ud"), 300.0, ready(400.0)], [DOWN, LOST, UP, f"-{LOST}"], id="until the node is back in service"),
        pytest.param(port("udududu", every_s=20_000.0), [DOWN, UP] * 3, id="not when they are half a day apart"),
        pytest.param(
            [*port("udududu", every_s=400.0), ready(9999.0)],
            [DOWN, UP] * 3 + [FLAPS, f"-{FLAPS}"],
            id="a mended node is clean",
        ),
    ],
)
def test_a_port(stream: list[Observation | float], said: list[str]) -> None:
    assert claims(answers(Nic(), stream)) == said


@pytest.mark.parametrize(("job", "severity"), [("j", Severity.ERROR), ("", Severity.WARNING)])
def test_a_port_that_a_job_uses_is_worse_than_an_idle_one(job: str, severity: Severity) -> None:
    assert [f.severity for f in answers(Nic(), port("ud", job=job))] == [severity]


# --- heat

COOL, HOT = [60.0, 61.0, 59.0, 60.0, 62.0, 60.0, 61.0, 60.0], [60.0, 61.0, 59.0, 93.0, 62.0, 60.0, 61.0, 60.0]
CLOCK, THROTTLED = [1.98e9] * 8, [1.98e9] * 3 + [1.2e9] + [1.98e9] * 4


def pages(*rows: Sequence[float] | tuple[Sequence[float], Sequence[float]]) -> list[Observation]:
    said: list[Observation] = []
    for n, row in enumerate(rows):
        heat, clock = row if isinstance(row, tuple) else (row, CLOCK[: len(row)])
        said.append(samples(10.0 * n, {"gpu.temp_c": heat, "gpu.sm_clock_hz": clock}))
    return said


HEAT, COLD = "thermal.hot device 3", "-thermal.hot device 3"


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        pytest.param(pages(COOL, COOL, COOL), [], id="even warmth"),
        pytest.param(pages(COOL, HOT, COOL), [], id="one hot sample is none"),
        pytest.param(pages(HOT, HOT), [HEAT], id="two are"),
        pytest.param(pages(HOT, HOT, HOT, COOL, HOT), [HEAT], id="one cool sample between is no end"),
        pytest.param(pages(HOT, HOT, COOL, COOL), [HEAT, COLD], id="two are"),
        pytest.param(pages(*[[h + 25.0 for h in COOL]] * 3), [], id="all hot alike is the hall, not a device"),
        pytest.param(pages(*[[60.0, 61.0, 59.0, 75.0, 62.0, 60.0, 61.0, 60.0]] * 3), [], id="warmer but not hot"),
        pytest.param(pages(*[HOT[:3] + HOT[3:4]] * 3), [HEAT], id="four are enough to compare"),
        pytest.param(pages(*[HOT[1:4]] * 3), [], id="three are not"),
        pytest.param(pages((COOL, THROTTLED), (COOL, THROTTLED)), [], id="a slow clock on a cool device is a limit"),
        pytest.param(
            pages(*[([82.0] * 8, THROTTLED)] * 2), [HEAT], id="a slow clock on a hot device among hot ones is heat"
        ),
        pytest.param(
            pages(HOT, HOT, *[[*HOT[:3], NAN, *HOT[4:]]] * 3, HOT),
            [HEAT],
            id="a reading that is missing is no cool one",
        ),
        pytest.param(pages(HOT, HOT, *[[NAN] * 8] * 3), [HEAT], id="a page without readings says nothing"),
        pytest.param(pages(*[(HOT, [NAN] * 8)] * 2), [HEAT], id="heat alone is enough"),
    ],
)
def test_heat(stream: list[Observation], said: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert claims(answers(Thermal(), stream)) == said


# --- engines


def engine(*rows: tuple[float, float]) -> list[Observation]:
    """(requests running, tokens made so far) at each sample."""
    return [
        samples(
            float(n),
            {"serving.requests_running": [running], "serving.generation_tokens_total": [tokens]},
            kind=Kind.INSTANCE,
        )
        for n, (running, tokens) in enumerate(rows)
    ]


STALLED, MOVES = "serving.stalled instance 0", "-serving.stalled instance 0"


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        pytest.param(engine((3, 10), (3, 20), (3, 30), (3, 40), (3, 50)), [], id="an engine that makes tokens"),
        pytest.param(engine((0, 10), (0, 10), (0, 10), (0, 10), (0, 10)), [], id="an idle one"),
        pytest.param(engine((3, 10), (3, 10), (3, 10)), [], id="a moment without tokens"),
        pytest.param(engine((3, 10), (3, 10), (3, 10), (3, 10)), [STALLED], id="three samples without"),
        pytest.param(engine(*[(3, 10)] * 20), [STALLED], id="are claimed once"),
        pytest.param(engine(*[(3, 10)] * 4, (3, 11)), [STALLED, MOVES], id="a token ends it"),
        pytest.param(engine(*[(3, 10)] * 4, (3, 0)), [STALLED, MOVES], id="so does a counter that begins anew"),
        pytest.param(engine((3, 10), (3, 10), (3, NAN), (3, 10)), [], id="no reading counts for nothing"),
        pytest.param(engine(*[(3, 10), (0, 10)] * 6), [], id="requests that end by themselves are no stall"),
    ],
)
def test_an_engine(stream: list[Observation], said: list[str]) -> None:
    assert claims(answers(EngineStall(), stream)) == said


# --- peers


@pytest.mark.parametrize(
    ("values", "odd"),
    [
        pytest.param([1.0, 1.0, 1.0, 9.0], [3], id="one of four"),
        pytest.param([1.0, 1.0, 9.0], [], id="three are too few"),
        pytest.param([1.0, 1.0, NAN, 9.0, math.inf], [], id="what is missing does not count"),
        pytest.param([5.0] * 8, [], id="all alike"),
        pytest.param([0.0] * 7 + [1.0], [7], id="around nothing"),
        pytest.param([100.0, 100.1, 99.9, 100.0, 101.0], [], id="within the floor"),
        pytest.param([], [], id="nobody"),
    ],
)
def test_the_odd_one(values: list[float], odd: list[int]) -> None:
    z = robust_z(np.array(values), floor=0.01)
    assert np.flatnonzero(np.abs(z) > 6.0).tolist() == odd


@given(st.lists(st.floats(-1e9, 1e9), min_size=4, max_size=40), st.randoms())
def test_whoever_stands_where_is_judged_alike(values: list[float], chance: Any) -> None:
    z = robust_z(np.array(values), floor=0.01)
    order = list(range(len(values)))
    chance.shuffle(order)
    assert np.allclose(robust_z(np.array(values)[order], floor=0.01), z[order])
    assert np.isfinite(z).all()

"""What is said of made up step times to which something happens at a known step, and that nothing is said of healthy ones."""

import numpy as np
import pytest

from tests.unit.training.series import chance, paced, paces

AT = 307


def usual(steps: int = 600, jitter: float = 0.01) -> np.ndarray:
    """Half a second a step, slow at first, and a checkpoint every hundred steps."""
    pace = 0.5 * (1.0 + jitter * np.abs(chance(1).normal(size=steps)))
    pace[:5] *= 20.0
    pace[100::100] *= 6.0
    return np.asarray(pace)


@pytest.mark.parametrize(
    ("factor", "steps", "kind", "heals"),
    [
        pytest.param(1.1, 600, "slow_shift", None, id="a tenth slower for good"),
        pytest.param(3.0, 600, "slow_shift", None, id="three times slower for good"),
        pytest.param(1.3, 80, "slow_shift", 80, id="slower for a while"),
        pytest.param(4.0, 1, "slow_spike", 1, id="one long step"),
        pytest.param(1.8, 5, "slow_spike", 5, id="some long steps"),
    ],
)
def test_a_run_that_gets(factor: float, steps: int, kind: str, heals: int | None) -> None:
    pace = usual()
    pace[AT : AT + steps] *= factor
    (said,) = paced(pace)
    assert (said.kind, said.signal) == (kind, "step_s")
    assert said.step == pytest.approx(AT, abs=1)
    assert said.recovered_at == (None if heals is None else pytest.approx(AT + heals, abs=1))
    assert said.after > 1.05 * said.before


def test_a_run_that_gets_faster_and_slow_again_is_slow_against_its_best() -> None:
    pace = usual()
    pace[200:AT] *= 0.7
    (said,) = paced(pace)
    assert said.kind == "slow_shift"
    assert said.step == pytest.approx(AT, abs=1)


@pytest.mark.parametrize("every", [40, 75, 150])
def test_long_steps_that_come_round_are_no_fault(every: int) -> None:
    pace = usual()
    pace[every::every] += 2.0
    assert paced(pace) == []


def test_a_slow_creep_is_no_shift() -> None:
    assert paced(usual(1500) * np.linspace(1.0, 1.3, 1500)) == []


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_fifty_healthy_runs_are_left_alone(first: int) -> None:
    assert {seed: said for seed in range(first, first + 50) if (said := paced(paces(seed)))} == {}


def test_sequences_of_any_length_make_no_pause() -> None:
    assert [said for seed in range(10) if (said := paced(np.exp(chance(seed).normal(0.0, 0.15, 1500))))] == []

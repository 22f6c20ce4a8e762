"""What is said of made up runs to which something happens at a known step, and that nothing is said of healthy ones."""

import math

import numpy as np
import pytest

from detectors.training.finite import Seen
from detectors.training.health import Health
from tests.unit.training.series import chance, judged, losses

AT = 300


def usual(steps: int = 600, seed: int = 1) -> np.ndarray:
    """A loss that falls slowly, with noise of two percent."""
    return np.asarray((2.0 + 8.0 / np.sqrt(np.arange(steps) + 4.0)) * (1.0 + 0.02 * chance(seed).normal(size=steps)))


def changed(how: str) -> np.ndarray:
    loss, after = usual(), np.arange(600 - AT)
    if how == "jumps for good":
        loss[AT:] *= 1.5
    elif how == "rises without end":
        loss[AT:] += 0.03 * after
    elif how == "runs away":
        loss[AT:] = np.minimum(loss[AT:] * 1.1**after, 1e6)
    elif how == "decays back":
        loss[AT:] *= 1.0 + 2.0 * np.exp(-after / 15.0)
    elif how == "is high for long and comes back":
        loss[AT : AT + 120] *= 1.6
    elif how == "is high for ten steps":
        loss[AT : AT + 10] *= 1.4
    elif how == "is threefold once":
        loss[AT] *= 3.0
    elif how == "has one hard batch":
        loss[AT] *= 1.4
    elif how == "is NaN once":
        loss[AT] = math.nan
    elif how == "is infinite for good":
        loss[AT:] = math.inf
    elif how == "is zero for good":
        loss[AT:] = 0.0
    return loss


@pytest.mark.parametrize(
    ("how", "kind", "heals"),
    [
        ("jumps for good", "divergence", None),
        ("runs away", "divergence", None),
        ("decays back", "spike", range(AT + 20, AT + 100)),
        ("is high for long and comes back", "spike", range(AT + 118, AT + 124)),
        ("is high for ten steps", "spike", range(AT + 9, AT + 12)),
        ("is threefold once", "spike", range(AT + 1, AT + 2)),
        ("is NaN once", "nan", range(AT + 1, AT + 2)),
        ("is infinite for good", "nan", None),
        ("is zero for good", "nan", None),
    ],
)
def test_a_loss_that(how: str, kind: str, heals: range | None) -> None:
    (said,) = judged(changed(how))
    assert (said.kind, said.signal) == (kind, "loss")
    assert said.step == (AT if how != "runs away" else pytest.approx(AT + 2, abs=2))
    assert said.recovered_at is None if heals is None else said.recovered_at in heals


def test_a_loss_that_rises_without_end_is_a_divergence_though_no_step_stands_out() -> None:
    (said,) = judged(changed("rises without end"))
    assert (said.kind, said.recovered_at) == ("divergence", None)
    assert AT <= said.step <= AT + 60
    assert said.before < said.after


@pytest.mark.parametrize("how", ["has one hard batch", "nothing happens to"])
def test_nothing_is_said_of_a_loss_that(how: str) -> None:
    assert judged(changed(how)) == []


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_fifty_healthy_runs_are_left_alone(first: int) -> None:
    assert {seed: said for seed in range(first, first + 50) if (said := judged(losses(seed)))} == {}


def test_a_bump_is_said_while_it_lasts_and_again_when_it_is_over() -> None:
    health = Health()
    said = [
        e for step, loss in enumerate(changed("is high for ten steps")) for e in health.take(Seen(step, float(loss)))
    ]
    assert [(e.kind, e.recovered_at is not None) for e in said] == [("spike", False), ("spike", True)]


def test_a_bump_at_the_very_end_is_a_spike_that_has_not_healed_yet() -> None:
    (said,) = judged(changed("jumps for good")[: AT + 6])
    assert (said.kind, said.recovered_at) == ("spike", None)


@pytest.mark.parametrize(
    ("norm", "kinds"),
    [
        pytest.param(0.5, [], id="a hard batch with the usual gradient"),
        pytest.param(40.0, ["spike"], id="a hard batch with a gradient that explodes"),
    ],
)
def test_the_gradient_backs_a_bump(norm: float, kinds: list[str]) -> None:
    norms = 0.5 + 0.05 * chance(2).normal(size=600)
    norms[AT] = norm
    said = judged(changed("has one hard batch"), norms)
    assert [e.kind for e in said] == kinds
    assert all(e.gradient > 50.0 for e in said)


def test_a_gradient_column_that_never_changes_backs_nothing() -> None:
    norms = np.full(600, 0.5)
    norms[AT] = 40.0
    assert judged(changed("has one hard batch"), norms) == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param([Seen(1, 0.0, math.nan)], [("nan", "loss", None)], id="a loss of zero with a gradient that is none is masked NaN"),
        pytest.param([Seen(n, 0.0, 0.5) for n in range(30)], [], id="a loss that was always zero"),
        pytest.param(
            [Seen(n, 2.0 - n / 90, math.nan if n == 15 else 0.5) for n in range(30)], [], id="one gradient that overflowed"
        ),
        pytest.param(
            [Seen(n, 2.0 - n / 90, math.nan if n > 15 else 0.5) for n in range(30)], [("nan", "grad_norm", None)],
            id="gradients without numbers in a row",
        ),
        pytest.param([Seen(n, None, nan_iterations=n > 3) for n in range(9)], [("nan", "loss", None)], id="NaN iterations are counted"),
        pytest.param(
            [Seen(n, None if n < 12 else 9.0, loss_scale=2.0 ** (20 - min(n, 12)), skipped=n < 12) for n in range(40)], [],
            id="the search for a loss scale at the start",
        ),
        pytest.param(
            [Seen(n, 2.0, loss_scale=max(1.0, 2.0 ** min(16, 40 - n)), skipped=n > 24) for n in range(50)],
            [("nan", "loss_scale", None)], id="a loss scale halved down to one",
        ),
        pytest.param([Seen(n, 2.0, loss_scale=1.0) for n in range(50)], [], id="a loss scale that is always one"),
        pytest.param([Seen(1, 2.0), Seen(2, 2.0, scale_gone=True)], [("nan", "loss_scale", None)], id="no loss scale is left"),
    ],
)  # fmt: skip
def test_steps_without_numbers(rows: list[Seen], said: list[tuple[str, str, int | None]]) -> None:
    health = Health()
    last = {(e.kind, e.signal): e.recovered_at for row in rows for e in health.take(row)}
    assert [(*key, healed) for key, healed in last.items()] == said


@pytest.mark.parametrize(("spread", "most"), [(0.3, 0), (0.6, 6)])
def test_losses_of_small_batches_are_left_alone(spread: float, most: int) -> None:
    """Ten runs of 2,000 steps of a loss whose noise has heavy tails; most: bumps beyond all measure that chance makes."""
    runs = [judged(1.2 * np.exp(chance(seed).normal(0.0, spread, 2000))) for seed in range(10)]
    assert sum(len(said) for said in runs) <= most
    assert all(one.recovered_at is not None for said in runs for one in said)

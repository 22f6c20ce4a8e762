"""What a running job's steps lead to: one claim per change, withdrawn when it heals, none where all is well."""

from collections.abc import Iterable

import numpy as np
import pytest

from detectors.training.online import Learning
from holdfast.events import Finding, Observation
from holdfast.faults import Perception, Severity
from tests.unit.detectors.seen import answers, claims, job, steps
from tests.unit.training.series import chance, losses

SPIKE, LOST, SLOW = "training.spike job j", "training.divergence job j", "training.slow_shift job j"


def stream(
    loss: Iterable[float], *, first: int = 0, node: str = "n0", ranks: int = 4, step_s: Iterable[float] = ()
) -> list[Observation]:
    took = iter(step_s)
    return [
        steps(1000.0 + n, n, {"loss": [value] * ranks, "step_s": [next(took, 1.0)] * ranks}, node=node)
        for n, value in enumerate(loss, first)
    ]


def usual(count: int, factor: float = 1.0, seed: int = 1) -> list[float]:
    return [float(2.0 * factor * (1.0 + 0.01 * value)) for value in chance(seed).normal(size=count)]


BUMP, HIGH = usual(6, 2.0), usual(200, 2.0)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        pytest.param(stream(usual(300)), [], id="a healthy job"),
        pytest.param(stream([*usual(100), *BUMP]), [SPIKE], id="a bump is watched"),
        pytest.param(stream([*usual(100), *BUMP, *usual(50)]), [SPIKE, f"-{SPIKE}"], id="and is over when it heals"),
        pytest.param(stream([*usual(100), *HIGH]), [SPIKE, f"-{SPIKE}", LOST], id="what does not heal is lost"),
        pytest.param(
            stream([*usual(100), *HIGH, *usual(20)]), [SPIKE, f"-{SPIKE}", LOST, f"-{LOST}"], id="until it comes back after all"
        ),
        pytest.param(
            [*stream([*usual(100), *HIGH]), job(2000.0, "restarting", attempt=1), *stream(usual(100))],
            [SPIKE, f"-{SPIKE}", LOST, f"-{LOST}"],
            id="or the job is started again",
        ),
        pytest.param([*stream([*usual(100), *BUMP]), job(2000.0, "finished")], [SPIKE, f"-{SPIKE}"], id="or ends"),
        pytest.param(
            stream(usual(200), step_s=[*[1.0] * 100, *[1.4] * 100]), [SLOW], id="a job that gets slower is watched"
        ),
        pytest.param(
            stream(usual(200), step_s=[*[1.0] * 100, *[1.4] * 50, *[1.0] * 50]), [SLOW, f"-{SLOW}"], id="until it is fast again"
        ),
        pytest.param(stream([*usual(100), *[float("nan")] * 50]), [], id="NaN is another's claim"),
    ],
)  # fmt: skip
def test_a_job(told: list[Observation], said: list[str]) -> None:
    assert claims(answers(Learning(), told)) == said


def test_only_a_divergence_opens_an_incident() -> None:
    found: list[Finding] = answers(Learning(), stream([*usual(100), *HIGH]))
    assert [(f.severity, f.perception, f.detail["step"]) for f in found if not f.cleared] == [
        (Severity.WARNING, Perception.LOSS_ANOMALY, 100), (Severity.ERROR, Perception.LOSS_ANOMALY, 100),
    ]  # fmt: skip


def test_agents_that_tell_of_the_same_steps_are_heard_once() -> None:
    pairs = zip(stream([*usual(100), *BUMP]), stream([*usual(100), *BUMP], node="n1"), strict=True)
    assert claims(answers(Learning(), [seen for pair in pairs for seen in pair])) == [SPIKE]


def test_another_agent_leads_where_the_first_falls_silent() -> None:
    told = [*stream(usual(40)), *stream([*usual(100), *BUMP], node="n1")]
    assert claims(answers(Learning(), told)) == [SPIKE]


def test_fifty_healthy_jobs_are_left_alone() -> None:
    told = {seed: claims(answers(Learning(), stream(np.asarray(losses(seed, 200))))) for seed in range(300, 350)}
    assert {seed: said for seed, said in told.items() if said} == {}

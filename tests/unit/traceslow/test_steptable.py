"""Step tables: phases tell who, step times alone tell only that, and what is even is healthy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.traceslow.offline import Slow
from detectors.traceslow.series import change
from holdfast.ports import Input
from holdfast.verdict import Verdict

RANKS, STEPS = 8, 40
Phases = dict[str, float]


def usual(step: int, rank: int) -> Phases:
    return {"forward_s": 0.3, "backward_s": 0.6, "data_s": 0.02}


def with_more(phase: str, seconds: float, who: Callable[[int, int], bool]) -> Callable[[int, int], Phases]:
    def phases(step: int, rank: int) -> Phases:
        table = usual(step, rank)
        return {**table, phase: table.get(phase, 0.0) + (seconds if who(step, rank) else 0.0)}

    return phases


def table(phases: Callable[[int, int], Phases], *, alone: bool = False) -> bytes:
    """A synchronous job: all ranks show the step of the slowest, who waits is in no phase."""
    noise = np.random.Generator(np.random.Philox(5)).normal(1.0, 0.01, (STEPS, RANKS))
    rows = []
    for step in range(STEPS):
        told = [{name: s * noise[step, rank] for name, s in phases(step, rank).items()} for rank in range(RANKS)]
        step_s = max(sum(one.values()) for one in told) + 0.05
        for rank, one in enumerate(told):
            rows.append([step, rank, step_s, *([] if alone else one.values())])
    names = ["step", "rank", "step_s", *([] if alone else phases(0, 0))]
    return "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]).encode()


def ask(folder: Path, data: bytes) -> Verdict:
    (folder / "steps.csv").write_bytes(data)
    return Slow().diagnose([Input(name="steps.csv", path=folder / "steps.csv")], {})


@pytest.mark.parametrize(
    ("data", "judgement", "cause", "culprits"),
    [
        pytest.param(table(usual), "healthy", "none", [], id="all ranks are even"),
        pytest.param(table(with_more("forward_s", 0.3, lambda _, r: r == 5)), "culprit", "slow_worker", ["5"], id="one forward is long"),
        pytest.param(table(with_more("data_s", 0.4, lambda _, r: r == 2)), "culprit", "data_loading", ["2"], id="one waits for its data"),
        pytest.param(
            table(with_more("backward_s", 0.3, lambda _, r: r in (1, 6))), "culprit", "slow_worker", ["1", "6"], id="two ranks are slow"
        ),
        pytest.param(
            table(with_more("wait_s", 0.4, lambda _, r: r != 3)), "healthy", "none", [], id="who waits is no culprit, and nobody works long"
        ),
        pytest.param(table(with_more("data_s", 0.4, lambda s, r: True)), "nobody", "data_loading", [], id="all wait for data"),
        pytest.param(
            table(with_more("checkpoint_s", 5.0, lambda s, _: s % 10 == 9)), "nobody", "checkpoint", [], id="checkpoints take long"
        ),
        pytest.param(table(with_more("gc_s", 0.6, lambda s, r: s % 8 == r)), "nobody", "gc", [], id="each collects garbage in its turn"),
        pytest.param(table(usual, alone=True), "healthy", "none", [], id="even steps alone"),
        pytest.param(
            table(with_more("forward_s", 0.3, lambda s, _: s >= 25), alone=True), "undecided", "global", [], id="steps alone become longer"
        ),
        pytest.param(
            table(with_more("forward_s", 3.0, lambda s, _: s % 9 == 4), alone=True), "undecided", "none", [], id="some steps alone are long"
        ),
    ],
)
def test_what_a_step_table_tells(tmp_path: Path, data: bytes, judgement: str, cause: str, culprits: list[str]) -> None:
    said = ask(tmp_path, data)
    assert (said.verdict, said.detail["cause"], sorted(c.id for c in said.culprits)) == (judgement, cause, culprits)
    assert ("missing" in said.detail) == (judgement == "undecided")
    assert (said.symptom == "slow") == (judgement != "healthy")


def test_the_slowdown_and_the_share_are_what_comes_back_without_the_rank(tmp_path: Path) -> None:
    said = ask(tmp_path, table(with_more("forward_s", 0.3, lambda _, r: r == 5)))
    detail: Any = said.detail
    assert detail["slowdown"] == pytest.approx(1.27 / 0.97, rel=0.02)
    assert said.culprits[0].share == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        pytest.param([1.0] * 9, (0, 1.0, 1.0), id="no change"),
        pytest.param([1.0] * 5 + [2.0] * 5, (5, 1.0, 2.0), id="a step"),
        pytest.param([1.0, 2.0] * 6, (0, 1.5, 1.5), id="to and fro is no change"),
        pytest.param([1.0, 9.0], (0, 5.0, 5.0), id="too short to tell"),
        pytest.param([float(n) for n in range(12)], (6, 2.5, 8.5), id="a slow drift"),
    ],
)
def test_where_a_series_changes(series: list[float], expected: tuple[int, float, float]) -> None:
    assert change(np.array(series)) == expected

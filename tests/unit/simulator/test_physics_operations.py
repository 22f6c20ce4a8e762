"""Operation traces of simulated steps, judged by the diagnoser that was written for real ones."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator, Philox

from detectors.traceslow import assemble
from detectors.traceslow.offline import Slow
from detectors.traceslow.replay import Replay
from detectors.traceslow.trace import Joined, read
from holdfast.ports import Input
from holdfast.verdict import Verdict
from simulator.physics.devices import device_kind
from simulator.physics.layout import Layout
from simulator.physics.models import model_shape
from simulator.physics.noise import jitter_of
from simulator.physics.operations import columns, operations
from simulator.physics.plan import Plan, plan
from simulator.physics.step import Conditions

STEPS = 12
EVEN = (7, 8, 8, 5)  # the head weighs as much as two layers and a bit


def job(**sizes: Any) -> Plan:
    layout = {"tp": 2, "pp": 4, "dp": 4, "global_batch": 32, "chunk_layers": EVEN, **sizes}
    return plan(model_shape("qwen2.5-7b"), device_kind("h200"), Layout(**layout))


def but(one: Plan, rank: int, value: float, usual: float = 1.0) -> np.ndarray:
    values = np.full(one.job.layout.world, usual)
    values[rank] = value
    return values


def write(folder: Path, one: Plan, change: Callable[[int], dict[str, Any]]) -> Path:
    """The trace of some steps with jitter and what `change` says of each."""
    path, at = folder / "trace.csv", 0.0
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        for n in range(STEPS):
            jitter = jitter_of(Generator(Philox(key=n)), one.passes, one.job.software)
            step = one.step(Conditions(jitter=jitter, **change(n)))
            table = columns(one.job, step, number=n, start_s=at)
            if not n:
                writer.writerow(table)
            writer.writerows(zip(*(column.tolist() for column in table.values()), strict=True))
            at += step.step_s
    return path


def judged(path: Path) -> Verdict:
    return Slow().diagnose([Input(name=path.name, path=path)], {})


def test_a_replay_of_the_trace_takes_as_long_as_the_step(tmp_path: Path) -> None:
    one = job()
    path = write(tmp_path, one, lambda n: {"data_s": but(one, 3, 0.01, 0.0)})
    joined = Joined()
    joined.add(read(path, path.name))
    replay = Replay(assemble.operations(joined))
    assert replay.loose == 0
    np.testing.assert_allclose(replay.step_times([replay.own_s])[0], replay.measured_s, rtol=1e-3)


@pytest.mark.parametrize(
    ("one", "change", "verdict", "cause", "culprits"),
    [
        pytest.param(job(), lambda one, n: {}, "healthy", "none", [], id="jitter blames nobody"),
        pytest.param(
            job(), lambda one, n: {"compute": but(one, 10, 1.5)}, "culprit", "slow_worker", ["10"], id="a slow device is named",
        ),
        pytest.param(
            job(), lambda one, n: {"compute": but(one, 11, 1.5)}, "culprit", "slow_worker", ["10"],
            id="of a tensor group the traced rank is named, since all of them wait alike",
        ),
        pytest.param(
            job(pp=2, chunks=2, chunk_layers=(7, 7, 8, 6)), lambda one, n: {"compute": but(one, 10, 1.5)}, "culprit", "slow_worker", ["10"],
            id="an interleaved pipeline is read as well",
        ),
        pytest.param(
            job(chunk_layers=(5, 5, 5, 13)), lambda one, n: {}, "nobody", "stage_imbalance", [], id="a heavy last stage blames nobody",
        ),
        pytest.param(
            job(tp=4, sequence=32_768),
            lambda one, n: {"squares": Generator(Philox(key=n)).choice([0.05, 1.0], size=one.passes[2:])},
            "nobody", "sequence_imbalance", [], id="uneven documents blame nobody",
        ),
    ],
)  # fmt: skip
def test_the_diagnoser_says_of_a_simulated_trace_what_is_true(
    one: Plan, change: Any, verdict: str, cause: str, culprits: list[str], tmp_path: Path
) -> None:
    said = judged(write(tmp_path, one, lambda n: change(one, n)))
    assert (said.verdict, said.detail["cause"], [culprit.id for culprit in said.culprits]) == (verdict, cause, culprits)


def test_every_pass_and_message_of_a_step_is_told_once() -> None:
    one = job()
    told = list(operations(one.job, one.step()))
    names = [row.name for row in told]
    passes = one.job.layout.micro_batches * one.job.layout.pp * one.job.layout.dp
    assert names.count("forward-compute") == names.count("backward-compute") == passes
    assert names.count("forward-send") == names.count("forward-recv") == passes * 3 // 4
    assert all(row.duration_s >= 0.0 for row in told)
    assert max(row.start_s + row.duration_s for row in told) == pytest.approx(one.step().step_s)

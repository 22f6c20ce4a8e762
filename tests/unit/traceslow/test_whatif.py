"""Verdicts on generated jobs of which it is known what slows them, and by how much."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.traceslow.offline import Slow
from holdfast.faults import Judgement
from holdfast.ports import Input
from holdfast.verdict import Verdict
from tests.unit.traceslow.job import BACKWARD_S, FORWARD_S, OPTIMIZER_S, REDUCE_S, Job, Op


def ask(tmp_path: Path, data: bytes, name: str = "trace.csv", **options: str) -> Verdict:
    path = tmp_path / name
    path.write_bytes(data)
    return Slow().diagnose([Input(name=name, path=path)], options)


def chance(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([n + 1 for n in key])))


def compute(op: Op) -> bool:
    return op.name.endswith("-compute")


def slower(factor: float, *places: tuple[int, int], since: int = 0) -> Callable[[Op, float], float]:
    """Computation takes `factor` times as long on these (dp, pp)."""
    return lambda op, s: s * factor if compute(op) and (op.dp, op.pp) in places and op.step >= since else s


def stage(factor: float, heavy: int) -> Callable[[Op, float], float]:
    return lambda op, s: s * factor if compute(op) and op.pp == heavy else s


def link(factor: float, dp: int, *senders: tuple[int, str]) -> Callable[[Op, float], float]:
    """Transfers of these (stage, operation) of a data rank take `factor` times as long."""
    return lambda op, s: s * factor if op.dp == dp and (op.pp, op.name) in senders else s


def sequences(op: Op, s: float) -> float:
    """Each micro-batch of each data rank has a length of its own."""
    return s * (0.6 + float(chance(op.step, op.dp, op.microbatch).exponential(0.4))) if compute(op) else s


def garbage(op: Op, s: float) -> float:
    """Forward work on random ranks holds a pause."""
    hit = op.name == "forward-compute" and chance(op.step, op.dp, op.pp, op.microbatch).random() < 0.02
    return s + 0.15 if hit else s


def all_since(step: int) -> Callable[[Op, float], float]:
    return lambda op, s: s * 1.4 if op.step >= step else s


@pytest.mark.parametrize(
    ("job", "culprits", "fault"),
    [
        pytest.param(Job(change=slower(1.5, (1, 2))), [("rank", "9", "slow_worker")], "unknown", id="one worker is slow"),
        pytest.param(
            Job(change=slower(1.5, (1, 2), (3, 0))),
            [("rank", "9", "slow_worker"), ("rank", "3", "slow_worker")],
            "unknown",
            id="two workers are slow",
        ),
        pytest.param(Job(change=slower(1.5, (1, 2), since=8)), [("rank", "9", "slow_worker")], "unknown", id="one becomes slow late"),
        pytest.param(Job(steps=1, change=slower(1.5, (1, 2))), [("rank", "9", "slow_worker")], "unknown", id="a single step is enough"),
        pytest.param(Job(dp=8, pp=1, change=slower(1.5, (3, 0))), [("rank", "3", "slow_worker")], "unknown", id="there are no stages"),
        pytest.param(Job(dp=2, change=slower(1.6, (1, 3))), [("rank", "7", "slow_worker")], "unknown", id="it has one peer only"),
        pytest.param(
            Job(change=lambda op, s: s * 2.0 if compute(op) and (op.dp, op.pp) == (1, 2) and op.step in (2, 5, 9) else s),
            [("rank", "9", "slow_worker")],
            "unknown",
            id="one worker is slow in some steps",
        ),
        pytest.param(
            Job(dp=8, steps=20, change=lambda op, s: slower(2.2, (1, 2))(op, sequences(op, s))),
            [("rank", "17", "slow_worker")],
            "unknown",
            id="one worker is slow among uneven sequences",
        ),
        pytest.param(
            Job(change=link(40, 1, (1, "forward-send"), (2, "backward-send"))),
            [("link", "5-9", "slow_link")],
            "fabric",
            id="a link is slow",
        ),
        pytest.param(
            Job(change=link(40, 1, (0, "forward-send"), (1, "backward-send"), (1, "forward-send"), (2, "backward-send"))),
            [("rank", "5", "slow_link")],
            "fabric",
            id="all links of a rank are slow",
        ),
        pytest.param(
            Job(dp=2, pp=2, change=lambda op, s: s * 30 if op.name == "grads-reduce-scatter" and op.pp == 1 else s),
            [("link", "2-3", "slow_link")],
            "fabric",
            id="the reduction of a pair is slow",
        ),
        pytest.param(
            Job(pauses=lambda step, dp, pp: [("data-load", 0.2 if (dp, pp) == (2, 0) else 0.002)]),
            [("rank", "2", "data_loading")],
            "storage",
            id="one rank waits for its data each time",
        ),
    ],
)
def test_who_is_to_blame_is_named(tmp_path: Path, job: Job, culprits: list[tuple[str, str, str]], fault: str) -> None:
    said = ask(tmp_path, job.play().csv())
    assert (said.verdict, said.fault) == (Judgement.CULPRIT, fault)
    assert [(c.kind, c.id, c.cause) for c in said.culprits] == culprits
    assert said.detail["cause"] == culprits[0][2]
    assert all(c.share is not None and c.share > 0.15 and c.confidence >= 0.7 and c.evidence for c in said.culprits)


@pytest.mark.parametrize(
    ("job", "judgement", "cause", "fault"),
    [
        pytest.param(Job(), "healthy", "none", "none", id="nothing is wrong"),
        pytest.param(Job(dp=8, noise=0.2), "healthy", "none", "none", id="noise is no fault"),
        pytest.param(Job(change=stage(1.6, 3)), "nobody", "stage_imbalance", "workload", id="the last stage is heavy"),
        pytest.param(Job(dp=2, change=stage(1.5, 1)), "nobody", "stage_imbalance", "workload", id="a middle stage is heavy"),
        pytest.param(Job(dp=1, change=stage(1.6, 3)), "nobody", "stage_imbalance", "workload", id="the last stage has one worker"),
        pytest.param(Job(dp=1, change=stage(1.6, 1)), "undecided", "stage_imbalance", "unknown", id="a middle stage has one worker"),
        pytest.param(Job(change=sequences), "nobody", "sequence_imbalance", "workload", id="sequences are uneven"),
        pytest.param(
            Job(dp=16, pp=2, steps=20, change=lambda op, s: stage(1.3, 1)(op, sequences(op, s))),
            "nobody",
            "sequence_imbalance",
            "workload",
            id="sequences are uneven and a stage is heavier",
        ),
        pytest.param(
            Job(dp=8, change=slower(1.5, (1, 0), (1, 1), (1, 2), (1, 3))), "nobody", "sequence_imbalance", "workload",
            id="all stages of one data rank on machines of their own",
        ),
        pytest.param(Job(change=garbage), "nobody", "gc", "workload", id="forward work holds pauses"),
        pytest.param(
            Job(pauses=lambda step, dp, pp: [("gc", 0.3)] if (step + dp * 3 + pp * 7) % 11 == 0 else []),
            "nobody",
            "gc",
            "workload",
            id="garbage collections hit random ranks",
        ),
        pytest.param(
            Job(pauses=lambda step, dp, pp: [("data-load", 0.12 if pp == 0 and (step * 7 + dp * 3) % 5 == 0 else 0.002)]),
            "nobody",
            "data_loading",
            "workload",
            id="loaders fall behind here and there",
        ),
        pytest.param(
            Job(pauses=lambda step, dp, pp: [("data-load", 0.12)]),
            "nobody",
            "data_loading",
            "storage",
            id="all wait for data in every step",
        ),
        pytest.param(
            Job(pauses=lambda step, dp, pp: [("checkpoint", 1.5)] if step % 6 == 5 else []),
            "nobody",
            "checkpoint",
            "storage",
            id="checkpoints hold up the job",
        ),
        pytest.param(Job(change=all_since(7)), "undecided", "global", "unknown", id="all become slower"),
        pytest.param(Job(steps=20, change=all_since(4)), "undecided", "global", "unknown", id="all become slower early"),
        pytest.param(
            Job(change=lambda op, s: s * 60 if op.name.endswith(("-send", "scatter")) and op.step >= 9 else s),
            "undecided",
            "global",
            "unknown",
            id="all transfers become slower",
        ),
        pytest.param(
            Job(dp=3, pp=2, change=lambda op, s: s * 30 if op.name == "grads-reduce-scatter" and op.pp == 1 else s),
            "undecided",
            "slow_link",
            "fabric",
            id="the reduction of a group of three is slow",
        ),
    ],
)
def test_nobody_is_blamed(tmp_path: Path, job: Job, judgement: str, cause: str, fault: str) -> None:
    said = ask(tmp_path, job.play().csv())
    assert (said.verdict, said.detail["cause"], said.fault, said.culprits) == (judgement, cause, fault, ())
    assert ("missing" in said.detail) == (judgement == "undecided")
    assert said.evidence[0].text.startswith("a step takes ")


def pipeline_s(forward_s: float, backward_s: float, job: Job) -> float:
    """A balanced 1F1B step without transfers: the first micro-batch goes down and up, the first stage does the others in turn."""
    return (job.microbatches + job.pp - 1) * (forward_s + backward_s) + REDUCE_S + OPTIMIZER_S


def test_the_slowdown_is_that_of_the_construction(tmp_path: Path) -> None:
    slow = slower(1.5, (1, 2))
    job = Job(noise=0.0, change=lambda op, s: 0.0 if op.name.endswith("send") else slow(op, s))
    detail: Any = ask(tmp_path, job.play().csv()).detail
    mean = 1 + 0.5 / 16
    ideal = pipeline_s(FORWARD_S * mean, BACKWARD_S * mean, job)
    assert detail["replayed_step_s"] == pytest.approx(detail["measured_step_s"], rel=1e-3)
    assert detail["ideal_step_s"] == pytest.approx(ideal, rel=1e-3)
    assert detail["slowdown"] == pytest.approx(detail["measured_step_s"] / ideal, rel=1e-3)


def test_tables_are_bounded_and_the_most_comes_first(tmp_path: Path) -> None:
    detail: Any = ask(tmp_path, Job(dp=16, change=slower(1.5, (1, 2))).play().csv()).detail
    assert [len(detail[name]) for name in ("by_worker", "by_stage", "by_op")] == [16, 4, 8]
    assert detail["by_worker"][0]["rank"] == 33
    assert detail["by_stage"][0]["stage"] == 2
    assert [row["share"] for row in detail["by_op"]] == sorted((row["share"] for row in detail["by_op"]), reverse=True)


def test_ranks_of_a_tensor_group_share_the_blame(tmp_path: Path) -> None:
    """They wait for one another within each operation: all of them look slow, and it may be any."""
    job = Job(change=slower(1.5, (1, 2))).play()
    twice = [(s, r * 2 + tp, dp, pp, tp, *rest) for s, r, dp, pp, _, *rest in job.rows for tp in (0, 1)]
    job.rows = twice  # type: ignore[assignment]
    said = ask(tmp_path, job.csv())
    assert sorted(c.id for c in said.culprits) == ["18", "19"]
    assert all(c.confidence < 0.7 for c in said.culprits)


def test_work_beside_the_computation_holds_nobody_up(tmp_path: Path) -> None:
    """Gradients that are reduced while the last backward runs cost nothing, and are in no ideal step's way."""
    job = Job().play()
    late = [row for row in job.rows if row[5] == "backward-compute" and row[9] == 7]
    job.rows += [(s, r, dp, pp, tp, "early-grads-reduce-scatter", start, 0.03, -1, -1) for s, r, dp, pp, tp, _, start, *_ in late]
    said = ask(tmp_path, job.csv())
    detail: Any = said.detail
    assert said.verdict is Judgement.HEALTHY
    assert detail["replayed_step_s"] == pytest.approx(detail["measured_step_s"], rel=0.01)


def test_time_that_no_operation_explains_is_said_to_be_missing(tmp_path: Path) -> None:
    job = Job().play()
    job.rows = [(*row[:6], row[6] * (1.0 if row[6] % 100.0 < 0.2 else 1.005), *row[7:]) for row in job.rows]
    said = ask(tmp_path, job.csv())
    assert (said.verdict, said.detail["cause"]) == (Judgement.UNDECIDED, "none")
    assert "data-load" in str(said.detail["missing"])


def test_the_order_of_rows_packing_and_names_of_columns_change_nothing(tmp_path: Path) -> None:
    job = Job(change=slower(1.5, (1, 2))).play()
    plain = ask(tmp_path, job.csv())
    lines = job.csv().splitlines()
    chance(1).shuffle(rows := lines[1:])
    header = b"step,rank,dp_rank,stage,tp_rank,optype,start_ts,duration,seq_id,mb_id"
    other = ask(tmp_path, gzip.compress(b"\r\n".join([header, *rows, b""])), name="trace.csv.gz")
    assert other.skipped == ()
    assert (other.detail, other.verdict) == (plain.detail, plain.verdict)


@pytest.mark.parametrize(
    "group",
    [
        pytest.param(lambda op, dp, pp: "dp" if "grads" in op else "pp", id="groups called after their dimension"),
        pytest.param(lambda op, dp, pp: f"data of stage {pp}" if "grads" in op else f"pipeline {dp}", id="groups with names of their own"),
        pytest.param(lambda op, dp, pp: "", id="groups that are not told"),
    ],
)
def test_groups_that_are_told_lead_to_the_same_answer(tmp_path: Path, group: Callable[[str, int, int], str]) -> None:
    job = Job(dp=2, pp=2, change=lambda op, s: s * 30 if op.name == "grads-reduce-scatter" and op.pp == 1 else s).play()
    plain = ask(tmp_path, job.csv())
    lines = job.csv().decode().splitlines()
    told = [f"{line},{group(row[5], row[2], row[3])}" for line, row in zip(lines[1:], job.rows, strict=True)]
    assert ask(tmp_path, "\n".join([lines[0] + ",group", *told]).encode()) == plain


@pytest.mark.parametrize("threshold", ["1.5", "2"])
def test_the_threshold_is_the_operators(tmp_path: Path, threshold: str) -> None:
    said = ask(tmp_path, Job(change=slower(1.5, (1, 2))).play().csv(), threshold=threshold)
    assert said.verdict is Judgement.HEALTHY


@pytest.mark.parametrize("threshold", ["1", "high", "nan", "-2"])
def test_a_threshold_that_is_none_is_refused(tmp_path: Path, threshold: str) -> None:
    with pytest.raises(ValueError, match="threshold"):
        ask(tmp_path, Job(steps=1).play().csv(), threshold=threshold)

"""The verdict on the operation trace of a real job, against the numbers published with it."""

import json
from typing import Any

import pytest

from detectors.traceslow.offline import Slow
from holdfast.ports import Input
from holdfast.verdict import Verdict
from tests.field.where import data


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    return Slow().diagnose([Input(name="trace", path=data("stragglers", "trace-ST.parquet"))], {})


@pytest.fixture(scope="module")
def published() -> Any:
    return json.loads(data("stragglers", "result-ST.json").read_text(encoding="utf-8"))


def test_a_last_stage_that_is_too_long_blames_nobody(verdict: Verdict) -> None:
    assert (verdict.verdict, verdict.fault, verdict.culprits, verdict.skipped) == ("nobody", "workload", (), ())
    assert verdict.detail["cause"] == "stage_imbalance"


def test_the_slowdown_is_the_published_one(verdict: Verdict, published: Any) -> None:
    assert verdict.detail["slowdown"] == pytest.approx(published["blocking_slowdown"], rel=0.005)


def test_step_times_are_the_published_ones(verdict: Verdict, published: Any) -> None:
    detail: Any = verdict.detail
    for ours, theirs in (("measured_step_s", "step_t_base"), ("replayed_step_s", "step_t_nodelay"), ("ideal_step_s", "step_t_noblk")):
        times = published[theirs].values()
        assert detail[ours] == pytest.approx(sum(times) / len(times), rel=0.005)


def test_stages_and_operations_cost_what_was_published(verdict: Verdict, published: Any) -> None:
    detail: Any = verdict.detail
    stages = {str(row["stage"]): row["slowdown"] for row in detail["by_stage"]}
    assert stages == pytest.approx(published["blocking_decompose_by_stage"], rel=0.01)
    kinds = published["blocking_decompose_by_optype"]
    ours = {row["op"]: row["slowdown"] for row in detail["by_op"] if row["op"] in kinds}
    assert len(ours) >= 9
    assert ours == pytest.approx({name: kinds[name] for name in ours}, rel=0.01)

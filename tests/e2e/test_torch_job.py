"""A real four-rank torch job on gloo breaks in six ways, is understood, repaired, and finishes."""

import json
from pathlib import Path

import pytest

from tests.e2e.jobs import diagnose, run_job, torch_job

pytest.importorskip("torch", reason="torch is not installed: requirements-train.lock holds it, for Python 3.11")

FAULT_STEP = "12"

CASES = [
    pytest.param("stop", "1", "stopped", "hang", 15.0, id="a rank stops itself: stopped"),
    pytest.param("kill", "2", "exited", "crash", 15.0, id="a rank is killed: exited"),
    pytest.param("skip", "1", "host_stuck", "hang", 30.0, id="a rank skips a collective: host_stuck"),
    pytest.param(
        "block", "3", "host_stuck", "hang", 30.0, id="a rank blocks in Python before a collective: host_stuck"
    ),
    pytest.param("recv", "2", "missing_recv", "hang", 30.0, id="a rank blocks before a pipeline receive: missing_recv"),
]


@pytest.mark.parametrize(("fault", "rank", "cause", "symptom", "within_s"), CASES)
def test_the_rank_and_the_cause_are_named_and_the_job_finishes(
    tmp_path: Path, fault: str, rank: str, cause: str, symptom: str, within_s: float
) -> None:
    _breaks_and_finishes(
        tmp_path, fault=fault, rank=rank, cause=cause, symptom=symptom, within_s=within_s, step_s="0.2", steps="24"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "rank", "cause", "symptom", "within_s"), CASES)
def test_the_same_defaults_serve_steps_of_two_seconds(
    tmp_path: Path, fault: str, rank: str, cause: str, symptom: str, within_s: float
) -> None:
    _breaks_and_finishes(
        tmp_path, fault=fault, rank=rank, cause=cause, symptom=symptom, within_s=within_s, step_s="2.0", steps="16"
    )


def _breaks_and_finishes(
    folder: Path, *, fault: str, rank: str, cause: str, symptom: str, within_s: float, step_s: str, steps: str
) -> None:
    options = ["--fault", fault, "--fault-rank", rank, "--fault-step", FAULT_STEP, "--step-s", step_s, "--steps", steps]
    ran = run_job(folder, torch_job(folder, *options, "--checkpoint-every", "5"))
    assert ran.status == 0, ran.said
    assert ran.report["attempts"] == 2
    assert len(ran.incidents) == 1
    (incident,) = ran.incidents
    assert [(c["kind"], c["id"], c["cause"]) for c in incident["culprits"]] == [("rank", rank, cause)]
    says = [incident[word] for word in ("verdict", "symptom", "verb", "state")]
    assert says == ["culprit", symptom, "restart", "resolved"]
    assert incident["evidence"]
    assert 0 < ran.to_verdict_s() <= within_s
    # the files that were collected say the same with no service running
    verdict = diagnose("hang", str(ran.collected()))
    assert [(c["id"], c["cause"]) for c in verdict["culprits"]] == [(rank, cause)]


def test_an_exception_that_comes_back_is_the_users(tmp_path: Path) -> None:
    options = ["--fault", "error", "--fault-rank", "3", "--fault-step", FAULT_STEP, "--steps", "24"]
    ran = run_job(tmp_path, torch_job(tmp_path, *options, "--checkpoint-every", "5"))
    assert ran.status == 1
    assert ran.report["attempts"] == 2
    (incident,) = ran.incidents
    words = ("symptom", "fault", "verdict", "action", "verb", "state", "culprits")
    assert [incident[word] for word in words] == ["crash", "user_code", "nobody", "stop", "stop", "needs_human", []]
    said = json.dumps(incident["evidence"])
    assert "ValueError: cannot parse 'sample 12': label out of range" in said
    assert "parse_sample" in said


def test_a_loss_that_is_not_a_number_goes_back_to_the_last_checkpoint(tmp_path: Path) -> None:
    options = ["--fault", "nan", "--fault-rank", "0", "--fault-step", FAULT_STEP, "--steps", "24"]
    ran = run_job(tmp_path, torch_job(tmp_path, *options, "--checkpoint-every", "5"))
    assert ran.status == 0, ran.said
    (incident,) = ran.incidents
    assert (incident["symptom"], incident["verb"], incident["state"]) == ("loss", "restart", "resolved")
    assert incident["detail"]["cause"] == "nan"
    assert ran.report["attempts"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "rank"),
    [
        pytest.param("spin", "1", id="a rank holds the interpreter lock: no answer is evidence"),
        pytest.param("dstate", "0", id="a rank sits in the kernel"),
    ],
)
def test_a_rank_that_answers_nobody_is_named(tmp_path: Path, fault: str, rank: str) -> None:
    options = ["--fault", fault, "--fault-rank", rank, "--fault-step", FAULT_STEP, "--steps", "24"]
    ran = run_job(tmp_path, torch_job(tmp_path, *options, "--checkpoint-every", "5"))
    assert ran.status == 0, ran.said
    (incident,) = ran.incidents
    assert [(c["id"], c["cause"]) for c in incident["culprits"]] == [(rank, "host_stuck")]
    assert 0 < ran.to_verdict_s() <= 30

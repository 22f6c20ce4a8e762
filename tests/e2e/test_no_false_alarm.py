"""A healthy job that pauses to evaluate and to save is left alone."""

from pathlib import Path

import pytest

from tests.e2e.jobs import run_job, torch_job

pytest.importorskip("torch", reason="torch is not installed: requirements-train.lock holds it, for Python 3.11")

# pauses of 20 steps (evaluation) and of 30 (checkpoint)
_PAUSES = ["--eval-every", "30", "--eval-steps", "20", "--checkpoint-every", "50", "--checkpoint-steps", "30"]


def _healthy(folder: Path, *, steps: int, announced: bool, timeout_s: float) -> None:
    options = ["--steps", str(steps), "--step-s", "0.2", "--announced", "-1" if announced else "3", *_PAUSES]
    ran = run_job(folder, torch_job(folder, *options), timeout_s=timeout_s)
    assert ran.status == 0, ran.said
    assert ran.incidents == []
    assert ran.report["attempts"] == 1


def test_a_minute_of_a_healthy_job_whose_pauses_are_announced_no_more_after_the_third_has_no_incident(tmp_path: Path) -> None:
    _healthy(tmp_path, steps=130, announced=False, timeout_s=240)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "announced", [True, False], ids=["pauses are announced", "pauses are announced no more after the third"]
)
def test_ten_minutes_of_a_healthy_job_have_no_incident(tmp_path: Path, announced: bool) -> None:
    _healthy(tmp_path, steps=1900, announced=announced, timeout_s=1400)

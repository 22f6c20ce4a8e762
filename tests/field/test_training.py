"""Verdicts on the step lines of real training runs."""

from pathlib import Path

import pytest

from detectors.training.offline import Training
from holdfast.faults import Judgement
from holdfast.offline import walk
from holdfast.ports import Input
from holdfast.verdict import Verdict
from tests.field.where import data


def diagnose(*paths: Path) -> Verdict:
    return Training().diagnose([Input(name=name, path=file) for p in paths for name, file in walk([str(p)])], {})


@pytest.mark.parametrize("n", range(1, 11))
def test_a_healthy_run_of_eight_devices_is_healthy(n: int) -> None:
    verdict = diagnose(data("training", "nanogpt", f"run_{n:02d}.txt"))
    assert (verdict.verdict, verdict.detail["events"]) == (Judgement.HEALTHY, [])
    assert verdict.skipped == ()


def test_ten_runs_together_are_ten_healthy_runs() -> None:
    verdict = diagnose(data("training", "nanogpt"))
    runs = verdict.detail["runs"]
    assert isinstance(runs, list)
    assert (verdict.verdict, len(runs)) == (Judgement.HEALTHY, 10)


def test_a_short_run_to_its_end_is_healthy() -> None:
    verdict = diagnose(data("training", "logs", "megatron_deepspeed.log"))
    assert (verdict.verdict, verdict.detail["events"]) == (Judgement.HEALTHY, [])


@pytest.mark.parametrize("name", ["003", "006", "014", "033", "035", "036"])
def test_a_line_or_two_are_too_little(name: str) -> None:
    verdict = diagnose(data("training", "logs", f"{name}_iterlog.txt"))
    assert (verdict.verdict, verdict.skipped) == (Judgement.UNDECIDED, ())
    assert verdict.detail["missing"]


def test_files_without_steps_are_skipped_and_named() -> None:
    folder = data("training", "logs")
    failures = sorted(folder.glob("*_failure.txt"))
    verdict = diagnose(*failures)
    assert [skipped.file for skipped in verdict.skipped] == [str(path) for path in failures]

"""Verdicts on files of step lines, the kinds of file that are taken, and what several runs say together."""

from pathlib import Path

import numpy as np
import pytest

from detectors.joblog.offline import Job
from detectors.training.offline import Training
from holdfast.faults import Action, Fault, Judgement, Symptom
from holdfast.ports import Input
from holdfast.verdict import Json, Verdict
from tests.unit.training.series import chance, losses

AT = 300
TRACE = 'Traceback (most recent call last):\n  File "train.py", line 9, in <module>\nRuntimeError: CUDA error\n'


def lines(loss: np.ndarray, step_s: np.ndarray | None = None) -> str:
    pace = step_s if step_s is not None else 0.5 + 0.002 * chance(3).normal(size=len(loss))
    return "".join(
        f"step: {n} loss: {value:.4f} step_time: {took:.4f}\n"
        for n, (value, took) in enumerate(zip(loss, pace, strict=True))
    )


def run(seed: int, *, spike_at: int = 0, factor: float = 1.0, until: int = 0) -> np.ndarray:
    loss = losses(2 * seed)
    if spike_at:
        loss[spike_at : until or spike_at + 5] *= factor
    return loss


def diagnose(tmp_path: Path, *texts: str) -> Verdict:
    inputs = []
    for n, text in enumerate(texts):
        path = tmp_path / f"run{n}.log"
        path.write_text(text)
        inputs.append(Input(name=path.name, path=path))
    return Training().diagnose(inputs, {})


def events(verdict: Verdict) -> list[dict[str, Json]]:
    found = verdict.detail["events"]
    assert isinstance(found, list)
    return [event for event in found if isinstance(event, dict)]


SLOWER = np.concatenate([np.full(AT, 0.5), np.full(600 - AT, 0.65)]) + 0.003 * chance(4).normal(size=600)


@pytest.mark.parametrize(
    ("text", "judgement", "symptom", "fault", "action", "kinds"),
    [
        pytest.param(lines(run(1)), "healthy", "none", "none", "none", [], id="a healthy run"),
        pytest.param(lines(run(1)[:5]), "healthy", "none", "none", "none", [], id="five steps of one"),
        pytest.param(lines(run(1)[:4]), "undecided", "none", "unknown", "none", [], id="too few steps to say"),
        pytest.param(lines(run(1, spike_at=AT, factor=2.0)), "nobody", "loss", "workload", "watch", ["spike"], id="a spike that heals"),
        pytest.param(
            lines(run(1, spike_at=AT, factor=2.0)[: AT + 4]), "undecided", "loss", "unknown", "watch", ["spike"],
            id="a spike at the end",
        ),
        pytest.param(
            lines(run(1, spike_at=AT, factor=2.0, until=600)), "undecided", "loss", "unknown", "restart", ["divergence"],
            id="a loss that does not come back",
        ),
        pytest.param(
            lines(run(1, spike_at=AT, factor=np.nan, until=600)), "undecided", "loss", "unknown", "restart", ["nan"], id="NaN for good"
        ),
        pytest.param(
            lines(run(1, spike_at=AT, factor=np.nan)), "nobody", "loss", "software", "watch", ["nan"], id="NaN for some steps"
        ),
        pytest.param(lines(run(1), SLOWER), "undecided", "slow", "unknown", "watch", ["slow_shift"], id="slower for good"),
        pytest.param(
            "{'loss': 0.0, 'grad_norm': nan, 'epoch': 0.1}\n" * 3, "undecided", "loss", "unknown", "restart", ["nan"], id="masked NaN"
        ),
    ],
)  # fmt: skip
def test_one_run(
    tmp_path: Path, text: str, judgement: Judgement, symptom: Symptom, fault: Fault, action: Action, kinds: list[str]
) -> None:
    verdict = diagnose(tmp_path, text)
    assert (verdict.verdict, verdict.symptom, verdict.fault, verdict.action) == (judgement, symptom, fault, action)
    assert [event["kind"] for event in events(verdict)] == kinds
    assert verdict.culprits == ()
    assert ("missing" in verdict.detail) == (judgement != "healthy")


def test_an_event_says_where_it_stands_and_what_it_was(tmp_path: Path) -> None:
    verdict = diagnose(tmp_path, "starting\n" + lines(run(1, spike_at=AT, factor=2.0)))
    (event,) = events(verdict)
    assert (event["step"], event["kind"], event["recovered_at"], event["action"]) == (AT, "spike", AT + 5, "watch")
    assert (event["file"], event["line"], event["signal"], event["attempt"]) == ("run0.log", AT + 2, "loss", 0)
    assert (verdict.evidence[0].line, verdict.evidence[0].file) == (AT + 2, "run0.log")


def test_a_rate_that_falls_is_slow_and_told_as_it_was_printed(tmp_path: Path) -> None:
    text = "".join(f"step: {n} loss: {v:.4f} tps: {1000 / took:.1f}\n" for n, (v, took) in enumerate(zip(run(1), SLOWER, strict=True)))
    (event,) = events(diagnose(tmp_path, text))
    assert (event["kind"], event["signal"]) == ("slow_shift", "tokens_per_s")
    assert event["step"] == pytest.approx(AT, abs=1)
    assert event["before"] == pytest.approx(2000, rel=0.01)
    assert event["after"] == pytest.approx(1540, rel=0.01)


def test_a_bump_that_every_run_has_at_the_same_step_is_the_data(tmp_path: Path) -> None:
    texts = [lines(run(seed, spike_at=AT, factor=2.0, until=600)[: AT + 8]) for seed in (1, 2, 3)]
    verdict = diagnose(tmp_path, *texts)
    assert (verdict.verdict, verdict.fault, verdict.action) == (Judgement.NOBODY, Fault.WORKLOAD, Action.WATCH)
    assert [event["every_run"] for event in events(verdict)] == [True, True, True]
    alone = diagnose(tmp_path, texts[0], lines(run(2)))
    assert (alone.verdict, "every_run" in events(alone)[0]) == (Judgement.UNDECIDED, False)


def test_files_of_several_ranks_are_one_run(tmp_path: Path) -> None:
    text = lines(run(1, spike_at=AT, factor=2.0))
    verdict = diagnose(tmp_path, text, text, "no steps here\n")
    assert len(events(verdict)) == 1
    assert verdict.detail["runs"] == [
        {"file": "run0.log", "steps": 600, "attempts": 1, "first_step": 0, "last_step": 599, "told_by": ["run1.log"]}
    ]
    assert [(s.file, s.reason) for s in verdict.skipped] == [("run2.log", "no step lines")]


def test_what_a_restart_has_passed_in_good_health_is_over(tmp_path: Path) -> None:
    broken = lines(run(1, spike_at=AT, factor=np.nan, until=600)[: AT + 9])
    again = "".join(f"{line}\n" for line in lines(run(1) + 0.001).splitlines()[AT - 50 :])
    (event,) = events(diagnose(tmp_path, broken + again))
    assert (event["kind"], event["attempt"], event["action"]) == ("nan", 0, "watch")
    assert event["recovered_at"] == AT
    (twice,) = events(diagnose(tmp_path, broken + again[: len(again) // 9]))
    assert (twice["recovered_at"], twice["action"]) == (None, "restart")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        pytest.param(lines(losses(1)[:50]), "training.steps", id="step lines"),
        pytest.param("starting\n" * 50 + lines(losses(1)[:6]), "training.steps", id="a few among others"),
        pytest.param("starting\n" * 50 + lines(losses(1)[:2]), "", id="hardly any among others"),
        pytest.param("{'loss': 1.5, 'epoch': 0.1}\n", "training.steps", id="one line that is one"),
        pytest.param(lines(losses(1)[:50]) + TRACE, "", id="with a traceback it is a job's log"),
        pytest.param("", "", id="nothing"),
        pytest.param("step: 1 loss: 2\n\0", "", id="binary"),
        pytest.param("[rank0] NCCL WARN\n", "", id="no step line"),
    ],
)
def test_what_is_taken(head: str, kind: str) -> None:
    assert Training().recognise("train.log", head.encode()) == kind
    if TRACE in head:
        assert Job().recognise("train.log", head.encode()) == "job.log"

"""Claims about a job's processes: who failed first, who was only dragged along, and what is no fault at all."""

from collections.abc import Sequence
from typing import Any

import pytest

from detectors.processes import Processes
from holdfast.events import Finding, Observation
from holdfast.faults import Fault, Judgement, Symptom
from tests.unit.detectors.seen import answers, beats, claims, job, rank

STARTED = job(100.0, "started")
ALL = [rank(101.0, n, "running") for n in range(4)]


def faults(said: list[Finding]) -> list[str]:
    return [claim for claim in claims(said) if "job.progress" not in claim and "job.finished" not in claim]


def told(*stream: Observation | float) -> list[Finding]:
    return answers(Processes(), [STARTED, *ALL, *stream])


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        pytest.param([rank(110, 1, "exited", exit_code=0)], [], id="who ends well has done nothing"),
        pytest.param([rank(110, 1, "exited", exit_code=3)], ["process.exit_code rank 1"], id="a status is a claim"),
        pytest.param([rank(110, 1, "exited", signal=9)], ["process.signal rank 1"], id="a signal is another"),
        pytest.param([rank(110, 1, "exited", signal=6)], ["process.abort rank 1"], id="an abort is its own word"),
        pytest.param(
            [rank(110, 1, "exited", signal=9), rank(112, 2, "exited", exit_code=1), rank(139, 3, "exited", signal=6)],
            ["process.signal rank 1"],
            id="who follows within half a minute is a victim",
        ),
        pytest.param(
            [rank(110, 1, "exited", signal=9), rank(200, 2, "exited", exit_code=1)],
            ["process.signal rank 1", "process.exit_code rank 2"],
            id="who fails long after is another failure",
        ),
        pytest.param(
            [rank(110, 1, "exited", exit_code=1), rank(109, 2, "exited", signal=9, node="n1")],
            ["process.exit_code rank 1", "-process.exit_code rank 1", "process.signal rank 2"],
            id="who was first though heard of later takes the place of its victim",
        ),
        pytest.param(
            [rank(110, 1, "exited", signal=9), rank(110, 1, "exited", signal=9)],
            ["process.signal rank 1"],
            id="an agent that begins anew repeats itself",
        ),
        pytest.param(
            [rank(110, 1, "exited", signal=9), job(111, "failed", signal=9), job(111, "failed", signal=9)],
            ["process.signal rank 1", "job.failed job j"],
            id="a failed job is claimed once",
        ),
        pytest.param(
            [rank(110, 1, "exited", signal=9), job(130, "started", attempt=1)],
            ["process.signal rank 1", "-process.signal rank 1"],
            id="a new attempt withdraws what was said of the last",
        ),
        pytest.param(
            [job(130, "started", attempt=1), rank(131, 1, "exited", signal=15, attempt=0)],
            [],
            id="what is heard late of an earlier attempt is nothing",
        ),
    ],
)
def test_how_processes_end(stream: list[Observation], said: list[str]) -> None:
    assert faults(told(*stream)) == said


def alive(*times: float) -> list[Observation | float]:
    """The agent lives: a beat and a tick at each time."""
    return [one for at in times for one in (beats(at, step=5, stepped_at=109.0), at)]


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        pytest.param([rank(110, 2, "stopped"), *alive(112)], [], id="stopped for a moment"),
        pytest.param([rank(110, 2, "stopped"), *alive(114)], ["process.stopped rank 2"], id="stopped for long"),
        pytest.param([rank(110, 2, "stopped"), 500.0], [], id="while nothing is heard nothing lasts longer"),
        pytest.param(
            [rank(110, 2, "stopped"), *alive(114), rank(115, 2, "running"), *alive(130)],
            ["process.stopped rank 2", "-process.stopped rank 2"],
            id="one that goes on is withdrawn",
        ),
        pytest.param(
            [rank(110, 2, "stopped"), *alive(114), rank(115, 2, "stopped"), *alive(130)],
            ["process.stopped rank 2"],
            id="one that is told again as stopped is claimed once",
        ),
        pytest.param([rank(110, 2, "uninterruptible"), *alive(115)], [], id="in the kernel for a moment"),
        pytest.param(
            [rank(110, 2, "uninterruptible"), *alive(125)],
            ["process.uninterruptible rank 2"],
            id="in the kernel for long",
        ),
        pytest.param(
            [rank(110, 2, "uninterruptible"), beats(125, step=9, stepped_at=124.0), 125.0],
            [],
            id="in the kernel while its job steps",
        ),
        pytest.param([rank(110, 2, "gone"), *alive(111)], [], id="gone for a moment: its launcher may say more"),
        pytest.param([rank(110, 2, "gone"), *alive(114)], ["process.gone rank 2"], id="gone while the job goes on"),
        pytest.param(
            [rank(110, 2, "gone"), job(111, "finished"), *alive(112)], [], id="gone from a job that ends well"
        ),
        pytest.param(
            [rank(110, 2, "gone"), job(111, "failed", exit_code=1)],
            ["process.gone rank 2", "job.failed job j"],
            id="gone from a job that fails",
        ),
    ],
)
def test_states_that_last(stream: list[Observation | float], said: list[str]) -> None:
    assert faults(told(*stream)) == said


@pytest.mark.parametrize(
    ("who", "judgement", "culprits"),
    [
        pytest.param([2], Judgement.CULPRIT, [1], id="one that is stopped is to blame"),
        pytest.param([1, 2], Judgement.CULPRIT, [1, 1], id="two of four are to blame"),
        pytest.param([0, 1, 2, 3], Judgement.NOBODY, [0] * 4, id="a job stopped whole was stopped by somebody outside"),
    ],
)
def test_who_is_to_blame_for_a_stopped_job(who: Sequence[int], judgement: Judgement, culprits: list[int]) -> None:
    said = [f for f in told(*(rank(110, n, "stopped") for n in who), *alive(114)) if f.check == "process.stopped"]
    assert [(f.judgement, len(f.culprits)) for f in said] == [(judgement, count) for count in culprits]


@pytest.mark.parametrize(
    ("wchan", "fault"),
    [
        ("rpc_wait_bit_killable", Fault.STORAGE),
        ("ll_file_io", Fault.STORAGE),
        ("do_vfork", Fault.HOST),
        ("0", Fault.HOST),
    ],
)
def test_what_it_waits_in_says_what_is_broken(wchan: str, fault: Fault) -> None:
    [said] = [f for f in told(rank(110, 2, "uninterruptible", wchan=wchan), *alive(125)) if f.symptom is Symptom.HANG]
    assert said.fault is fault


def test_the_first_step_and_the_first_past_all_before_are_told() -> None:
    def news(*stream: Any) -> list[tuple[Any, Any, Any]]:
        said = answers(Processes(), stream)
        return [
            (f.detail["step"], f.detail["new_ground"], f.detail["attempt"]) for f in said if f.check == "job.progress"
        ]

    first = [STARTED, *(beats(100.0 + n, step=n, stepped_at=100.0 + n) for n in range(1, 8))]
    again = [
        job(120, "started", attempt=1),
        *(beats(120.0 + n, step=n, stepped_at=120.0 + n, attempt=1) for n in range(3, 12)),
    ]
    assert news(*first, *again) == [(1, True, 0), (3, False, 1), (8, True, 1)]


def test_a_job_that_ends_well_is_news() -> None:
    assert [f.check for f in told(job(200, "finished", exit_code=0))] == ["job.finished"]


def test_beats_of_an_earlier_attempt_move_nothing() -> None:
    said = told(job(130, "started", attempt=1), beats(131, step=7, stepped_at=131.0, attempt=0))
    assert claims(said) == []

"""What a job has gone through: the same cause at the same step is a repeat, unless the job gained ground between."""

from collections.abc import Sequence

import msgspec
import pytest

from holdfast.events import Finding
from holdfast.faults import Fault, Perception
from holdfast.topology import JobId, job_of
from remedier.history import MOST_CAUSES, MOST_JOBS, History, signature_of


def finding(check: str, *, step: int | None = 5, signature: str | None = None) -> Finding:
    detail = {"step": step, "signature": signature}
    return Finding(
        at=1.0, id="f", job=JobId("j"), target=job_of("j"), perception=Perception.LOG_ERROR, fault=Fault.USER_CODE,
        check=check, confidence=0.9, detail={key: value for key, value in detail.items() if value is not None},
    )  # fmt: skip


def told(events: Sequence[tuple[str, int]]) -> list[tuple[bool, int]]:
    """Of each cause (check, step) what is said of it; ("steps", n) is progress."""
    history, said = History(), []
    for word, step in events:
        history = msgspec.msgpack.decode(msgspec.msgpack.encode(history), type=History)
        if word == "steps":
            history.progress("j", {"step": step})
        else:
            one = finding(word, step=step)
            said.append(history.note("j", one, [one]))
    return said


@pytest.mark.parametrize(
    ("events", "said"),
    [
        pytest.param([("a", 5)], [(False, 1)], id="once"),
        pytest.param([("a", 5), ("a", 5)], [(False, 1), (True, 2)], id="again at the same step"),
        pytest.param([("a", 5), ("a", 7)], [(False, 1), (True, 2)], id="a step or two later it is the same place"),
        pytest.param([("a", 5), ("a", 8)], [(False, 1), (False, 1)], id="further on it is not"),
        pytest.param([("a", 5), ("b", 5)], [(False, 1), (False, 1)], id="another cause"),
        pytest.param(
            [("a", 5), ("steps", 50), ("a", 50)], [(False, 1), (False, 1)], id="after new ground it counts from one"
        ),
        pytest.param(
            [("a", 50), ("steps", 10), ("a", 50), ("steps", 20), ("a", 50)],
            [(False, 1), (True, 2), (True, 3)],
            id="steps that were made before are no new ground",
        ),
        pytest.param([("a", -1), ("a", -1), ("a", -1)], [(False, 1), (True, 2), (True, 3)], id="before the first step"),
    ],
)
def test_what_is_known_of_a_cause(events: list[tuple[str, int]], said: list[tuple[bool, int]]) -> None:
    assert told(events) == said


def test_a_cause_without_a_job_has_no_history() -> None:
    history = History()
    assert [history.note("", finding("a"), [finding("a")]) for _ in range(3)] == [(False, 1)] * 3
    assert history.lives == {}


def test_the_step_is_the_furthest_that_any_finding_names() -> None:
    history = History()
    history.note("j", finding("a", step=None), [finding("a", step=None), finding("b", step=40)])
    assert history.lives["j"].struck[0].step == 40


def test_a_finding_says_itself_what_it_is_the_same_as() -> None:
    assert signature_of(finding("a", signature="ValueError @ train.py:8")) == "ValueError @ train.py:8"
    assert [signature_of(finding("a")), signature_of(finding("a", signature=""))] == ["a", "a"]


def test_causes_and_jobs_are_bounded_and_the_longest_unheard_goes_first() -> None:
    history = History()
    for n in range(MOST_CAUSES + 9):
        history.note("j", finding(f"c{n}"), [])
    assert history.lives["j"].struck[0].signature == "c9"
    history.progress("k", {"step": 1})
    for n in range(MOST_JOBS - 1):
        history.progress(f"job{n}", {"step": "no number"} if n % 2 else {"step": n})
        history.progress("k", {"step": 1})
        history.note("j", finding("z"), []) if n == 9 else None
    assert "k" in history.lives
    assert len(history.lives) <= MOST_JOBS


def test_what_has_no_steps_shows_its_progress_by_a_repair_that_cleared_the_cause() -> None:
    history, stall = History(), finding("serving.stalled", step=None)
    for _ in range(4):
        assert history.note("chat", stall, [stall]) == (False, 1)
        history.mended("chat")
    history.note("chat", stall, [stall])
    assert history.note("chat", stall, [stall]) == (True, 2)


def test_a_job_with_steps_is_not_proved_by_what_was_cleared() -> None:
    history, crash = History(), finding("process.signal", step=5)
    history.progress("j", {"step": 5})
    history.note("j", crash, [crash])
    history.mended("j")
    assert history.note("j", crash, [crash]) == (True, 2)

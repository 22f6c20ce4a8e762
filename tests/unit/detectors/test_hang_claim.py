"""When silence is a hang: learned per job, with limits of their own for start, pauses, phases and moving storage."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.tracehang.claim import Claim, Limits
from detectors.tracehang.rhythm import Rhythm
from holdfast.events import Finding, Observation
from tests.unit.detectors.seen import beats, job, steps

HANG, STEPS_AGAIN = "hang", "steps again"


class Line:
    """A job in the making: every call adds what its agent would say. ahead_s: how far the agent's clock is off."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.now = 10_000.0
        self.ahead_s = ahead_s
        self.attempt, self.step, self.stepped_at = 0, -1, 0.0
        self.io = 1_000
        self.said: list[Observation] = []

    def started(self) -> "Line":
        self.said.append(job(self.now + self.ahead_s, "started", attempt=self.attempt))
        return self

    def ended(self, state: str) -> "Line":
        self.said.append(job(self.now + self.ahead_s, state, attempt=self.attempt))
        return self

    def restarted(self, step: int = -1) -> "Line":
        self.attempt, self.step, self.stepped_at = self.attempt + 1, step, 0.0
        return self.started()

    def steps(
        self, count: int, every_s: float = 1.0, *, pause: dict[int, float] | None = None, phase: str = ""
    ) -> "Line":
        """Steps at a steady pace; pause: step -> further seconds after it, announced where `phase` is named."""
        for _ in range(count):
            self._step(every_s)
            extra_s = (pause or {}).get(self.step, 0.0)
            if extra_s:
                self.silence(extra_s, phase=phase)
        return self

    def _step(self, every_s: float) -> None:
        self.now += every_s
        self.step += 1
        self.stepped_at = self.now + self.ahead_s
        self.said.append(steps(self.stepped_at, self.step, {"step_s": [every_s] * 4}))
        self._beat("")

    def silence(self, seconds: float, *, phase: str = "", moves: int = 0) -> "Line":
        for _ in range(int(seconds)):
            self.now += 1.0
            self.io += moves
            self._beat(phase)
        return self

    def away(self, seconds: float) -> "Line":
        """Nobody speaks for so long."""
        self.now += seconds
        return self

    def _beat(self, phase: str) -> None:
        at = self.now + self.ahead_s
        self.said.append(
            beats(at, step=self.step, stepped_at=self.stepped_at, phase=phase, attempt=self.attempt, io_bytes=self.io)
        )


def words(stream: Iterable[Observation], limits: Limits | None = None) -> list[str]:
    """Its claims, with the memory given back after each observation."""
    claim = Claim(limits)
    said: list[Finding] = []
    for seen in stream:
        said.extend(claim.observe(seen))
        memory = claim.snapshot()
        claim = Claim(limits)
        claim.restore(memory)
        said.extend(claim.tick())
    return [STEPS_AGAIN if one.cleared else HANG for one in said]


EVALUATES = dict.fromkeys(range(9, 200, 10), 20.0)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param(Line().started().steps(30).silence(7), [], id="silence of a few seconds is none"),
        pytest.param(Line().started().steps(30).silence(20), [HANG], id="silence far over the pace is a hang"),
        pytest.param(Line().started().steps(30).silence(300), [HANG], id="which is claimed once"),
        pytest.param(Line().started().steps(30).silence(20).steps(1), [HANG, STEPS_AGAIN], id="and withdrawn by a step"),
        pytest.param(Line().started().steps(12, 20.0).silence(95), [], id="a slow job has its own measure"),
        pytest.param(Line().started().steps(12, 20.0).silence(120), [HANG], id="and hangs by it"),
        pytest.param(Line().started().silence(1700), [], id="a job may start up for long"),
        pytest.param(Line().started().silence(1900), [HANG], id="but not for ever"),
        pytest.param(Line().started().steps(2).silence(50), [], id="before its pace is known a job has a minute"),
        pytest.param(Line().started().steps(2).silence(70), [HANG], id="and no more"),
        pytest.param(Line().started().steps(30).silence(600, phase="evaluation").steps(3), [], id="an announced pause"),
        pytest.param(
            Line().started().steps(30).silence(1000, phase="evaluation"), [HANG], id="an announced pause that never ends"
        ),
        pytest.param(Line().started().steps(30).silence(30, phase="backward"), [HANG], id="a phase of every step is no pause"),
        pytest.param(
            Line().started().steps(30).silence(60, phase="save").silence(6), [], id="after a pause the first step has its time"
        ),
        pytest.param(
            Line().started().steps(30).silence(60, phase="save").silence(20), [HANG], id="and hangs if it does not come"
        ),
        pytest.param(
            Line().started().steps(12).silence(20).steps(1).steps(9).silence(20).steps(1).steps(9).silence(25),
            [HANG, STEPS_AGAIN, HANG, STEPS_AGAIN],
            id="an unannounced pause is claimed until it is seen to come back",
        ),
        pytest.param(
            Line().started().steps(30).silence(60, moves=8 << 20), [], id="a job that moves data through storage is not still"
        ),
        pytest.param(Line().started().steps(30).silence(60, moves=1000), [HANG], id="a trickle is not moving data"),
        pytest.param(Line().started().steps(30).ended("failed").silence(100), [], id="a job that has failed does not hang"),
        pytest.param(
            Line().started().steps(30).silence(20).ended("stopped"), [HANG, STEPS_AGAIN], id="a hang ends with the job"
        ),
        pytest.param(Line().started().steps(30).restarted().silence(60), [], id="a restarted job starts up anew"),
        pytest.param(
            Line().started().steps(30).silence(20).restarted(9).steps(20).silence(20),
            [HANG, STEPS_AGAIN, HANG],
            id="and is known by its old pace",
        ),
        pytest.param(Line(3600.0).started().steps(30).silence(6), [], id="a clock that is ahead accuses nobody"),
        pytest.param(Line(-3600.0).started().steps(30).silence(20), [HANG], id="and one behind hides nothing"),
        pytest.param(Line().steps(30).silence(20), [HANG], id="a job whose start was not heard is watched too"),
        pytest.param(Line().started().steps(30).away(300).silence(3).steps(2), [], id="while nobody speaks nothing is known to stall"),
        pytest.param(
            Line().started().steps(35, pause=EVALUATES, phase="evaluation").silence(90, phase="evaluation"), [HANG],
            id="a phase that has its usual length hangs by that",
        ),
        pytest.param(
            Line().started().steps(35, pause=EVALUATES, phase="evaluation").silence(50, phase="evaluation").steps(1), [],
            id="and may take a few times as long",
        ),
        pytest.param(Line().started().steps(30).restarted().silence(550), [], id="a restart may take its time"),
        pytest.param(Line().started().steps(30).restarted().silence(650), [HANG], id="but less than a first start"),
        pytest.param(
            Line().started().silence(400).steps(30).restarted().silence(1150), [], id="unless the first one was long too"
        ),
        pytest.param(
            Line().started().steps(40, pause=EVALUATES, phase="").silence(10), [HANG, STEPS_AGAIN] * 2,
            id="pauses at foreseeable steps are learned after two",
        ),
    ],
)  # fmt: skip
def test_silence(line: Line, said: list[str]) -> None:
    assert words(line.said) == said


def two_agents(phase_of_one: str, seconds: int) -> list[Observation]:
    """Two nodes step together; then only one of them announces a phase."""
    line = Line().started().steps(30)
    said = [*line.said]
    for n in range(1, seconds):
        at = line.now + n
        for node, phase in (("n0", phase_of_one), ("n1", "")):
            said.append(beats(at, step=29, stepped_at=line.now, phase=phase, node=node, io_bytes=1))
    return said


@pytest.mark.parametrize(
    ("phase", "seconds", "said"),
    [
        pytest.param("evaluation", 600, [], id="one that evaluates holds all, within the limit of a phase"),
        pytest.param("evaluation", 1000, [HANG], id="and over that it is a hang"),
        pytest.param("", 30, [HANG], id="without a phase it is one soon"),
    ],
)
def test_a_phase_of_one_node_counts_for_the_job(phase: str, seconds: int, said: list[str]) -> None:
    assert words(two_agents(phase, seconds)) == said


def test_a_silence_may_be_granted_once() -> None:
    claim = Claim()
    for seen in Line().started().steps(30).silence(20).said:
        list(claim.observe(seen))
        list(claim.tick())
    granted = claim.grant("j", "save_checkpoint")
    assert granted is not None
    assert granted.cleared
    assert list(claim.tick()) == []
    assert claim.grant("j", "save_checkpoint") is None
    assert claim.grant("nobody", "save_checkpoint") is None


# --- the rhythm alone


def learned(*gaps: tuple[int, float]) -> Rhythm:
    rhythm = Rhythm()
    for n in range(10):
        rhythm.learn(n, 1.0, announced=False)
    for step, gap_s in gaps:
        rhythm.learn(step, gap_s, announced=False)
    return rhythm


@pytest.mark.parametrize(
    ("rhythm", "step", "expected"),
    [
        pytest.param(learned(), 50, False, id="nothing is foreseen of a job that never paused"),
        pytest.param(learned((100, 30.0)), 200, False, id="once is no habit"),
        pytest.param(learned((100, 30.0), (200, 31.0)), 300, True, id="twice is one"),
        pytest.param(learned((100, 30.0), (200, 31.0)), 301, True, id="one step late is still it"),
        pytest.param(learned((100, 30.0), (200, 31.0)), 250, False, id="half way is not"),
        pytest.param(learned((100, 30.0), (200, 300.0)), 300, False, id="two of different length are two kinds"),
        pytest.param(learned((100, 9.0), (150, 90.0), (200, 9.0), (250, 90.0)), 350, True, id="kinds may interleave"),
    ],
)
def test_pauses_that_are_foreseen(rhythm: Rhythm, step: int, expected: bool) -> None:
    assert (rhythm.expected_s(step) > 0.0) is expected


@pytest.mark.parametrize("step", [300, 400])
def test_a_foreseen_pause_may_take_as_long_as_those_before(step: int) -> None:
    assert learned((100, 30.0), (200, 31.0)).expected_s(step) >= 31.0


def test_a_job_that_pauses_by_the_clock_gets_its_longest_pause() -> None:
    steps_ = [100, 163, 219, 301, 344, 420, 461, 533]
    rhythm = learned(*((step, 40.0 + n) for n, step in enumerate(steps_)))
    assert rhythm.by_the_clock_s() == 47.0
    assert learned((100, 30.0)).by_the_clock_s() == 0.0


def test_an_announced_pause_teaches_nothing() -> None:
    rhythm = learned()
    rhythm.learn(20, 500.0, announced=True)
    assert (rhythm.pace_s(), rhythm.pauses) == (1.0, [])


@given(st.lists(st.tuples(st.integers(-5, 10**9), st.floats(0.0, 1e6), st.booleans()), max_size=300), st.integers())
def test_whatever_the_gaps_memory_is_bounded_and_every_answer_is_a_time(gaps: list[Any], step: int) -> None:
    rhythm = Rhythm()
    for at, gap_s, announced in gaps:
        rhythm.learn(at, gap_s, announced=announced)
    assert len(rhythm.gaps_s) <= 64
    assert len(rhythm.pauses) <= 64
    assert min(rhythm.pace_s(), rhythm.expected_s(step), rhythm.by_the_clock_s()) >= 0.0

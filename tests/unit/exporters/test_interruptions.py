"""The account of lost time: worked examples of each kind of interruption, and what holds whatever comes."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.interruptions import PARTS, Interruptions

Doing = Callable[[Interruptions], object]


def started(at: float) -> Doing:
    return lambda account: account.started(at)


def stepped(at: float, step: int, stall_s: float | None = None) -> Doing:
    return lambda account: account.stepped(at, step, stall_s)


def claimed(at: float, *, still: bool = True) -> Doing:
    return lambda account: account.claimed(at, still=still)


def decided(at: float) -> Doing:
    return lambda account: account.decided(at)


def down(at: float, *, decided: bool = False) -> Doing:
    return lambda account: account.down(at, decided=decided)


def ended(at: float) -> Doing:
    return lambda account: account.ended(at)


def stalled(at: float, since: float) -> Doing:
    return lambda account: account.stalled(at, since)


TRAINS = [started(0), stepped(10, 0), stepped(20, 1), stepped(30, 2)]
HANGS = [*TRAINS, claimed(50), decided(53)]
RESTARTS = [*HANGS, down(53.5, decided=True), started(90)]


@pytest.mark.parametrize(
    ("doings", "now", "lost", "count"),
    [
        pytest.param(TRAINS, 35, {}, 0, id="a healthy run loses nothing"),
        pytest.param(TRAINS, 500, {}, 0, id="nobody has claimed anything: silence is not lost yet"),
        pytest.param([*TRAINS, claimed(50)], 51, {"detect": 20, "decide": 1}, 1, id="a hang counts from the last step"),
        pytest.param(HANGS, 60, {"detect": 20, "decide": 3, "schedule": 7}, 1, id="what lasts now is counted"),
        pytest.param(RESTARTS, 90, {"detect": 20, "decide": 3, "schedule": 37}, 1, id="scheduling ends with the processes"),
        pytest.param(
            [*RESTARTS, stepped(100, 1), stepped(110, 2), stepped(120, 3), stepped(130, 4)], 135,
            {"detect": 20, "decide": 3, "schedule": 37, "initialise": 10, "recompute": 20}, 1,
            id="recomputing ends with the first step past all earlier ones",
        ),
        pytest.param(
            [*RESTARTS, stepped(100, 3)], 105, {"detect": 20, "decide": 3, "schedule": 37, "initialise": 10}, 1,
            id="an attempt that loses no step recomputes none",
        ),
        pytest.param(
            [*RESTARTS, claimed(120), decided(121), down(121, decided=True), started(150), stepped(160, 3)], 165,
            {"detect": 20 + 30, "decide": 3 + 1, "schedule": 37 + 29, "initialise": 10}, 2,
            id="an attempt that dies before its first step is an interruption of its own",
        ),
        pytest.param(
            [*TRAINS, claimed(50), stepped(60, 3), stepped(70, 4)], 75, {"detect": 20, "decide": 10}, 1,
            id="a hang that goes away by itself has cost its time",
        ),
        pytest.param(
            [*TRAINS, claimed(50), stepped(45, 3), stepped(60, 4)], 60, {"detect": 5, "decide": 10}, 1,
            id="a step told late ended before the claim",
        ),
        pytest.param(
            [*TRAINS, claimed(32, still=False), stepped(40, 3), stepped(50, 4)], 55, {}, 0,
            id="a slow job goes on, and what is claimed of it costs nothing yet",
        ),
        pytest.param(
            [*TRAINS, claimed(32, still=False), stepped(40, 3), decided(41), down(42, decided=True), started(60)], 60,
            {"detect": 1, "schedule": 19}, 1, id="a job that steps until it is replaced has lost only what came after",
        ),
        pytest.param(
            [*TRAINS, down(34), claimed(35), decided(40), started(60)], 60, {"detect": 4, "decide": 6, "schedule": 20}, 1,
            id="a crash is known when the attempt has ended",
        ),
        pytest.param(
            [*TRAINS, started(60), stepped(70, 3)], 70, {"schedule": 30, "initialise": 10}, 1,
            id="somebody else has started the job again",
        ),
        pytest.param(
            [*TRAINS, down(34), stepped(33, 3), started(60)], 60, {"detect": 1, "decide": 26}, 1,
            id="the last words of an attempt come after its end",
        ),
        pytest.param([*TRAINS, ended(35), started(500), stepped(510, 1)], 520, {}, 0, id="a stop on purpose is no fault"),
        pytest.param(
            [*HANGS, ended(55), started(500)], 500, {"detect": 20, "decide": 3 + 445, "schedule": 2}, 1,
            id="a job that a fault has stopped is down until it is started again",
        ),
        pytest.param([*TRAINS, stepped(45, 3, 5.0)], 45, {"checkpoint": 5}, 0, id="a checkpoint that the step tells of"),
        pytest.param(
            [*TRAINS, stalled(32, 30), stalled(34, 30), stalled(34, 32), stepped(45, 3)], 45, {"checkpoint": 4}, 0,
            id="a checkpoint that the beats announce, each second once",
        ),
        pytest.param(
            [*TRAINS, stalled(34, 30), stepped(45, 3, 5.0)], 45, {"checkpoint": 5}, 0, id="beats and steps tell of one checkpoint"
        ),
        pytest.param(
            [*TRAINS, stalled(49, 30), claimed(50), stepped(60, 3)], 60, {"detect": 20, "decide": 10}, 1,
            id="what a fault has taken is not lost to a checkpoint too",
        ),
    ],
)  # fmt: skip
def test_an_interruption_costs(doings: list[Doing], now: float, lost: dict[str, float], count: int) -> None:
    account = Interruptions()
    for do in doings:
        do(account)
    assert {part: seconds for part, seconds in account.lost_s(now).items() if seconds} == pytest.approx(lost)
    assert account.count == count


def test_the_ratios_are_what_is_left_of_the_wall_clock() -> None:
    account = Interruptions()
    for do in [*RESTARTS, stepped(100, 3), stepped(200, 4, 20.0)]:
        do(account)
    assert account.wall_s(200) == 200
    assert account.ratio(200, checkpoints=False) == pytest.approx(1 - 70 / 200)
    assert account.ratio(200, checkpoints=True) == pytest.approx(1 - 90 / 200)


def test_a_job_stopped_on_purpose_has_no_wall_clock() -> None:
    account = Interruptions()
    for do in [*TRAINS, ended(40)]:
        do(account)
    assert account.wall_s(1000) == 40
    account.started(1000)
    account.stepped(1010, 0)
    assert (account.wall_s(1010), account.ratio(1010, checkpoints=True)) == (50, 1.0)


AT = st.floats(0, 1000)
DOING = st.one_of(
    st.builds(started, AT),
    st.builds(stepped, AT, st.integers(0, 30), st.none() | st.floats(-5, 50)),
    st.builds(claimed, AT, still=st.booleans()),
    st.builds(decided, AT),
    st.builds(down, AT, decided=st.booleans()),
    st.builds(ended, AT),
    st.builds(stalled, AT, AT),
)


@given(st.lists(DOING, max_size=40), AT)
def test_no_part_is_negative_and_all_fit_into_the_wall_clock(doings: list[Doing], now: float) -> None:
    """In whatever order things are told, at whatever time it is asked."""
    account = Interruptions()
    for do in doings:
        do(account)
        lost = account.lost_s(now)
        assert set(lost) == set(PARTS)
        assert min(lost.values()) >= 0
        assert sum(lost.values()) <= account.wall_s(now) + 1e-6
        assert 0 <= account.ratio(now, checkpoints=True) <= account.ratio(now, checkpoints=False) <= 1


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=30), st.booleans())
def test_a_healthy_run_is_whole(steps_s: list[float], attempt_known: bool) -> None:
    account = Interruptions()
    at = 100.0
    if attempt_known:
        account.started(at)
    for step, seconds in enumerate(steps_s):
        at += seconds
        account.stepped(at, step)
    assert account.ratio(at + 1, checkpoints=True) == 1.0
    assert account.count == 0


@given(st.lists(DOING, max_size=30), st.lists(st.floats(0, 50), min_size=2, max_size=5))
def test_what_is_lost_only_grows_while_nothing_happens(doings: list[Doing], waits_s: list[float]) -> None:
    account = Interruptions()
    for do in doings:
        do(account)
    now, before = 1000.0, account.lost_s(1000.0)
    for wait_s in waits_s:
        now += wait_s
        lost = account.lost_s(now)
        assert all(lost[part] >= before[part] for part in PARTS)
        before = lost

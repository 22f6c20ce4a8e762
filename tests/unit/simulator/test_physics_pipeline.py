"""The recurrence of a pipeline, against the formula where all is even and against a plain simulation where nothing is."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.physics.pipeline import Run, Schedule, run, schedule_of
from simulator.physics.tables import PhysicsError


def even(stages: int, batches: int, chunks: int = 1) -> Run:
    """Forward 1 s, backward 2 s per stage and micro-batch, nothing to send."""
    one = np.full((1, 1, 1, 1), 1.0 / chunks)
    return run(schedule_of(stages, batches, chunks), one, 2 * one, np.zeros((stages, 1)), np.zeros((stages, 1)))


@pytest.mark.parametrize(
    ("stages", "batches", "chunks"),
    [
        pytest.param(1, 5, 1, id="one stage has no bubble"), pytest.param(4, 8, 1, id="1F1B"),
        pytest.param(4, 2, 1, id="fewer micro-batches than stages"), pytest.param(4, 8, 2, id="two chunks halve the bubble"),
        pytest.param(8, 32, 4, id="four chunks quarter it"), pytest.param(4, 4, 3, id="as many micro-batches as stages"),
    ],
)  # fmt: skip
def test_the_bubble_is_what_the_formula_says(stages: int, batches: int, chunks: int) -> None:
    # Narayanan et al., SC'21: (p - 1) / v passes of each direction
    assert even(stages, batches, chunks).end_s.max() == pytest.approx(3 * batches + 3 * (stages - 1) / chunks)


def test_a_pass_begins_when_its_stage_is_free() -> None:
    ran = even(4, 8)
    assert (ran.starts[:, 1:] >= ran.ends[:, :-1] - 1e-12).all()
    assert ran.busy_s.ravel().tolist() == [24.0] * 4
    assert ran.starts[:, 0, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert ran.end_s.ravel().tolist() == [33.0, 31.0, 29.0, 27.0]  # later stages are done first


def test_a_heavy_last_stage_makes_the_others_wait() -> None:
    takes = np.ones((1, 4, 1, 1))
    takes[0, 3] = 1.5
    ran = run(schedule_of(4, 16), takes, 2 * takes, np.zeros((4, 1)), np.zeros((4, 1)))
    waits = ran.end_s - ran.busy_s
    assert waits[3, 0] == waits.min()
    assert ran.end_s.max() == pytest.approx(16 * 4.5 + 9)


def test_a_slow_replica_is_slow_alone_until_they_meet() -> None:
    takes = np.ones((1, 4, 1, 3))
    takes[0, 2, 0, 1] = 2.0
    ran = run(schedule_of(4, 8), takes, 2 * takes, np.zeros((4, 1)), np.zeros((4, 3)))
    assert ran.end_s[:, 0].tolist() == ran.end_s[:, 2].tolist()
    assert ran.end_s[0, 1] > 1.6 * ran.end_s[0, 0]


def test_messages_and_late_starts_delay_what_needs_them() -> None:
    one = np.ones((1, 1, 1, 1))
    ran = run(schedule_of(2, 1), one, one, np.full((2, 1), 0.25), np.array([[3.0], [0.0]]))
    assert ran.starts[1, 0, 0] == 4.25
    assert ran.end_s[0, 0] == pytest.approx(3 + 1 + 0.25 + 2 + 0.25 + 1)


def test_interleaving_needs_a_multiple_of_the_stages() -> None:
    with pytest.raises(PhysicsError, match="multiple of stages"):
        schedule_of(4, 6, 2)


def by_hand(schedule: Schedule, forward: np.ndarray, backward: np.ndarray, send: np.ndarray, ready: np.ndarray) -> np.ndarray:
    """The same by walking every stage's list and waiting for each message, one replica. Answers the ends, shape (stages, passes)."""
    stages, last = schedule.stages, schedule.stages * schedule.chunks - 1
    queues = [deque(range(schedule.backward.shape[1])) for _ in range(stages)]
    clock = list(ready)
    done: dict[tuple[bool, int, int], float] = {}
    ends = np.zeros(schedule.backward.shape)
    while any(queues):
        for s, queue in enumerate(queues):
            while queue:
                n = queue[0]
                back, c, b = bool(schedule.backward[s, n]), int(schedule.chunk[s, n]), int(schedule.micro_batch[s, n])
                place = c * stages + s
                if back and place == last:
                    needs, link = (False, place, b), 0.0
                elif back:
                    needs, link = (True, place + 1, b), send[s]
                else:
                    needs, link = (False, place - 1, b), send[(s - 1) % stages]
                if (back or place) and needs not in done:
                    break
                arrived = done[needs] + (link if stages > 1 else 0.0) if back or place else 0.0
                clock[s] = max(clock[s], arrived) + (backward if back else forward)[c, s, b]
                done[(back, place, b)] = ends[s, n] = clock[s]
                queue.popleft()
    return ends


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_any_times_give_what_a_plain_simulation_gives(stages: int, rounds: int, chunks: int, seed: int) -> None:
    chunks = chunks if stages > 1 else 1
    schedule = schedule_of(stages, rounds * stages, chunks)
    chance = np.random.Generator(np.random.Philox(seed))
    forward, backward = chance.exponential(1.0, (2, chunks, stages, rounds * stages, 2))
    send, ready = chance.exponential(0.1, (stages, 2)), chance.exponential(0.5, (stages, 2))
    ran = run(schedule, forward, backward, send, ready)
    for r in range(2):
        plain = by_hand(schedule, forward[..., r], backward[..., r], send[:, r], ready[:, r])
        np.testing.assert_allclose(ran.ends[..., r], plain, rtol=1e-12)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3))
def test_every_pass_runs_once(stages: int, rounds: int, chunks: int) -> None:
    schedule = schedule_of(stages, rounds * stages, chunks if stages > 1 else 1)
    for s in range(stages):
        passes = set(zip(schedule.backward[s], schedule.chunk[s], schedule.micro_batch[s], strict=True))
        assert len(passes) == schedule.backward.shape[1] == 2 * schedule.chunks * rounds * stages
        assert schedule.place(s, backward=True, chunk=0, micro_batch=0) > schedule.place(s, backward=False, chunk=0, micro_batch=0)

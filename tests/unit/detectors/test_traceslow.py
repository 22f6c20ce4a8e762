"""Who slows a job, where each agent reports its own ranks."""

import numpy as np

from detectors.traceslow.online import Traceslow
from holdfast.events import Steps
from holdfast.topology import JobId


def reported(agent: int, step: int, *, slow: int = -1) -> Steps:
    """One step of the eight ranks of an agent. slow: the rank that works longer than the others."""
    ranks = np.arange(agent * 8, agent * 8 + 8)
    work = np.where(ranks == slow, 1.3, 1.0)
    return Steps(
        at=float(step), source=f"agent:{agent}", job=JobId("j"), ranks=ranks, steps=np.full(8, step), ended_at=np.full(8, float(step)),
        signals=("phase.forward_s", "phase.backward_s"), values=np.stack([work * 0.3, work * 0.7], axis=1),
    )  # fmt: skip


def test_reports_of_other_agents_between_do_not_make_a_slow_rank_even() -> None:
    detector = Traceslow(steps=5)
    found = [f for step in range(20) for agent in range(3) for f in detector.observe(reported(agent, step, slow=11))]
    assert [(f.target.id, f.cleared) for f in found] == [("11", False)]


def test_a_rank_that_keeps_up_again_takes_the_claim_back() -> None:
    detector = Traceslow(steps=5)
    seen = [reported(agent, step, slow=11 if step < 10 else -1) for step in range(20) for agent in range(3)]
    assert [f.cleared for one in seen for f in detector.observe(one)] == [False, True]

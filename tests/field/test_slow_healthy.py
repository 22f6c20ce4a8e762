"""The live detector of slowness on the step times of real runs in which nothing was wrong."""

import re
from itertools import pairwise

import numpy as np
import pytest

from detectors.traceslow.online import Traceslow
from holdfast.events import Finding, Steps
from holdfast.topology import JobId, NodeId
from tests.field.where import data

RANKS = 8
LINE = re.compile(r"step:(\d+)/\d+ train_loss:[\d.]+ train_time:(\d+)ms")


def step_times(text: str) -> list[tuple[int, float]]:
    """(step, seconds) of each step whose line and the one before are whole; the clock begins anew after the tenth."""
    seen = [(int(step), int(ms) / 1e3) for step, ms in LINE.findall(text)]
    return [(b[0], b[1] - a[1]) for a, b in pairwise(seen) if b[0] == a[0] + 1 and b[1] > a[1]]


@pytest.mark.parametrize("n", [1, 7, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 4, 5, 6, 8, 9, 10))])
def test_a_healthy_run_of_eight_devices_raises_no_alarm(n: int) -> None:
    times = step_times(data("training", "nanogpt", f"run_{n:02d}.txt").read_text(encoding="utf-8"))
    assert len(times) > 1000
    detector, at = Traceslow(), 1000.0
    found: list[Finding] = []
    for step, seconds in times:
        at += seconds
        found += detector.observe(
            Steps(
                at=at, source="agent:n0", job=JobId("j"), node=NodeId("n0"), ranks=np.arange(RANKS), steps=np.full(RANKS, step),
                ended_at=np.full(RANKS, at), signals=("step_s",), values=np.full((RANKS, 1), seconds),
            )
        )  # fmt: skip
    assert found == []

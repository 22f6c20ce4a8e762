"""Replays the steps of a trace with other durations: what a step would have taken had some operations been quicker.

Source: Understanding Stragglers in Large Model Training Using What-if Analysis (2025). A communication's own time, its
transfer, is what remains after the last of its ranks arrived; all before is waiting, and comes out of the replay anew.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

import numpy as np

from detectors.traceslow.clocks import aligned_starts
from detectors.traceslow.graph import Meetings, is_communication, is_p2p, level, meetings
from detectors.traceslow.trace import Operations

# Numbers held at once by a replay, 8 bytes each.
_MOST_HELD = 10_000_000


class Replay:
    """A trace, ready to be replayed.

    own_s: float64, shape (n,), each operation's own time: computation as it was, communication without waiting
    met: who meets whom; loose: how many meetings contradict one another and are not kept
    measured_s: float64, shape (steps,), from a step's first start to its last end
    """

    def __init__(self, ops: Operations) -> None:
        self.met: Meetings = meetings(ops)
        ops = replace(ops, start_s=aligned_starts(ops, self.met))
        self.ops = ops
        self.own_s = _own(ops, self.met)
        self._levels = level(ops, self.met)
        self.loose = self._levels.loose
        # rows are in the order of steps
        self._first = np.searchsorted(ops.step, np.arange(len(ops.steps)))
        ends = ops.start_s + ops.duration_s
        self.measured_s = np.maximum.reduceat(ends, self._first) - np.minimum.reduceat(ops.start_s, self._first)

    def step_times(self, durations_s: Iterable[np.ndarray]) -> np.ndarray:
        """What each step takes with these durations, each of shape (n,); gives shape (how many, steps)."""
        at_once, waiting = max(1, _MOST_HELD // len(self._levels.place)), iter(durations_s)
        times = []
        while block := list(islice(waiting, at_once)):
            times.append(self._run(np.stack(block, axis=1)))
        return np.concatenate(times, axis=1).T

    def _run(self, durations_s: np.ndarray) -> np.ndarray:
        levels, n = self._levels, len(self.own_s)
        at = np.zeros((len(levels.place), durations_s.shape[1]))
        at[levels.place[:n]] = durations_s
        for low, high in zip(levels.bounds[1:-1].tolist(), levels.bounds[2:].tolist(), strict=True):
            first, last = levels.offsets[low], levels.offsets[high]
            waited = at[levels.edges[first:last]]
            at[low:high] += np.maximum.reduceat(waited, levels.offsets[low:high] - first, axis=0)
        return np.asarray(np.maximum.reduceat(at[levels.place[:n]], self._first, axis=0))


def _own(ops: Operations, met: Meetings) -> np.ndarray:
    """Durations without waiting. Where a partner's row is missing nobody knows when it arrived: its kind's usual length."""
    meeting = met.meeting
    last_start = np.full(int(meeting.max(initial=-1)) + 2, -np.inf)
    np.maximum.at(last_start, meeting, ops.start_s)
    waited = np.where(meeting >= 0, last_start[meeting] - ops.start_s, 0.0)
    own = np.asarray(ops.duration_s - np.clip(waited, 0.0, ops.duration_s))
    met_by = np.bincount(meeting[meeting >= 0], minlength=len(last_start))
    usual = np.zeros(int(met.channel.max(initial=-1)) + 2, dtype=np.int64)
    np.maximum.at(usual, met.channel, met_by[meeting])
    two = np.array([is_p2p(name) for name in ops.names])[ops.op]
    alone = (meeting >= 0) & (met_by[meeting] < np.where(two, 2, usual[met.channel]))
    for code in np.unique(ops.op[alone]).tolist():
        rows = ops.op == code
        whole = rows & ~alone
        most = float(np.median(own[whole])) if whole.any() else 0.0
        own[rows & alone] = np.minimum(own[rows & alone], most)
    return own


def ideal(ops: Operations, own_s: np.ndarray, *, pauses: dict[str, float]) -> np.ndarray:
    """Durations of a job without stragglers: the mean of a computation, the median of a communication, over all workers.

    pauses: operations with an ideal of their own, in seconds. Shape (n,).
    """
    out = np.empty(len(own_s))
    for code, name in enumerate(ops.names):
        rows = ops.op == code
        usual = np.median(own_s[rows]) if is_communication(name) else own_s[rows].mean()
        out[rows] = pauses.get(name, float(usual))
    return out

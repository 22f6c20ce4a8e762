"""When every forward and backward pass of a pipeline begins and ends, for any times of any stage, micro-batch and replica.

1F1B: Narayanan et al., PipeDream, SOSP'19, as Megatron-LM schedules it; interleaved over several chunks a stage:
Narayanan et al., Efficient Large-Scale Language Model Training on GPU Clusters, SC'21, arXiv:2104.04473, section 2.2.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulator.physics.tables import PhysicsError


class Level(NamedTuple):
    """Passes that can run side by side: flat indices of them, of the pass before each on its stage, of the one whose result
    it needs, and the stage whose link brings that, -1 for none. Indices below the number of stages are the stages' starts."""

    at: np.ndarray
    before: np.ndarray
    other: np.ndarray
    link: np.ndarray


@dataclass(frozen=True)
class Schedule:
    """The order of a pipeline's passes and what each waits for.

    backward, chunk, micro_batch: what the n-th pass of a stage is, shape (stages, passes)
    levels: passes that can run side by side, in an order in which all they wait for came before
    """

    stages: int
    chunks: int
    micro_batches: int
    backward: np.ndarray
    chunk: np.ndarray
    micro_batch: np.ndarray
    levels: tuple["Level", ...]

    def place(self, stage: int, *, backward: bool, chunk: int, micro_batch: int) -> int:
        """Which pass of a stage this one is."""
        same = (self.backward[stage] == backward) & (self.chunk[stage] == chunk) & (self.micro_batch[stage] == micro_batch)
        return int(np.flatnonzero(same)[0])


@dataclass(frozen=True)
class Run:
    """When the passes of a schedule run, seconds from the start of the step, shape (stages, passes, replicas)."""

    schedule: Schedule
    starts: np.ndarray
    ends: np.ndarray

    @property
    def busy_s(self) -> np.ndarray:
        """Seconds each stage works, shape (stages, replicas)."""
        return np.asarray((self.ends - self.starts).sum(axis=1))

    @property
    def end_s(self) -> np.ndarray:
        """When each stage is done, shape (stages, replicas)."""
        return np.asarray(self.ends[:, -1])


@lru_cache(maxsize=64)
def schedule_of(stages: int, micro_batches: int, chunks: int = 1) -> Schedule:
    """The schedule of a pipeline: 1F1B, interleaved where a stage has several chunks.

    raises PhysicsError: several chunks, and micro-batches that are no multiple of the stages
    """
    if chunks > 1 and micro_batches % stages:
        raise PhysicsError(f"{chunks} chunks need micro-batches ({micro_batches}) in a multiple of stages ({stages})")
    rows = [_order(stage, stages, micro_batches, chunks) for stage in range(stages)]
    table = np.array(rows)  # (stages, passes, 3)
    backward, chunk, batch = table[..., 0].astype(bool), table[..., 1], table[..., 2]
    return Schedule(stages, chunks, micro_batches, backward, chunk, batch, _levels(stages, chunks, backward, chunk, batch))


def _order(stage: int, stages: int, micro_batches: int, chunks: int) -> list[tuple[int, int, int]]:
    """The passes of one stage in turn: (backward, chunk, micro-batch). Warm-up, one forward and one backward by turns, the rest."""
    total = micro_batches * chunks
    ahead = stages - stage - 1 if chunks == 1 else 2 * (stages - stage - 1) + (chunks - 1) * stages
    warm = min(ahead, total)
    forward = [(0, *_nth(n, stages, chunks)) for n in range(total)]
    backward = [(1, chunks - 1 - c, b) for c, b in (_nth(n, stages, chunks) for n in range(total))]
    turns = [one for pair in zip(forward[warm:], backward, strict=False) for one in pair]
    return [*forward[:warm], *turns, *backward[total - warm :]]


def _nth(n: int, stages: int, chunks: int) -> tuple[int, int]:
    """Chunk and micro-batch of the n-th pass in one direction: groups of as many micro-batches as stages, chunk by chunk."""
    if chunks == 1:
        return 0, n
    group, rest = divmod(n, stages * chunks)
    return rest // stages, group * stages + rest % stages


def _levels(
    stages: int, chunks: int, backward: np.ndarray, chunk: np.ndarray, batch: np.ndarray
) -> tuple[Level, ...]:
    """Group all passes by the length of the longest chain before them."""
    passes = backward.shape[1]
    keys = {
        (bool(backward[s, n]), int(chunk[s, n]) * stages + s, int(batch[s, n])): stages + s * passes + n
        for s in range(stages) for n in range(passes)
    }  # fmt: skip
    last = stages * chunks - 1
    needs: dict[int, tuple[int, int, int]] = {}
    for (is_backward, place, number), at in keys.items():
        s, n = divmod(at - stages, passes)
        before = at - 1 if n else s
        if is_backward:
            other, link = (keys[(True, place + 1, number)], s) if place < last else (keys[(False, place, number)], -1)
        else:
            other, link = (keys[(False, place - 1, number)], (s - 1) % stages) if place else (before, -1)
        needs[at] = before, other, link if stages > 1 else -1
    depth = _depths(needs, stages, passes)
    order: dict[int, list[int]] = {}
    for at in needs:
        order.setdefault(depth[at], []).append(at)
    rows = [np.array(row) for _, row in sorted(order.items())]
    return tuple(Level(row, *(np.array([needs[int(at)][k] for at in row]) for k in range(3))) for row in rows)


def _depths(needs: dict[int, tuple[int, int, int]], stages: int, passes: int) -> dict[int, int]:
    """The length of the longest chain of passes before each: every stage goes on as far as what it needs is there.

    raises PhysicsError: passes wait for each other in a circle, which no valid schedule does
    """
    depth = dict.fromkeys(range(stages), 0)
    reached, moved = [0] * stages, True
    while moved:
        moved = False
        for stage in range(stages):
            while reached[stage] < passes:
                at = stages + stage * passes + reached[stage]
                before, other, _ = needs[at]
                if other not in depth:
                    break
                depth[at] = 1 + max(depth[before], depth[other])
                reached[stage] += 1
                moved = True
    if sum(reached) < stages * passes:
        raise PhysicsError(f"{stages * passes - sum(reached)} passes of the schedule wait for each other")
    return depth


def run(schedule: Schedule, forward_s: np.ndarray, backward_s: np.ndarray, send_s: np.ndarray, ready_s: np.ndarray) -> Run:
    """Play a schedule for all replicas at once.

    forward_s, backward_s: seconds of each pass, shape (chunks, stages, micro-batches, replicas), or 1 for an axis along
    which nothing differs; send_s: from a stage to the next, shape (stages, replicas); ready_s: when each stage can begin,
    shape (stages, replicas). A pass begins when its stage is free and what it needs has arrived: a recurrence of maxima
    and sums, done level by level over all stages and replicas together.
    """
    stages, passes = schedule.backward.shape
    replicas = max(forward_s.shape[3], backward_s.shape[3], ready_s.shape[1])
    full = (schedule.chunks, stages, schedule.micro_batches, replicas)
    stage = np.arange(stages)[:, None]
    takes = np.where(
        schedule.backward[..., None],
        np.broadcast_to(backward_s, full)[schedule.chunk, stage, schedule.micro_batch],
        np.broadcast_to(forward_s, full)[schedule.chunk, stage, schedule.micro_batch],
    ).reshape(-1, replicas)
    sends = np.concatenate([np.broadcast_to(send_s, (stages, replicas)), np.zeros((1, replicas))])
    ends = np.empty((stages + stages * passes, replicas))
    ends[:stages] = ready_s
    for at, before, other, link in schedule.levels:
        begin = np.maximum(ends[before], ends[other] + sends[link])
        ends[at] = begin + takes[at - stages]
    done = ends[stages:]
    shape = (stages, passes, replicas)
    return Run(schedule, (done - takes).reshape(shape), done.reshape(shape))

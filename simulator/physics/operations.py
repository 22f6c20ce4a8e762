"""The operations of a step as a tracer in the training process records them: one row for each pass, message and collective."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from simulator.physics.costs import Job
from simulator.physics.step import Step


class Operation(NamedTuple):
    """A row. stage: pipeline stage; group: ranks that meet in it, "" of none; micro_batch: -1 of none"""

    rank: int
    replica: int
    stage: int
    name: str
    start_s: float
    duration_s: float
    micro_batch: int = -1
    group: str = ""


def operations(job: Job, step: Step, *, start_s: float = 0.0) -> Iterator[Operation]:
    """What the first rank of every tensor group did, times from the step's start at start_s on, ordered by rank.

    A message is seen at both ends: the sender's from the end of its pass, the receiver's from when it had nothing else to do,
    so what it shows is mostly waiting, as in real traces. Ranks of a tensor group do the same at the same time. What makes
    a rank late at the beginning is told as its loading, a late host as well.
    """
    places = job.layout.ranks[:, :, 0, 0]
    for stage in range(job.layout.pp):
        for replica in range(job.layout.dp):
            rank = int(places[stage, replica])
            yield from (
                Operation(rank, replica, stage, name, start_s + begin, max(0.0, end - begin), batch, group)
                for name, begin, end, batch, group in _of_rank(job, step, stage, replica)
            )


Timed = tuple[str, float, float, int, str]


def _of_rank(job: Job, step: Step, stage: int, replica: int) -> Iterator[Timed]:
    ready = float(step.ready_s[stage, replica])
    yield "data-load", 0.0, ready, -1, ""
    yield from _passes(job, step, stage, replica, ready)
    begun = float(step.run.end_s[stage, replica])
    together = float(step.run.end_s[stage].max())
    group = f"dp-{stage}"
    reduced = together + float(step.tail.reduce_s[stage, 0])
    if job.layout.dp > 1:
        yield "grads-reduce-scatter", begun, reduced, -1, group
    meeting = step.tail.meeting_s
    yield "grads-norm-all-reduce", reduced, meeting, -1, "world"
    updated = meeting + float(step.phase("optimizer")[job.layout.ranks[stage, replica, 0, 0]])
    yield "optimizer", meeting, updated, -1, ""
    gathered = updated + float(step.tail.gather_s[stage, 0])
    if job.layout.dp > 1:
        yield "params-all-gather", updated, gathered, -1, group
    yield "host", gathered, gathered + job.software.host_s, -1, ""


def _passes(job: Job, step: Step, stage: int, replica: int, free: float) -> Iterator[Timed]:
    """Passes of a rank in turn, each with the message it waits for before it and the one it sends after it."""
    ran, schedule, stages = step.run, step.run.schedule, job.layout.pp
    last = stages * schedule.chunks - 1
    for n in range(schedule.backward.shape[1]):
        back, chunk = bool(schedule.backward[stage, n]), int(schedule.chunk[stage, n])
        place, batch = chunk * stages + stage, chunk * schedule.micro_batches + int(schedule.micro_batch[stage, n])
        begin, end = float(ran.starts[stage, n, replica]), float(ran.ends[stage, n, replica])
        way = "backward" if back else "forward"
        source = (stage + 1) % stages if back else (stage - 1) % stages
        target = (stage - 1) % stages if back else (stage + 1) % stages
        if place != (last if back else 0) and stages > 1:
            yield f"{way}-recv", free, begin, batch, _pair(replica, source, stage)
        yield f"{way}-compute", begin, end, batch, ""
        if place != (0 if back else last) and stages > 1:
            arrives = end + float(step.send_s[target if back else stage, replica])
            yield f"{way}-send", end, arrives, batch, _pair(replica, stage, target)
        free = end


def _pair(replica: int, one: int, other: int) -> str:
    low, high = sorted((one, other))
    return f"pp-{replica}-{low}-{high}"


def columns(job: Job, step: Step, *, number: int, start_s: float = 0.0) -> dict[str, np.ndarray]:
    """The same as columns of a table, as operation traces are written: step, rank, dp, pp, tp, op, start_s, duration_s, ..."""
    rows = list(operations(job, step, start_s=start_s))
    return {
        "step": np.full(len(rows), number), "rank": np.array([row.rank for row in rows]), "dp": np.array([row.replica for row in rows]),
        "pp": np.array([row.stage for row in rows]), "tp": np.zeros(len(rows), dtype=int), "op": np.array([row.name for row in rows]),
        "start_s": np.array([row.start_s for row in rows]), "duration_s": np.array([row.duration_s for row in rows]),
        "microbatch": np.array([row.micro_batch for row in rows]), "group": np.array([row.group for row in rows]),
    }  # fmt: skip

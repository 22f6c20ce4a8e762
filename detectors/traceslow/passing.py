"""What kind of differences pass: uneven sequences, pauses of the host, or one rank that is held up now and then."""

from dataclasses import dataclass

import numpy as np

from detectors.traceslow.costs import cause_of
from detectors.traceslow.factors import Factors
from detectors.traceslow.graph import number, ordinal
from detectors.traceslow.trace import Operations

# A longer sequence makes its forward and its backward longer alike. The paper finds 0.9 in such jobs, other noise lowers it.
_ALIKE = 0.6
# So many of the passes have their other half in the trace.
_PAIRED = 0.8
# An operation so much over its usual length holds a pause.
_PAUSE = 1.3
# A collector of garbage stops the thread that launches forward work; backward work is launched by another.
_FORWARD = 0.75


@dataclass(frozen=True, kw_only=True)
class Passing:
    """cause: sequence_imbalance, gc, slow_worker (of rank place `who`, now and then) or none; text: what was seen

    correlation: of forward and backward of the same micro-batch, None where it cannot be told
    loads_together: ranks wait for data in the same steps
    """

    cause: str
    text: str
    correlation: float | None
    who: int = -1
    loads_together: bool = False


def passing(ops: Operations, factors: Factors) -> Passing:
    """Judge what is left of computation times when stages and lasting slowness are taken out."""
    alike = _correlation(ops, factors.rest)
    together = _loads_together(ops)
    excess = np.where(factors.compute & (factors.rest > _PAUSE), (factors.rest - 1.0) * factors.even, 0.0)
    by_rank = np.bincount(ops.rank, weights=excess, minlength=len(ops.ranks))
    hits = int((excess > 0).sum())
    worst, total = int(np.argmax(by_rank)), float(by_rank.sum())
    ranks = len(ops.ranks)
    if hits >= 3 and ranks >= 3 and by_rank[worst] >= max(0.6, 3.0 / ranks) * total:
        struck = len(np.unique(ops.step[(excess > 0) & (ops.rank == worst)]))
        text = (
            f"rank {ops.ranks[worst]} is held up in {struck} of {len(ops.steps)} steps, {by_rank[worst]:.3f} s in all: "
            f"{by_rank[worst] / total:.0%} of all such pauses"
        )
        return Passing(cause="slow_worker", text=text, correlation=alike, who=worst, loads_together=together)
    if alike is not None and alike >= _ALIKE:
        text = f"forward and backward of a micro-batch are long together (correlation {alike:.2f}), on other ranks in other steps"
        return Passing(cause="sequence_imbalance", text=text, correlation=alike, loads_together=together)
    forward = np.isin(ops.op, [n for n, name in enumerate(ops.names) if name == "forward-compute"])
    if hits and float(excess[forward].sum()) >= _FORWARD * total:
        struck = int((by_rank > 0).sum())
        text = f"{hits} forward operations on {struck} of {ranks} ranks hold a pause, {total:.3f} s in all; the backward ones do not"
        return Passing(cause="gc", text=text, correlation=alike, loads_together=together)
    return Passing(cause="none", text="", correlation=alike, loads_together=together)


def _correlation(ops: Operations, rest: np.ndarray) -> float | None:
    """Pearson's correlation of forward and backward over all micro-batches of all ranks."""
    codes = [n for n, name in enumerate(ops.names) if name in ("forward-compute", "backward-compute")]
    if len(codes) < 2:
        return None
    rows = [np.flatnonzero(ops.op == code) for code in codes]
    told = all((ops.microbatch[r] >= 0).all() for r in rows)
    sides = []
    for r in rows:
        batch = ops.microbatch[r] if told else ordinal(ops.step[r], ops.rank[r])
        turn = ordinal(ops.step[r], ops.rank[r], batch)
        sides.append(np.stack([ops.step[r], ops.rank[r], batch, turn, r]))
    one, other = sides
    key = number(*np.concatenate([one[:4], other[:4]], axis=1))
    _, first, second = np.intersect1d(key[: one.shape[1]], key[one.shape[1] :], return_indices=True)
    if len(first) < _PAIRED * max(one.shape[1], other.shape[1]):
        return None
    a, b = rest[one[4, first]], rest[other[4, second]]
    if len(a) < 4 or a.std() < 1e-9 or b.std() < 1e-9:
        return None
    return round(float(np.corrcoef(a, b)[0, 1]), 4)


def _loads_together(ops: Operations) -> bool:
    """Whether most ranks wait for data in the steps in which any does: their storage is slow, not their loaders."""
    rows = np.isin(ops.op, [n for n, name in enumerate(ops.names) if cause_of(name) == "data_loading"])
    if not rows.any():
        return False
    table = np.zeros((len(ops.steps), len(ops.ranks)))
    np.add.at(table, (ops.step[rows], ops.rank[rows]), ops.duration_s[rows])
    long = table > 2.0 * max(float(np.median(table)), 1e-9)
    struck = long.any(axis=1)
    return bool(not struck.any() or long[struck].mean() > 0.5)

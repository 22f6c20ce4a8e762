"""Takes computation times apart: what is its stage's, what is its worker's for long, and what changes from one to the next."""

from dataclasses import dataclass

import numpy as np

from detectors.traceslow.graph import COMPUTE
from detectors.traceslow.series import change
from detectors.traceslow.trace import Operations

# Slower than its peers by less than this is no claim: equal devices differ by a few percent.
MARGIN = 0.05
# So many standard errors of what changes from step to step must a lasting difference be.
_SIGMAS = 5.0
_TO_SIGMA = 1.4826
# A lasting difference lasts at least this part of the steps, and three of them where there are so many.
_LASTS = 0.2
_KEPT = 0.75


@dataclass(frozen=True)
class Spell:
    """Steps [first, last] (places) in which one worker differs from its peers.

    excess: by how much, relative to them; kept: part of these steps in which it does
    """

    who: int
    first: int
    last: int
    excess: float
    kept: float


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Each computation as base x stage x worker x drift x rest. Other operations have 1 in each, base their own time.

    spells: workers (places of ranks) slower than their peers for long; stage, worker, drift, even, rest: shape (n,)
    drift: how many times as long all workers take as at the beginning of the trace
    even: seconds, without the rest; rest: what is left, 1 on average
    usual_s: (ranks,) computation of a step by each rank, and peers_s: by its peers, while the spell lasts, else NaN
    work_s: (steps, ranks) computation of a step by each rank, NaN where there is none
    """

    spells: tuple[Spell, ...]
    stage: np.ndarray
    worker: np.ndarray
    even: np.ndarray
    rest: np.ndarray
    compute: np.ndarray
    usual_s: np.ndarray
    peers_s: np.ndarray
    work_s: np.ndarray
    drift: np.ndarray


def lower_median(values: np.ndarray, axis: int) -> np.ndarray:
    """The median, of an even number the lower of the two middle ones: what half of the equals achieve; NaN is left out."""
    ordered = np.sort(values, axis=axis)
    known = np.isfinite(values).sum(axis=axis, keepdims=True)
    middle = np.take_along_axis(ordered, np.maximum(known - 1, 0) // 2, axis=axis)
    return np.asarray(np.where(known > 0, middle, np.nan).squeeze(axis))


def median_table(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Lower median of the values of each cell, NaN where there is none."""
    key = rows * shape[1] + columns
    order = np.lexsort((values, key))
    cells, first, count = np.unique(key[order], return_index=True, return_counts=True)
    table = np.full(shape[0] * shape[1], np.nan)
    table[cells] = values[order][first + (count - 1) // 2]
    return table.reshape(shape)


def spells(excess: np.ndarray, *, margin: float = MARGIN) -> list[Spell]:
    """Who stands out for long, from tables of relative excess over the peers, shape (steps, workers).

    A stretch of steps counts when its mean is over the margin and far over what changes from one step to the next:
    uneven data strikes another worker each step, a sick device the same.
    """
    known = np.nan_to_num(excess)
    steps = len(known)
    change = np.abs(np.diff(known, axis=0))
    noise = _TO_SIGMA * float(np.median(change)) / np.sqrt(2.0) if change.size else 0.0
    first, last = _best_stretch(known - margin / 2)
    least = min(steps, max(3, int(np.ceil(_LASTS * steps))))
    length = last - first + 1
    total = np.concatenate([np.zeros((1, known.shape[1])), np.cumsum(known, axis=0)])
    everyone = np.arange(known.shape[1])
    mean = (total[last + 1, everyone] - total[first, everyone]) / length
    stands_out = (length >= least) & (mean > np.maximum(margin, _SIGMAS * noise / np.sqrt(length)))
    found = []
    for who in np.flatnonzero(stands_out).tolist():
        kept = float((known[first[who] : last[who] + 1, who] > mean[who] / 3).mean())
        if kept >= _KEPT:
            found.append(Spell(who, int(first[who]), int(last[who]), float(mean[who]), kept))
    return sorted(found, key=lambda spell: -spell.excess * (spell.last - spell.first + 1))


def _best_stretch(gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each column the run of rows with the greatest sum (Kadane): first and last row."""
    columns = gain.shape[1]
    total, best = np.zeros(columns), np.full(columns, -np.inf)
    begun, first, last = (np.zeros(columns, dtype=np.int64) for _ in range(3))
    for n, row in enumerate(gain):
        begun = np.where(total <= 0, n, begun)
        total = np.maximum(total, 0) + row
        better = total > best
        best, first, last = np.where(better, total, best), np.where(better, begun, first), np.where(better, n, last)
    return first, last


def take_apart(ops: Operations, own_s: np.ndarray) -> Factors:
    """Compare each worker with those of its stage, step by step, and each stage with the others.

    Peers are all data and tensor ranks of a stage: they do the same work. Where a stage has one worker only, nobody is compared.
    """
    shape = (len(ops.steps), len(ops.ranks))
    codes = [n for n, name in enumerate(ops.names) if name in COMPUTE]
    compute = np.isin(ops.op, codes)
    tables = {}
    for code in codes:
        rows = ops.op == code
        tables[code] = median_table(ops.step[rows], ops.rank[rows], own_s[rows], shape)
    levels = {code: _levels(table, ops.pp) for code, table in tables.items()}
    many = {code: (ops.op == code).sum() / max(1, np.isfinite(table).sum()) for code, table in tables.items()}
    work = _total(tables, many, shape)
    peers = _total(levels, many, shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = spells(work / peers - 1.0)
    stage, worker, even = np.ones(len(own_s)), np.ones(len(own_s)), own_s.copy()
    usual_s, peers_s = np.full(shape[1], np.nan), np.full(shape[1], np.nan)
    for spell in found:
        inside = slice(spell.first, spell.last + 1)
        usual_s[spell.who], peers_s[spell.who] = np.nanmedian(work[inside, spell.who]), np.nanmedian(peers[inside, spell.who])
    by_step = _drift(work)
    drift = np.where(compute, by_step[ops.step], 1.0)
    for code in codes:
        rows = np.flatnonzero(ops.op == code)
        worker[rows] = _of_worker(tables[code], levels[code], found)[ops.step[rows], ops.rank[rows]]
        by_rank = np.full(len(ops.ranks), np.nan)
        active = np.isfinite(levels[code]).any(axis=0)
        by_rank[active] = lower_median(levels[code][:, active], axis=0)
        each = np.array([by_rank[ops.pp == pp][0] for pp in np.unique(ops.pp)])
        mean = float(np.nanmean(each))
        stage[rows] = by_rank[ops.rank[rows]] / mean if mean > 0 else 1.0
        share = stage[rows] * worker[rows] * drift[rows]
        even[rows] = share * own_s[rows].mean() / max(float(share.mean()), 1e-12)
    rest = np.ones(len(own_s))
    np.divide(own_s, even, out=rest, where=compute & (even > 0))
    return Factors(
        spells=tuple(found), stage=np.where(stage > 0, stage, 1.0), worker=worker, even=even, rest=rest, compute=compute,
        usual_s=usual_s, peers_s=peers_s, work_s=work, drift=drift,
    )  # fmt: skip


def _drift(work_s: np.ndarray) -> np.ndarray:
    """What all workers together take longer or shorter from some step on, against before; shape (steps,)."""
    out, active = np.ones(len(work_s)), np.isfinite(work_s).all(axis=0)
    if not active.any():
        return out
    usual = np.median(work_s[:, active], axis=0)
    at, before, after = change(np.median(work_s[:, active] / np.maximum(usual, 1e-12), axis=1))
    if before > 0 and abs(after / before - 1.0) >= MARGIN:
        out[at:] = after / before
    return out


def _levels(table: np.ndarray, pp: np.ndarray) -> np.ndarray:
    """For each step and rank what half of its stage achieves."""
    out = np.empty_like(table)
    for stage in np.unique(pp):
        members = pp == stage
        out[:, members] = lower_median(table[:, members], axis=1)[:, None]
    return out


def _total(tables: dict[int, np.ndarray], many: dict[int, float], shape: tuple[int, int]) -> np.ndarray:
    """Seconds of computation in a step: each kind's usual time, as often as a rank does it."""
    parts = [table * many[code] for code, table in tables.items()]
    return np.asarray(np.sum(parts, axis=0)) if parts else np.full(shape, np.nan)


def _of_worker(table: np.ndarray, levels: np.ndarray, found: list[Spell]) -> np.ndarray:
    factor = np.ones_like(table)
    for spell in found:
        inside = slice(spell.first, spell.last + 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = table[inside, spell.who] / levels[inside, spell.who]
        if np.isfinite(ratios).any():
            factor[inside, spell.who] = max(1.0, float(np.nanmedian(ratios[np.isfinite(ratios)])))
    return factor

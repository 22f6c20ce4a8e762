"""Finds how far the clocks of ranks are apart, from the ends of what they do together."""

import numpy as np

from detectors.traceslow.graph import Meetings, is_p2p
from detectors.traceslow.trace import Operations

# Clocks of hosts under a time protocol agree to less than this: nothing is put right that small.
_AGREE_S = 1e-3
# Offsets are believed when they are so many times what the ends of one meeting differ by besides.
_CLEAR = 3.0


def aligned_starts(ops: Operations, met: Meetings) -> np.ndarray:
    """Starts on one clock, in seconds, shape (n,); as they are where the clocks agree.

    A transfer ends at both its ends at about the same time, and what it lacks of that it lacks in both directions (the
    assumption of network time protocols: Mills, Internet Time Synchronization, 1991); a collective ends at all its ranks.
    """
    pairs = _pairs(ops, met)
    if not pairs:
        return ops.start_s
    offset, left = _solved(pairs, len(ops.ranks))
    apart = float(np.median(np.abs(offset - np.median(offset))))
    if apart < _AGREE_S or apart < _CLEAR * left:
        return ops.start_s
    return np.asarray(ops.start_s - offset[ops.rank])


def _pairs(ops: Operations, met: Meetings) -> dict[tuple[int, int], float]:
    """(rank, rank) -> how much later the second one's clock says what both do ended; places of ranks."""
    rows = np.flatnonzero(met.meeting >= 0)
    ends = ops.start_s + ops.duration_s
    order = rows[np.lexsort((ops.rank[rows], met.meeting[rows]))]
    same = met.meeting[order][1:] == met.meeting[order][:-1]
    first, second = order[:-1][same], order[1:][same]
    apart = ops.rank[first] != ops.rank[second]
    first, second = first[apart], second[apart]
    if not len(first):
        return {}
    sends = np.array([name.endswith(("send", "send-backward-recv")) for name in ops.names])
    p2p = np.array([is_p2p(name) for name in ops.names])
    # directions of a pair are told apart, so that each weighs the same
    way = np.where(p2p[ops.op[first]], 1 + sends[ops.op[first]], 0)
    key = (ops.rank[first] * len(ops.ranks) + ops.rank[second]) * 3 + way
    later = ends[second] - ends[first]
    by_key = np.lexsort((later, key))
    numbers, begin, count = np.unique(key[by_key], return_index=True, return_counts=True)
    middle = later[by_key][begin + (count - 1) // 2]
    found: dict[tuple[int, int], list[float]] = {}
    for number, value in zip(numbers.tolist(), middle.tolist(), strict=True):
        found.setdefault(divmod(number // 3, len(ops.ranks)), []).append(value)
    return {pair: sum(values) / len(values) for pair, values in found.items()}


def _solved(pairs: dict[tuple[int, int], float], ranks: int) -> tuple[np.ndarray, float]:
    """The offset of each rank along a tree of pairs, and by how much (median) the other pairs contradict it."""
    near: dict[int, list[tuple[int, float]]] = {}
    for (one, other), later in pairs.items():
        near.setdefault(one, []).append((other, later))
        near.setdefault(other, []).append((one, -later))
    offset = np.full(ranks, np.nan)
    for root in near:
        if not np.isnan(offset[root]):
            continue
        offset[root], front = 0.0, [root]
        while front:
            front = [other for one in front for other in _reached(one, near, offset)]
    offset = np.nan_to_num(offset)
    left = [abs(offset[other] - offset[one] - later) for (one, other), later in pairs.items()]
    return offset, float(np.median(left))


def _reached(one: int, near: dict[int, list[tuple[int, float]]], offset: np.ndarray) -> list[int]:
    new = [(other, later) for other, later in near[one] if np.isnan(offset[other])]
    for other, later in new:
        offset[other] = offset[one] + later
    return [other for other, _ in new]

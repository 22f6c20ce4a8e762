"""How far each of some equals stands from the others: robust z-scores with a floored spread."""

from typing import NamedTuple

import numpy as np

# Below so many equals nobody can be called the odd one.
LEAST = 4
_TO_SIGMA = 1.4826


def robust_z(values: np.ndarray, *, floor: float) -> np.ndarray:
    """Distances from the median in robust standard deviations (MAD x 1.4826), NaN where a value is missing or peers are too few.

    values: float64, shape (n,); floor: the least spread believed, as a share of the median's size
    Source: Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993.
    """
    known = np.isfinite(values)
    if known.sum() < LEAST:
        return np.full(len(values), np.nan)
    middle = float(np.median(values[known]))
    spread = _TO_SIGMA * float(np.median(np.abs(values[known] - middle)))
    return np.asarray((values - middle) / max(spread, floor * abs(middle), 1e-12))


class Compared(NamedTuple):
    """z: robust z-scores, NaN where there is none; middle: the group's median; known: how many are known; each (rows, signals)."""

    z: np.ndarray
    middle: np.ndarray
    known: np.ndarray


def blocks(labels: np.ndarray) -> list[np.ndarray]:
    """Groups of equal size together: row numbers, shape (groups, size), for each size of at least `LEAST`.

    labels: int64, shape (rows,); a negative one is in no group
    """
    order = np.argsort(labels, kind="stable")
    order = order[np.searchsorted(labels[order], 0) :]
    if not len(order):
        return []
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    return [order[starts[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes).tolist() if size >= LEAST]


def compare(values: np.ndarray, groups: list[np.ndarray], *, floor: np.ndarray, ratio: np.ndarray) -> Compared:
    """`robust_z` of many signals within many groups at once.

    values: float64, shape (rows, signals), NaN: not known; floor, ratio: least spread of each signal, absolute and of the median's size
    """
    found = Compared(np.full(values.shape, np.nan), np.full(values.shape, np.nan), np.zeros(values.shape, dtype=np.int64))
    for rows in groups:
        own = values[rows]
        count = np.isfinite(own).sum(axis=1)
        middle = _medians(own, count)
        with np.errstate(invalid="ignore"):
            off = own - middle[:, None, :]
            spread = np.maximum(_TO_SIGMA * _medians(np.abs(off), count), np.maximum(floor, ratio * np.abs(middle)))
            z = off / np.maximum(spread, 1e-12)[:, None, :]
        found.z[rows] = np.where((count >= LEAST)[:, None, :], z, np.nan)
        found.middle[rows] = middle[:, None, :]
        found.known[rows] = count[:, None, :]
    return found


def _medians(own: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Medians over axis 1 of what is known. own: (groups, size, signals); count: known ones, (groups, signals)"""
    ordered = np.sort(own, axis=1)  # NaN last
    low = np.take_along_axis(ordered, (np.maximum(count - 1, 0) // 2)[:, None, :], axis=1)
    high = np.take_along_axis(ordered, np.minimum(count // 2, own.shape[1] - 1)[:, None, :], axis=1)
    return np.asarray(0.5 * (low + high)[:, 0, :])

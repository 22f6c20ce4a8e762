"""When a series of step times changes its level."""

import numpy as np


def growth(times_s: np.ndarray) -> float:
    """How many times as long a series takes at its end as at its beginning; 1 where that does not stand out."""
    _, before, after = change(times_s)
    quarter = len(times_s) // 4
    if before == after or quarter < 2:
        return after / max(before, 1e-12)
    ends = float(np.median(times_s[-quarter:]) / max(float(np.median(times_s[:quarter])), 1e-12))
    return max(ends, after / max(before, 1e-12))


def change(series_s: np.ndarray) -> tuple[int, float, float]:
    """Where a series changes its level most, and its medians before and after: (0, m, m) where it does not.

    The split with the least sum of squared deviations; both sides hold at least three steps, and the change stands out
    of what varies from one step to the next, so that a slow drift is one too.
    """
    whole = float(np.median(series_s))
    if len(series_s) < 6:
        return 0, whole, whole
    total = np.concatenate([[0.0], np.cumsum(series_s)])
    square = np.concatenate([[0.0], np.cumsum(series_s**2)])
    n = np.arange(3, len(series_s) - 2)
    left = square[n] - total[n] ** 2 / n
    right = (square[-1] - square[n]) - (total[-1] - total[n]) ** 2 / (len(series_s) - n)
    at = int(n[np.argmin(left + right)])
    before, after = float(np.median(series_s[:at])), float(np.median(series_s[at:]))
    noise = 1.4826 * float(np.median(np.abs(np.diff(series_s)))) / np.sqrt(2.0)
    return (at, before, after) if abs(after - before) > 3.0 * noise else (0, whole, whole)

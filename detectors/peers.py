"""How far each of some equals stands from the others: robust z-scores with a floored spread."""

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

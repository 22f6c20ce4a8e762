"""Rates with their n and a 95 % interval, and percentiles."""

import math
from collections.abc import Sequence

_Z = 1.959964


def rate(hits: int, n: int) -> float | None:
    """The share, None of nothing."""
    return round(hits / n, 4) if n else None


def interval(hits: int, n: int) -> tuple[float, float] | None:
    """Wilson's score interval of a share at 95 % (Wilson, Probable Inference, JASA 1927); None of nothing."""
    if not n:
        return None
    share, z2 = hits / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)


def per_thousand(count: int, hours: float) -> tuple[float, tuple[float, float]] | None:
    """Events per 1,000 hours and Byar's approximation of the exact Poisson interval at 95 %; None of no hours.

    Source: Breslow and Day, Statistical Methods in Cancer Research II, 1987, p. 69.
    """
    if hours <= 0:
        return None
    low = count * (1 - 1 / (9 * count) - _Z / (3 * math.sqrt(count))) ** 3 if count else 0.0
    more = count + 1
    high = more * (1 - 1 / (9 * more) + _Z / (3 * math.sqrt(more))) ** 3
    return round(1000 * count / hours, 3), (round(1000 * low / hours, 3), round(1000 * high / hours, 3))


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value that so large a share of them does not exceed (nearest rank); None of nothing."""
    ranked = sorted(values)
    return round(ranked[max(0, math.ceil(share * len(ranked)) - 1)], 2) if ranked else None


def percentiles(values: Sequence[float]) -> dict[str, float | None] | None:
    """The median, the 90th percentile (nearest rank) and the greatest; None of nothing."""
    return {"p50": quantile(values, 0.5), "p90": quantile(values, 0.9), "max": quantile(values, 1.0)} if values else None

"""What a rank itself did in a step: its work without the waiting for others, per token where sequences are uneven."""

import numpy as np

from detectors.traceslow.phases import DATA, PAUSE, STEP, TOKENS, TRANSFER, WAIT, WORK

# Phases that add up to so much of the step tell all of it: what is left over is the rank's own too.
_COVERED = (0.7, 1.05)
_SAMPLE = 256
# Work per token is compared where it spreads by so much less than work.
_EVENER = 0.7


def middle(values: np.ndarray) -> float:
    """The median of a sample of the known values, NaN of none."""
    if len(values) > 2 * _SAMPLE:
        values = values[:: len(values) // _SAMPLE]
    known = values[np.isfinite(values)]
    return float(np.partition(known, (len(known) - 1) // 2)[(len(known) - 1) // 2]) if len(known) else float("nan")


def own_time(parts: np.ndarray) -> np.ndarray:
    """Seconds of own work of each rank, shape (ranks,): who arrives last waits least. parts: see `phases.Parts.of`.

    Where waiting is told and the phases add up, all but waiting, transfers and pauses is the rank's own; else the sum of its
    own phases; of step times alone, the step.
    """
    step, wait = parts[STEP], parts[WAIT]
    own = sum_of(parts, WORK, DATA)
    if own is None:
        own = step if not np.isfinite(wait).any() else np.full(len(step), np.nan)
    other = sum_of(parts, WAIT, TRANSFER, PAUSE)
    if not np.isfinite(wait[:_SAMPLE]).any() or other is None:
        return own
    covered = middle((_some(own) + _some(other)) / _some(step))
    if np.isfinite(own[:_SAMPLE]).any() and not _COVERED[0] <= covered <= _COVERED[1]:
        return own
    arrival = step - other
    return arrival if arrival.min() > 0 else np.where(arrival > 0, arrival, own)


def sum_of(parts: np.ndarray, *which: int) -> np.ndarray | None:
    """The sum of some parts, of each rank what it tells of them; None where nobody tells any."""
    told = [parts[part] for part in which if not np.isnan(parts[part, 0]) or np.isfinite(parts[part]).any()]
    if not told:
        return None
    total: np.ndarray = told[0].copy()
    for one in told[1:]:
        total += one
    if np.isnan(total).any():
        table = np.stack(told)
        total = np.where(np.isfinite(table).any(axis=0), np.nansum(table, axis=0), np.nan)
    return total


def _some(values: np.ndarray) -> np.ndarray:
    return np.asarray(values[:: max(1, len(values) // _SAMPLE)])


def _known(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.nan_to_num(values))


def is_evener_per_token(parts: np.ndarray) -> bool:
    """Whether ranks differ less in their work per token than in their work: their sequences are uneven, and told."""
    work, tokens = parts[WORK], parts[TOKENS]
    if not (np.isfinite(work).any() and np.isfinite(tokens).any()):
        return False
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(tokens > 0, work / tokens, np.nan)
    return _uneven(rate) < _EVENER * _uneven(work)


def per_token(own_s: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Own times as they were with tokens like everybody's. What is no work stays as it is."""
    tokens, work = parts[TOKENS], _known(parts[WORK])
    usual = middle(tokens)
    with np.errstate(divide="ignore", invalid="ignore"):
        even = np.where(tokens > 0, work * usual / tokens, work)
    return np.asarray(own_s - work + even)


def _uneven(values: np.ndarray) -> float:
    """Median deviation from the median, relative to it; 0 of nothing known."""
    usual = middle(values)
    return middle(np.abs(values - usual)) / usual if usual > 0 else 0.0

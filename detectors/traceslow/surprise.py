"""How surprising a deviation is, measured on all that the same job has shown: its own noise, heavy tails included."""

import math

import numpy as np

_LOWEST, _PER_UNIT, _BINS = -8.0, 4.0, 160
# What is believed before anything was seen: one reading in ten from a tail of exp(-z)/2, far heavier than the normal one of the
# others, with the weight of so many readings.
_BEFORE, _HEAVY = 50.0, 0.1
_FADES = 0.995
_EDGES = _LOWEST + np.arange(_BINS) / _PER_UNIT
_BELIEVED = np.array([
    (1 - _HEAVY) * 0.5 * math.erfc(z / math.sqrt(2)) + _HEAVY * (0.5 * math.exp(-z) if z > 0 else 1 - 0.5 * math.exp(z))
    for z in _EDGES.tolist()
])  # fmt: skip
# No single step says more than this, in nats, so that one pause never is a habit.
MOST = 12.0


class Surprise:
    """A fading histogram of deviations in robust standard deviations. memory: what `memory` gave"""

    def __init__(self, memory: bytes = b"") -> None:
        self._counts = np.frombuffer(memory) if memory else np.zeros(_BINS)
        self._said = self._tell()

    def of(self, z: np.ndarray) -> np.ndarray:
        """-log of how often a deviation is at least so large, 0..MOST; NaN gives 0. z: shape (n,)

        Of a healthy rank it is exponential with mean 1, whatever its distribution (the probability integral transform).
        """
        return np.asarray(self._said[_bin(z)])

    def least(self, said: float) -> float:
        """The deviation from which on more than this is said."""
        return float(_EDGES[min(int(np.searchsorted(self._said[:-1], said, side="right")), _BINS - 1)])

    def learn(self, z: np.ndarray) -> None:
        """Remember deviations, the older ones fading. z: shape (n,)"""
        self._counts = self._counts * _FADES + np.bincount(_bin(z), minlength=_BINS + 1)[:_BINS]
        self._said = self._tell()

    def memory(self) -> bytes:
        return self._counts.tobytes()

    def _tell(self) -> np.ndarray:
        """What each bin says, ascending, and 0 for what is not known."""
        above = np.cumsum(self._counts[::-1])[::-1]
        tail = (above + _BEFORE * _BELIEVED) / (float(self._counts.sum()) + _BEFORE)
        return np.append(np.minimum(-np.log(tail), MOST), 0.0).astype(np.float32)


def _bin(z: np.ndarray) -> np.ndarray:
    """The bin of each; the one behind the last for NaN."""
    place = (z - _LOWEST) * _PER_UNIT
    np.clip(place, 0, _BINS - 1, out=place)
    if np.isnan(place).any():
        place[np.isnan(place)] = _BINS
    return np.asarray(place.astype(np.int32))

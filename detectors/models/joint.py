"""A scikit-learn model for what no single signal shows: many of them a little off together, for long."""

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator, Philox

from detectors.peers import robust_z

# Scores of single looks are cut here, so that one signal alone cannot make a joint deviation.
_CUT = 4.0
# Weight of the newest look in the mean over looks: about the last six count.
_NEWEST = 0.3
_LEAST_ROWS, _LEAST_LOOKS = 256, 8
_MOST_ROWS = 4096
_REFIT_LOOKS = 20
_FLOOR = 0.05
# So many signals have to be off by so many robust standard deviations each: noise is far below, its mean over six looks still more so.
_CLEARLY, _SEVERAL = 1.25, 3


@dataclass
class Means:
    """Each target's mean z over the last looks. values: float64, shape (rows, signals); 0 where nothing is compared"""

    values: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def take(self, z: np.ndarray) -> np.ndarray:
        """Note a look. z: shape (rows, signals), NaN: not compared. Further rows and signals are new, rows never move."""
        more = [(0, new - old) for new, old in zip(z.shape, self.values.shape, strict=True)]
        self.values = np.asarray(np.pad(self.values, more))
        known = np.isfinite(z)
        newest: np.ndarray = np.clip(np.where(known, z, 0.0), -_CUT, _CUT)
        means: np.ndarray = np.where(known, self.values + _NEWEST * (newest - self.values), 0.0)
        self.values = means
        return np.asarray(means)


def suspects(means: np.ndarray) -> np.ndarray:
    """Rows of which several signals are clearly off in the mean over looks: only these are worth a model. bool, shape (rows,)"""
    return np.asarray(np.count_nonzero(np.abs(means) >= _CLEARLY, axis=1) >= _SEVERAL)


def _above(sizes: np.ndarray) -> np.ndarray:
    """Robust z-scores of sizes among each other."""
    return np.asarray(np.nan_to_num(robust_z(sizes, floor=_FLOOR)))


@dataclass
class Joint:
    """Mahalanobis distance of a target's mean scores under a covariance that was shrunk (Ledoit and Wolf, 2004), learned of all targets.

    What is off in the way all are off now and then is near; what is off against the usual ties of its signals is far, however little each
    signal is. seed: of the choice of rows where there are more than the model learns from

    >>> draw = Generator(Philox(5))
    >>> model, usual = Joint(seed=1), draw.normal(scale=0.4, size=(300, 6))
    >>> for _ in range(8):
    ...     model.learn(usual)
    >>> odd = np.vstack([usual[:40], np.full(6, 1.8)])
    >>> scores, parts = model.score(odd)
    >>> bool(scores[-1] > 6.0), bool(scores[:-1].max() < 6.0)
    (True, True)
    >>> float(parts[-1].sum().round(6))
    1.0
    """

    seed: int = 0
    _rows: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    _looks: int = 0
    _fitted: int = -1
    _location: np.ndarray = field(default_factory=lambda: np.zeros(0))
    _precision: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def ready(self) -> bool:
        """Whether enough was seen to learn from."""
        return self._looks >= _LEAST_LOOKS and len(self._rows) >= _LEAST_ROWS

    def learn(self, means: np.ndarray) -> None:
        """Keep a look's rows, at most an eighth of what is kept; those that were called odd are not to be among them."""
        draw = Generator(Philox(key=[self.seed, self._looks]))
        most = _MOST_ROWS // _LEAST_LOOKS
        chosen = means if len(means) <= most else means[np.sort(draw.choice(len(means), most, replace=False))]
        wider = np.pad(self._rows, ((0, 0), (0, means.shape[1] - self._rows.shape[1])))
        self._rows = np.vstack([wider, chosen.astype(np.float32)])[-_MOST_ROWS:]
        self._looks += 1

    def score(self, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(how far each row is, in robust standard deviations of all rows' distances; each signal's part of it, which sum to 1)."""
        if self._fitted < 0 or self._looks - self._fitted >= _REFIT_LOOKS or means.shape[1] != len(self._location):
            self._fit(means.shape[1])
        off = means - self._location
        parts = off * (off @ self._precision)
        distance = np.maximum(parts.sum(axis=1), 0.0)
        share = parts / np.maximum(distance, 1e-12)[:, None]
        # the cube root of a chi-squared is about normal (Wilson and Hilferty, 1931); who is compared with nobody is no measure
        return _above(np.where(means.any(axis=1), np.cbrt(distance), np.nan)), share

    def _fit(self, signals: int) -> None:
        from sklearn.covariance import LedoitWolf

        rows = np.pad(self._rows, ((0, 0), (0, signals - self._rows.shape[1]))).astype(np.float64)
        # a signal that never moves gets a spread all the same: its first move is not endlessly far
        fitted = LedoitWolf().fit(rows)
        self._location = fitted.location_
        self._precision = np.linalg.inv(fitted.covariance_ + (0.1**2) * np.eye(signals))
        self._fitted = self._looks

    def kept(self) -> tuple[int, int, int, bytes, bytes, bytes]:
        """What a restart needs: looks, the look of the last fit, signals, rows, location and precision."""
        return (
            self._looks, self._fitted, self._rows.shape[1], self._rows.tobytes(), self._location.tobytes(), self._precision.tobytes(),
        )  # fmt: skip

    def recall(self, kept: tuple[int, int, int, bytes, bytes, bytes]) -> None:
        """Go on from what was kept."""
        self._looks, self._fitted, signals, rows, location, precision = kept
        self._rows = np.frombuffer(rows, dtype=np.float32).reshape(-1, signals).copy() if signals else np.zeros((0, 0), dtype=np.float32)
        self._location = np.frombuffer(location).copy()
        self._precision = np.frombuffer(precision).reshape(len(self._location), -1).copy() if len(location) else np.zeros((0, 0))

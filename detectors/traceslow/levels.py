"""Where each rank of a job usually stands among its peers, and who stands far off when many steps are taken together."""

import msgspec
import numpy as np

_TO_SIGMA = 1.4826
_SAMPLE = 2048
# Steps are added up and learned in blocks, each level fading with so many steps.
_BLOCK = 8
_BASE_STEPS, _SHORT_STEPS, _LONG_STEPS = 64, 32, 256
# Looked at every so many steps, from so many on; by so many standard deviations of a mean it stands out. Some ten thousand looks
# at ten thousand ranks in 1,000 hours leave one in a thousand to chance.
_LOOKED, _LEAST, _FAR = 16, 32, 6.5
_FLOOR = 0.0025
# It is over the least excess by so many standard deviations.
_SURELY = 3.0
_COUNT, _LEARNED, _BASE, _SHORT, _LONG, _TOTAL, _KNOWN = range(7)
_ROWS = 7


class LevelsMemory(msgspec.Struct):
    """`Levels` as they are kept. table: float32, shape (_ROWS, ranks)"""

    table: bytes
    steps: int
    variety: float
    center: float


class Levels:
    """Fading means of each rank's excess over its peers.

    base: float32, shape (ranks,), learned only while a rank is not suspected; learned: steps it holds; count: all steps
    variety: standard deviation of the bases, what ranks differ by for good; center: their median, which is over 0 where long
    sequences weigh more than short ones
    """

    def __init__(self, ranks: int) -> None:
        self._table = np.zeros((_ROWS, ranks), dtype=np.float32)
        self._steps, self.variety, self.center = 0, 0.0, 0.0

    @property
    def base(self) -> np.ndarray:
        return np.asarray(self._table[_BASE])

    @property
    def learned(self) -> np.ndarray:
        return np.asarray(self._table[_LEARNED])

    @property
    def count(self) -> np.ndarray:
        return np.asarray(self._table[_COUNT])

    @property
    def long(self) -> np.ndarray:
        """The slow mean of each rank, shape (ranks,)."""
        return np.asarray(self._table[_LONG])

    def grow(self, ranks: int) -> None:
        more = np.zeros((_ROWS, ranks - self._table.shape[1]), dtype=np.float32)
        self._table = np.concatenate([self._table, more], axis=1)

    def forget(self, ranks: np.ndarray) -> None:
        self._table[:, ranks] = 0.0

    def learn(self, excess: np.ndarray, calm: np.ndarray) -> None:
        """Take in one step. excess: float32, shape (ranks,), NaN: not told; calm: bool, who is not suspected"""
        table = self._table
        self._steps += 1
        if np.isnan(excess).any():
            known = np.isfinite(excess)
            table[_TOTAL] += np.where(known, excess, 0.0)
            table[_KNOWN] += known
        else:
            table[_TOTAL] += excess
            table[_KNOWN] += 1.0
        if self._steps % _BLOCK == 0:
            self._learn_block(calm)

    def _learn_block(self, calm: np.ndarray) -> None:
        table = self._table
        known = table[_KNOWN]
        mean = table[_TOTAL] / np.maximum(known, 1.0)
        learned = known * calm
        table[_COUNT] += known
        table[_LEARNED] += learned
        # the steps before count at most as many as the level holds
        for row, steps, weight, count in (
            (_BASE, _BASE_STEPS, learned, _LEARNED), (_SHORT, _SHORT_STEPS, known, _COUNT), (_LONG, _LONG_STEPS, known, _COUNT)
        ):  # fmt: skip
            pace = weight / np.maximum(np.minimum(table[count], steps), 1.0)
            table[row] += pace * (mean - table[row])
        table[_TOTAL], table[_KNOWN] = 0.0, 0.0
        ripe = table[_BASE][table[_LEARNED] >= _BLOCK]
        if len(ripe):
            self.center = float(np.median(ripe[:: max(1, len(ripe) // _SAMPLE) | 1]))
            self.variety = spread_of(ripe - np.float32(self.center), 0.0)

    def outstanding(self, group: np.ndarray, *, noise: float, least: float) -> list[tuple[int, int, float]]:
        """Groups, and ranks of no such group, that stand far off: (group or -1, one of its ranks, excess).

        group: for each rank a number, -1: none; noise: standard deviation of one step of one rank; least: excess
        """
        count = self._table[_COUNT]
        ripe = count >= _LEAST
        if self._steps % _LOOKED or not ripe.any():
            return []
        found: dict[int, tuple[int, int, float]] = {}
        inside = ripe & (group >= 0)
        members = np.bincount(group[inside], minlength=1)
        for row, steps in ((_SHORT, _SHORT_STEPS), (_LONG, _LONG_STEPS)):
            level, held = self._table[row].astype(np.float64), np.minimum(count, 2.0 * steps)
            if (members >= 2).sum() >= 4:
                mean = np.bincount(group[inside], weights=level[inside], minlength=len(members)) / np.maximum(members, 1)
                error = noise / np.sqrt(np.maximum(members, 1) * float(held[inside].mean()))
                for one in _far(np.where(members >= 2, mean, np.nan), error, least):
                    rank = int(np.flatnonzero((group == one) & ripe)[0])
                    found.setdefault(-2 - one, (one, rank, float(mean[one])))
            for rank in _far(np.where(ripe, level, np.nan), noise / np.sqrt(np.maximum(held, 1.0)), least):
                if -2 - int(group[rank]) not in found:
                    found.setdefault(rank, (-1, rank, float(level[rank])))
        return list(found.values())

    def memory(self) -> bytes:
        return msgspec.msgpack.encode(LevelsMemory(self._table.tobytes(), self._steps, self.variety, self.center))

    def remember(self, memory: bytes, ranks: int) -> None:
        kept = msgspec.msgpack.decode(memory, type=LevelsMemory)
        self._table = np.frombuffer(kept.table, dtype=np.float32).reshape(_ROWS, ranks).copy()
        self._steps, self.variety, self.center = kept.steps, kept.variety, kept.center


def _far(level: np.ndarray, error: np.ndarray, least: float) -> list[int]:
    """Which levels are far over their median. error: standard deviation of each; NaN: not known"""
    known = level[np.isfinite(level)]
    level = level - float(np.median(known))
    apart = max(spread_of(level, 0.0), _FLOOR)
    with np.errstate(invalid="ignore"):
        return np.flatnonzero(level > np.maximum(least + _SURELY * error, _FAR * np.maximum(error, apart))).tolist()


def spread_of(values: np.ndarray, before: float) -> float:
    """Robust standard deviation about 0 (MAD x 1.4826), of a sample where they are many; never under half of the one before."""
    if len(values) > 2 * _SAMPLE:
        values = values[:: len(values) // _SAMPLE | 1]  # an odd stride: tensor ranks are a power of two
    sizes = np.abs(values)
    if np.isnan(sizes).any():
        sizes = sizes[np.isfinite(sizes)]
    if not len(sizes):
        return before
    middle = len(sizes) // 2
    return max(_TO_SIGMA * float(np.partition(sizes, middle)[middle]), 0.5 * before)

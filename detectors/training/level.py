"""The running level and noise of a series, robust against what is unusual in it, with the trend taken out."""

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec

SHORT, LONG = 15, 64
LEAST = 10
_SD_OF_STEP = 1.0 / (0.6745 * math.sqrt(2.0))  # median |difference of neighbours| of normal noise -> standard deviation
_SD_OF_MAD = 1.4826
_TAIL, _SD_OF_TAIL = 0.95, 1.0 / (1.96 * math.sqrt(2.0))  # the same of the largest twentieth of them


def median(values: Sequence[float]) -> float:
    """The middle of some numbers, the upper one of two; there has to be one."""
    return sorted(values)[len(values) // 2]


class Level(msgspec.Struct):
    """What a series was at lately. values: the last `LONG` that were taken in, oldest first; count: taken in so far."""

    values: list[float] = []
    count: int = 0

    def learn(self, value: float) -> None:
        """Take a usual value in; who calls leaves the unusual ones out."""
        self.values.append(value)
        self.count += 1
        del self.values[:-LONG]

    @property
    def known(self) -> bool:
        return len(self.values) >= LEAST

    def middle(self) -> float:
        """The median of the last `SHORT`: short enough to follow a loss that falls fast."""
        return median(self.values[-SHORT:])

    def wide_middle(self) -> float:
        """The median of the later half: slow enough that no few values move it."""
        return median(self.values[-LONG // 2 :])

    def noise(self) -> float:
        """One standard deviation of what is usual.

        Differences of neighbours know no trend; the spread of the last `SHORT` knows noise that hangs together.
        """
        values = self.values
        steps = sorted([abs(a - b) for a, b in pairwise(values)])
        middle = self.middle()
        spread = median([abs(value - middle) for value in values[-SHORT:]]) * _SD_OF_MAD
        few = 1.5 if len(values) < LONG // 2 else 1.0  # from few values it is known less well
        # the middle half of heavy tails says nothing of how far they reach
        tail = steps[int(_TAIL * len(steps))] * _SD_OF_TAIL if len(steps) >= LONG // 2 else 0.0
        return few * max(steps[len(steps) // 2] * _SD_OF_STEP, spread, tail)

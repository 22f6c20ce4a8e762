"""Whether a job's machines are as still as its steps: devices that spin at little power, and links that carry nothing any more.

A kernel that waits for its peers keeps its device fully busy at about a fifth of the power that work takes. Devices that save a
checkpoint, evaluate or load look otherwise.
"""

import msgspec
import numpy as np

from detectors.tracehang.pages import BUSY, POWER
from holdfast.events import Samples

MOST_SOURCES = 4096  # of one job
SENT = ("nic.tx_bytes_total", "nic.rx_bytes_total")

# A device is busy from here on; of those of a job so many are, and draw on average at most so much of what they usually do.
_BUSY, _MOSTLY, _LITTLE_POWER = 0.9, 0.5, 0.5
_LITTLE_TRAFFIC = 0.05
_LEARNS = 0.1
_FRESH_S = 120.0  # whose last page is older than that against the newest is of the job no more
# Usual watts and bytes per second under which nothing can be told of less.
_LEAST_W, _LEAST_BYTES_S = 50.0, 1e6


class Level(msgspec.Struct):
    """One kind of reading of one source: its usual level while the job steps, and when it last was still (0.0: it is not)."""

    usual: float = 0.0
    still_at: float = 0.0
    read_at: float = 0.0
    total: float = 0.0


class Stillness(msgspec.Struct):
    """What the machines of one job show, once it steps. power, traffic: by source"""

    power: dict[str, Level] = {}
    traffic: dict[str, Level] = {}

    def take(self, seen: Samples, *, rests_at: float) -> None:
        """Take in a page. rests_at: when a step would have ended by now; until then the job is taken to work"""
        if BUSY in seen.signals and POWER in seen.signals:
            busy, power = (seen.values[:, seen.signals.index(name)] for name in (BUSY, POWER))
            known = np.isfinite(power)
            if known.any():
                spins = float(np.mean(busy[known] >= _BUSY)) >= _MOSTLY
                self._note(self.power, seen, float(power[known].mean()), _LITTLE_POWER, _LEAST_W, rests_at, may=spins)
        columns = [n for n, name in enumerate(seen.signals) if name in SENT]
        if columns:
            self._note_traffic(seen, float(np.nansum(seen.values[:, columns])), rests_at)

    def _note_traffic(self, seen: Samples, total: float, rests_at: float) -> None:
        level = _level(self.traffic, seen)
        before_at, before = level.read_at, level.total
        level.read_at, level.total = seen.at, total
        if not before_at < seen.at or total < before:  # the first, or counted anew
            return
        # a time of which a part was before the stop tells nothing
        part = before_at < rests_at <= seen.at
        if not part:
            rate = (total - before) / (seen.at - before_at)
            self._note(self.traffic, seen, rate, _LITTLE_TRAFFIC, _LEAST_BYTES_S, rests_at, may=True)

    @staticmethod
    def _note(levels: dict[str, Level], seen: Samples, value: float, little: float, least: float, rests_at: float, *, may: bool) -> None:
        level = _level(levels, seen)
        level.read_at = seen.at
        if seen.at < rests_at:
            level.usual = level.usual + _LEARNS * (value - level.usual) if level.usual else value
            level.still_at = 0.0
        else:
            level.still_at = seen.at if may and level.usual > least and value <= little * level.usual else 0.0

    def signs(self, since: float) -> list[str]:
        """What is still after `since`, in words: of most sources that tell, the latest page shows it."""
        texts = {"power": "the devices spin at little of their usual power", "traffic": "the network carries next to nothing"}
        return [texts[name] for name, levels in (("power", self.power), ("traffic", self.traffic)) if _most(levels, since)]


def _most(levels: dict[str, Level], since: float) -> bool:
    newest = max((level.read_at for level in levels.values()), default=0.0)
    still = [level.still_at >= since for level in levels.values() if newest - level.read_at <= _FRESH_S]
    return 2 * sum(still) > len(still)


def _level(levels: dict[str, Level], seen: Samples) -> Level:
    key = f"{seen.node} {seen.source}"
    level = levels.get(key)
    if level is None:
        while len(levels) >= MOST_SOURCES:
            del levels[next(iter(levels))]
        level = levels[key] = Level()
    return level

"""What each rank of a job has shown so far: evidence that grows while it is slower than its peers, or than itself before."""

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from detectors.traceslow.levels import Levels, spread_of
from detectors.traceslow.peers import Peers
from detectors.traceslow.surprise import Surprise

# A healthy job reaches the limit once in so many steps: three times what 1,000 hours have of 6 s each.
_STEPS_PER_FALSE_ALARM = 2e6
# What a step's surprise must exceed on average, and the exponent that gives for the greatest sum of exponentials of mean 1:
# Lundberg's, 1 / (1 - r) = exp(r k).
_ALLOWED, _EXPONENT = 2.5, 0.893
# Equal devices agree to about this, as a share of their work.
FLOOR = 0.005
# Standard deviations of a mean by which a rank stands out of what ranks differ by for good.
_STANDS_OUT = 5.0
_ODD, _NEARLY, _VARIES, _KEPT = 2.0, 0.75, 4.0, 0.6
_RIPE = 8
# Who is late from one of the first steps on always was.
_SETTLES = 3
_FADE = 0.9
_LAG = 5
_SAMPLE = 2048
# No step counts for more than so many standard deviations in the mean of many, so that few pauses are none.
_BOUNDED = 4.0

# Rows of the table, one number a rank each. For each kind of evidence its sum, since when it is over 0, and in that time the
# steps, the step last seen, and fading sums of the excess and of the steps in which it stood out.
_KINDS = ("peers", "past")
_SUM, _SINCE, _RUN, _LAST, _EXCESS, _OUT = range(6)
_WIDTH = 6


@dataclass(frozen=True, kw_only=True)
class Late:
    """A rank that is slower than its peers for long. excess: by how much, as a share of their work; turned: it was not before

    always: it has been since ranks were first compared; slowly: only the mean of many steps shows it
    """

    rank: int
    excess: float
    steps: int
    since: float
    turned: bool
    always: bool = False
    slowly: bool = False


class Memory(msgspec.Struct):
    """A `Watch` as it is kept. table: float32, shape (2, _WIDTH, ranks); lag: float32, what is not yet learned of recent steps"""

    ranks: int
    table: bytes
    surprise: bytes
    levels: bytes
    lag: list[bytes]
    judged: int
    spread: float
    own_spread: float
    begun: float | None


class Watch:
    """Sequential evidence for every rank of a job: cumulative sums of how surprising its excess over its peers is.

    Source: Page, Continuous Inspection Schemes, Biometrika 1954; the limit by Siegmund, Sequential Analysis, 1985.
    share: less excess than this is nothing; steps, lasting_s: at least so long
    """

    def __init__(self, ranks: int, *, share: float, steps: int, lasting_s: float) -> None:
        self.share, self.steps, self.lasting_s = share, steps, lasting_s
        self.table = np.zeros((2, _WIDTH, ranks), dtype=np.float32)
        self.excess = np.full(ranks, np.nan, dtype=np.float32)
        self.levels = Levels(ranks)
        self._surprise = Surprise()
        self._lag: list[np.ndarray] = []
        self._judged, self._spread, self._own_spread = 0, 0.0, 0.0
        self._begun: float | None = None  # times in the table are counted from here

    @property
    def ranks(self) -> int:
        return self.table.shape[2]

    @property
    def limit(self) -> float:
        """What the evidence must exceed."""
        return math.log(max(self.ranks, 2) * _STEPS_PER_FALSE_ALARM) / _EXPONENT

    @property
    def noise(self) -> float:
        """Standard deviation of one step of one rank, as a share of its work."""
        return max(self._spread, self._own_spread, FLOOR)

    def grow(self, ranks: int) -> None:
        """There are more ranks than was known."""
        more = ranks - self.ranks
        self.table = np.concatenate([self.table, np.zeros((2, _WIDTH, more), dtype=np.float32)], axis=2)
        self.levels.grow(ranks)
        self._lag = [np.concatenate([z, np.full(more, np.nan, dtype=np.float32)]) for z in self._lag]

    def forget(self, ranks: np.ndarray) -> None:
        """Somebody else does their work now."""
        self.table[:, :, ranks] = 0.0
        self.levels.forget(ranks)

    def rest(self) -> None:
        """Nothing was to be seen for a while: what was shown before is forgotten."""
        self.table[:] = 0.0

    def suspects(self) -> np.ndarray:
        """Who has shown half of what a claim needs, bool, shape (ranks,)."""
        half = 0.5 * self.limit
        return np.asarray((self.table[0, _SUM] > half) | (self.table[1, _SUM] > half))

    def judge(self, own_s: np.ndarray, peers: Peers, *, usual_s: float, began: float, claimed: list[int]) -> None:
        """Take in one step. own_s: seconds of each rank, shape (ranks,), NaN: not told

        usual_s: what excess is a share of, where the peers' own time is less
        began: when the step began; claimed: ranks whose usual is not learned any more
        """
        if self._begun is None:
            self._begun = began
        self._judged += 1
        middle = peers.medians(own_s)
        excess = ((own_s - middle) / np.maximum(middle, usual_s)).astype(np.float32)
        # as the logarithm of a ratio for small ones: a heavy tail of long sequences weighs no more than it should
        excess /= 1.0 + 0.5 * np.maximum(excess, -0.9)
        self.excess = excess
        self._spread = spread_of(excess, self._spread)
        # who differs for good by less than the others' differences explain does not stand out, whatever it happens to do besides
        least = max(_ODD * self.noise, _NEARLY * self.share, self.levels.center + _VARIES * self.levels.variety)
        self._gather(0, excess, excess * np.float32(1.0 / self.noise), began, least)
        own_z = None
        if self._judged > _RIPE:
            own = excess - self.levels.base
            own[self.levels.learned < _RIPE] = np.nan
            self._own_spread = spread_of(own, self._own_spread)
            own_z = own * np.float32(1.0 / max(self._own_spread, FLOOR))
            self._gather(1, own, own_z, began, max(_ODD * max(self._own_spread, FLOOR), _NEARLY * self.share))
        calm = ~self.suspects()
        calm[claimed] = False
        self.levels.learn(np.minimum(excess, np.float32(_BOUNDED * self.noise)), calm)
        self._learn(own_z, calm)

    def _gather(self, kind: int, excess: np.ndarray, z: np.ndarray, began: float, least: float) -> None:
        """Add to one kind of evidence; from `least` on an excess stands out.

        Only ranks that show some that may ever be worth a claim, or have, are looked at: one in ten of a healthy job.
        """
        sums, since, run, last, fading, out = self.table[kind]
        some = np.flatnonzero(((z > self._surprise.least(_ALLOWED)) & (excess > 0.5 * self.share)) | (sums > 0.0))
        excess, z = excess[some], z[some]
        new = np.clip(sums[some] + self._surprise.of(z) - np.float32(_ALLOWED), 0.0, 3.0 * self.limit)
        sums[some] = new
        goes_on = last[some] == self._judged - 1
        since[some[~goes_on]] = began - (self._begun or 0.0)
        run[some] = run[some] * goes_on + 1.0
        last[some] = (new > 0.0) * np.float32(self._judged)
        fade = goes_on * np.float32(_FADE)
        if np.isnan(excess).any():
            excess = np.nan_to_num(excess)
        fading[some] = fading[some] * fade + excess
        out[some] = out[some] * fade + (excess > least)

    def _learn(self, own_z: np.ndarray | None, calm: np.ndarray) -> None:
        """Learn what is usual from who is not suspected, some steps later: an unlearned outlier keeps normal normal."""
        if own_z is not None:
            self._lag.append(own_z)
        if len(self._lag) > _LAG:
            every = max(1, len(calm) // _SAMPLE)
            sample = slice(self._judged % every, None, every)
            self._surprise.learn(np.where(calm[sample], self._lag.pop(0)[sample], np.float32(np.nan)))

    def mean_excess(self, ranks: np.ndarray, *, kind: int = 0) -> np.ndarray:
        """Mean excess of ranks over the last steps since they began to be late."""
        return np.asarray(self.table[kind, _EXCESS, ranks] / _weight(self.table[kind, _RUN, ranks]))

    def evidence(self, ranks: np.ndarray) -> np.ndarray:
        """What ranks have shown against their peers, as a part of what a claim needs."""
        return np.asarray(self.table[0, _SUM, ranks] / self.limit)

    def late(self, at: float) -> list[Late]:
        """Who is slower for long at `at`, whether claimed or not, the most first."""
        limit = self.limit
        who = np.flatnonzero((self.table[0, _SUM] > limit) | (self.table[1, _SUM] > limit))
        if not len(who):
            return []
        peers, past = self.table[0][:, who].astype(np.float64), self.table[1][:, who].astype(np.float64)
        mean = self.mean_excess(who)
        turn = self.mean_excess(who, kind=1)
        weight = _weight(peers[_RUN])
        slow = (peers[_SUM] > limit) & (peers[_OUT] >= _KEPT * weight)
        slow &= mean > self.levels.center + _STANDS_OUT * np.sqrt(self.levels.variety**2 + self.noise**2 / weight)
        turned = (past[_SUM] > limit) & (past[_OUT] >= _KEPT * _weight(past[_RUN]))
        turned &= turn > np.maximum(self.share, _STANDS_OUT * max(self._own_spread, FLOOR) / np.sqrt(_weight(past[_RUN])))
        lasts = self._lasts(peers, at) & (slow | (turned & self._lasts(past, at)))
        lasts &= (mean > self.share) & (peers[_LAST] == self._judged)
        found = [
            Late(rank=int(who[n]), excess=float(mean[n]), steps=int(peers[_RUN, n]), turned=bool(turned[n]),
                 since=(self._begun or 0.0) + float(peers[_SINCE, n]),
                 always=bool(peers[_RUN, n] >= self._judged - _SETTLES))
            for n in np.flatnonzero(lasts).tolist()
        ]  # fmt: skip
        return sorted(found, key=lambda one: (-one.excess, one.rank))

    def _lasts(self, rows: np.ndarray, at: float) -> np.ndarray:
        since_s = at - (self._begun or 0.0) - rows[_SINCE]
        return np.asarray((rows[_RUN] >= self.steps) & (since_s >= self.lasting_s))

    def slow_for_long(self, group: np.ndarray) -> list[tuple[int, Late]]:
        """Ranks, and groups of them, which only the mean of many steps shows: (group or -1, one of its ranks).

        group: for each rank a number, -1: none
        """
        return [
            (one, Late(rank=rank, excess=excess, steps=int(self.levels.count[rank]), since=self._begun or 0.0, turned=False, slowly=True))
            for one, rank, excess in self.levels.outstanding(group, noise=self.noise, least=self.share)
        ]

    def memory(self) -> Memory:
        return Memory(
            ranks=self.ranks, table=self.table.tobytes(), surprise=self._surprise.memory(), levels=self.levels.memory(),
            lag=[z.tobytes() for z in self._lag], judged=self._judged, spread=self._spread, own_spread=self._own_spread,
            begun=self._begun,
        )  # fmt: skip

    def remember(self, memory: Memory) -> None:
        self.table = np.frombuffer(memory.table, dtype=np.float32).reshape(2, _WIDTH, memory.ranks).copy()
        self.excess = np.full(memory.ranks, np.nan, dtype=np.float32)
        self.levels.remember(memory.levels, memory.ranks)
        self._surprise = Surprise(memory.surprise)
        self._lag = [np.frombuffer(z, dtype=np.float32) for z in memory.lag]
        self._judged, self._begun = memory.judged, memory.begun
        self._spread, self._own_spread = memory.spread, memory.own_spread


def _weight(run: np.ndarray) -> np.ndarray:
    """What the steps of a run weigh together in a fading sum, at least 1."""
    return np.maximum((1.0 - _FADE**run) / (1.0 - _FADE), 1.0)

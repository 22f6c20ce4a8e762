"""Whether a whole job steps slower for long: a change point in its step times, with pauses and single long steps left out."""

import math
from dataclasses import dataclass

import msgspec

# The last so many steps are looked at for a change, the ones before for what is usual.
_RECENT, _USUAL, _LEAST = 16, 48, 24
_FLOOR = 0.003
_TO_SIGMA = 1.4826
# Page's cumulative sum: what is usual loses so much a step, and no step gains more; a healthy series reaches the limit once in
# exp(2 x allowed x limit) steps.
_ALLOWED, _MOST, _LIMIT = 1.0, 4.0, 12.0
# A step whose logarithm is so much over the others' holds a pause.
_PAUSE = 0.15
# A shift is so many standard deviations of a mean of recent steps, and this share at least: longer windows and sequences by plan
# come in steps of up to 2.5 %.
_SIGMAS, _LEAST_SHIFT = 4.0, 0.027


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Steps take longer for long. before, after: seconds; parts: what grew, seconds by phase kind"""

    step: int
    before: float
    after: float
    parts: dict[str, float]


class Steptime(msgspec.Struct):
    """One step. parts: seconds of the median rank by phase kind"""

    step: int
    seconds: float
    parts: dict[str, float]


class JobPace(msgspec.Struct):
    """A job's step times. usual: older than the recent ones, without long steps; raised: cumulative sum of what is over the usual

    patience: steps left in which the rise may become a shift; claimed: the shift that stands, its level before and after
    """

    settling: int = 5
    usual: list[Steptime] = []
    recent: list[Steptime] = []
    raised: float = 0.0
    patience: int = 2 * _RECENT
    claimed: tuple[float, float] | None = None

    def take(self, step: int, seconds: float, parts: dict[str, float]) -> Shift | None:
        """Learn of the next step; a shift is said once."""
        if not (math.isfinite(seconds) and seconds > 0.0):
            return None
        if self.settling > 0:
            self.settling -= 1
            return None
        self.recent.append(Steptime(step, seconds, parts))
        if len(self.recent) <= _RECENT:
            return None
        self._learn(self.recent.pop(0))
        if len(self.usual) < _LEAST:
            return None
        logs = sorted(math.log(one.seconds) for one in self.usual)
        base = _trimmed(logs)
        spread = max(_TO_SIGMA * sorted(abs(x - base) for x in logs)[len(logs) // 2], _FLOOR)
        self.raised = max(0.0, self.raised + min((math.log(seconds) - base) / spread, _MOST) - _ALLOWED)
        if self.raised <= _LIMIT:
            self.patience = 2 * _RECENT
            return None
        shift = self._shift(base, spread)
        self.patience -= 1
        if shift is None and self.patience <= 0:  # it is a little slower, and stays so: that is usual now
            self.usual, self.raised = list(self.recent), 0.0
        return shift

    def _learn(self, one: Steptime) -> None:
        if self.raised < 0.5 * _LIMIT:
            self.usual.append(one)
            del self.usual[:-_USUAL]

    def _shift(self, base: float, spread: float) -> Shift | None:
        """Most of the recent steps, not their mean, have moved: neither pauses nor single long steps do that."""
        logs = sorted(math.log(one.seconds) for one in self.recent)
        logs = [x for x in logs if x < logs[len(logs) // 2] + _PAUSE]
        lower, middle = logs[len(logs) // 4], _trimmed(logs)
        least = base + max(_LEAST_SHIFT, _SIGMAS * spread / math.sqrt(len(logs)))
        if middle < least or lower < base + 0.5 * (middle - base):
            return None
        before, after = math.exp(base), math.exp(middle)
        grown = {name: self._middle(self.recent, name) - self._middle(self.usual, name) for name in self.recent[-1].parts}
        first = next(one.step for one in self.recent if math.log(one.seconds) > 0.5 * (base + middle))
        if self.claimed is not None:
            before = self.claimed[0]
        self.claimed = before, after
        self.usual, self.recent, self.raised = list(self.recent), [], 0.0
        return Shift(step=first, before=before, after=after, parts=grown)

    def healed(self) -> bool:
        """Whether the shift that stands is over; then it no longer stands."""
        if self.claimed is None or len(self.recent) < _RECENT:
            return False
        before, after = self.claimed
        if sorted(one.seconds for one in self.recent)[len(self.recent) // 2] > before + 0.4 * (after - before):
            return False
        self.claimed, self.usual, self.raised = None, list(self.recent), 0.0
        return True

    @staticmethod
    def _middle(steps: list[Steptime], name: str) -> float:
        known = sorted(one.parts[name] for one in steps if name in one.parts)
        return known[len(known) // 2] if known else 0.0


def _trimmed(ordered: list[float]) -> float:
    """The mean without the fifths at both ends: as steady as a mean, and of times told in whole milliseconds finer than a median."""
    cut = len(ordered) // 5
    kept = ordered[cut : len(ordered) - cut]
    return sum(kept) / len(kept)

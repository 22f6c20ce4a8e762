"""Whether a run still steps as fast: lasting shifts of the step time, and single long steps, record by record."""

import math
from collections.abc import Iterator, Sequence

import msgspec

from detectors.training.episode import SLOW_SHIFT, SLOW_SPIKE, Episode
from detectors.training.level import LONG, Level, median

SETTLING = 10  # first steps of an attempt: compilation, caches, the data loader's start
STAYS = 20
LEAST_SHIFT = 0.08
LONG_STEP = 1.25
LEAST_STEP, LEAST_COST = 1.5, 2.2  # in usual steps: of one long step, or of several together
_CALM_STEPS = 3
MOST_LONG = 10_000


class Stretch(msgspec.Struct):
    """Long steps in a row. cost: their extra time in usual steps; calm: usual steps since the last, from `calm_from`."""

    step: int
    line: int
    before: float
    after: float = 0.0
    worst_at: int = -1
    cost: float = 0.0
    lasted: int = 0
    calm: int = 0
    calm_from: int = -1
    excused: bool = False


class Pace(msgspec.Struct):
    """One attempt. usual: step times older than the last `STAYS`, which are in `recent`; shifts: those that have not healed.

    settling: so many steps are still to be left out; reference: the usual step time, 0.0 where it has to be found anew
    """

    signal: str = "step_s"
    settling: int = SETTLING
    usual: Level = msgspec.field(default_factory=Level)
    recent: list[tuple[int, int, float]] = []
    stretch: Stretch | None = None
    shifts: list[Episode] = []
    reference: float = 0.0

    def take(self, step: int, seconds: float, *, line: int = 0, paused: bool = False) -> Iterator[Episode]:
        """Learn of the next step. seconds: what it took; paused: an evaluation or a checkpoint came before it.

        Single long steps are said when they are over, whatever they cost: who has all of them can tell which are periodic.
        """
        if not (math.isfinite(seconds) and seconds > 0.0):
            return
        if self.settling > 0:
            self.settling -= 1
            return
        self.recent.append((step, line, seconds))
        if len(self.recent) > STAYS:
            _, _, left = self.recent.pop(0)
            if not self.usual.known or left < LONG_STEP * self._reference() or self._are_usual():
                self.usual.learn(left)
                self.reference = 0.0
        if not self.usual.known:
            return
        yield from self._long_step(step, seconds, line, paused)
        if len(self.recent) == STAYS:
            yield from self._shift()

    def end(self) -> Iterator[Episode]:
        """The output is over: a stretch that is still open has not healed."""
        if self.stretch is not None and not self.stretch.excused:
            yield self._spike(self.stretch, None)

    def _reference(self) -> float:
        if not self.reference:
            self.reference = median(self.usual.values)
        return self.reference

    def _are_usual(self) -> bool:
        """Whether long steps come now and then all the time: sequences of any length do that."""
        limit = LONG_STEP * self._reference()
        return 3 <= sum(seconds >= limit for _, _, seconds in self.recent) <= STAYS // 2

    def _noise(self) -> float:
        return max(self.usual.noise(), 0.002 * self._reference())

    def _long_step(self, step: int, seconds: float, line: int, paused: bool) -> Iterator[Episode]:
        stretch, reference = self.stretch, self.stretch.before if self.stretch else self._reference()
        is_long = seconds > LONG_STEP * reference and seconds > reference + 6.0 * self._noise()
        if stretch is None:
            if not is_long:
                return
            stretch = self.stretch = Stretch(step, line, reference, excused=paused)
        stretch.lasted += 1
        if is_long:
            stretch.cost += seconds / reference - 1.0
            if seconds > stretch.after:
                stretch.after, stretch.worst_at = seconds, step
        stretch.calm = 0 if is_long else stretch.calm + 1
        stretch.calm_from = step if stretch.calm == 1 else stretch.calm_from
        if stretch.calm >= _CALM_STEPS or stretch.lasted > LONG:
            self.stretch = None
            if not stretch.excused:
                yield self._spike(stretch, stretch.calm_from if stretch.calm else None)

    def _shift(self) -> Iterator[Episode]:
        """Compare the last `STAYS` steps with those before: most of them, not their mean, have to have moved."""
        reference = self._reference()
        taken = sorted(seconds for _, _, seconds in self.recent)
        middle, lower = taken[len(taken) // 2], taken[len(taken) // 4]
        for shift in list(self.shifts):
            if middle <= (1.0 + 0.5 * LEAST_SHIFT) * shift.before:
                self.shifts.remove(shift)
                at = next(step for step, _, seconds in self.recent if seconds < 0.5 * (shift.before + shift.after))
                yield msgspec.structs.replace(shift, recovered_at=at)
        if middle < (1.0 - LEAST_SHIFT) * reference:
            self._begin_anew()
        elif middle > (1.0 + LEAST_SHIFT) * reference and lower > reference + max(
            3.0 * self._noise(), 0.5 * LEAST_SHIFT * reference
        ):
            step, line, _ = self.recent[self._turn(reference, middle)]
            shift = Episode(
                step=step, kind=SLOW_SHIFT, signal=self.signal, before=reference, after=middle, line=line,
            )  # fmt: skip
            self.shifts = [*self.shifts[-7:], shift]
            self._begin_anew()
            yield shift

    def _turn(self, before: float, after: float) -> int:
        """Where in `recent` it moved: the split with the least absolute deviation from both levels."""
        gains = [abs(seconds - before) - abs(seconds - after) for _, _, seconds in self.recent]
        return max(range(len(gains)), key=lambda n: sum(gains[n:]))

    def _begin_anew(self) -> None:
        """What is usual now is what was lately."""
        self.usual, self.stretch, self.reference = Level(), None, 0.0
        for _, _, seconds in self.recent:
            self.usual.learn(seconds)

    def _spike(self, stretch: Stretch, recovered_at: int | None) -> Episode:
        return Episode(
            step=stretch.step, kind=SLOW_SPIKE, signal=self.signal, before=stretch.before, after=stretch.after, line=stretch.line,
            recovered_at=recovered_at, cost=stretch.cost, worst_at=stretch.worst_at,
        )  # fmt: skip


def aperiodic(spikes: Sequence[Episode]) -> list[Episode]:
    """Those that cost enough and do not come round: checkpoints, evaluations and collections of garbage do."""
    found = []
    for n, spike in enumerate(spikes):
        is_costly = spike.cost >= LEAST_COST or spike.after >= (1.0 + LEAST_STEP) * spike.before
        near = spikes[max(0, n - 40) : n + 41]
        alike = [o for o in near if o is not spike and o.cost >= spike.cost / 3.0]  # two that meet cost as much as both
        if is_costly and not any(_comes_round(spike, other, alike) for other in alike):
            found.append(spike)
    return found


def _comes_round(own: Episode, other: Episode, alike: Sequence[Episode]) -> bool:
    """Whether others of its cost stand where the distance to `other` says, three periods to either side.

    Periods are counted from step 0, which therefore counts as one of them. Half-way between two of another period is no
    period: nothing stands two steps from there.
    """
    period = abs(other.worst_at - own.worst_at)
    slack = max(2, period // 50)
    if period <= 2 * slack:
        return False
    first, last = min(0, own.step), max(o.worst_at for o in (*alike, own))
    due = [at for k in (-3, -2, -1, 1, 2, 3) if first - slack <= (at := own.worst_at + k * period) <= last + slack]
    met = sum(abs(at) <= slack or any(o.step - slack <= at <= o.worst_at + slack for o in alike) for at in due)
    return met >= 2 and met >= 0.8 * len(due)

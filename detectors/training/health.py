"""Whether a run still learns: spikes, divergence and NaN in its loss, record by record, with no file and no clock.

A bump is measured in standard deviations of the loss's own noise about its own running level, both frozen while the
bump lasts. One step far up is a hard batch, which every healthy run has; several, or one beyond all measure, are a spike.
"""

import math
from collections.abc import Iterator

import msgspec

from detectors.training.episode import DIVERGENCE, SPIKE, Episode
from detectors.training.finite import Numbers, Seen
from detectors.training.level import LEAST, Level, median

ODD_Z, CALM_Z, MOST_Z = 5.0, 3.5, 8.0
LEAST_SCORE = 15.0
CALM_STEPS = 3
PATIENCE = 64
ENOUGH_TO_DIVERGE = 20
_GIVE_UP = 32  # a first odd step that neither grew nor healed was a small change of level: learn it
_LEAST_SHARE, _SURE_SHARE, _BACKED_SHARE = 0.05, 0.6, 0.3
_DRIFT_SHARE, _DRIFT_Z = 0.1, 3.0
_EXPLODED = 10.0


class Bump(msgspec.Struct):
    """A loss above its level. score: standard deviations, each step's limited; calm: usual steps in a row, from `calm_from`."""

    step: int
    line: int
    before: float
    noise: float
    after: float
    score: float = 0.0
    lasted: int = 0
    calm: int = 0
    calm_from: int = -1
    gradient: float = 0.0
    said: str = ""
    recent: list[float] = []
    worst: float = 0.0


class Health(msgspec.Struct):
    """One attempt of one run. first: the level it began at; gradients: usual norms, of late; drift: a slow rise that is said

    lowest, risen, risen_at: lowest slow level so far, and for how many steps it has been well above that
    """

    numbers: Numbers = msgspec.field(default_factory=Numbers)
    level: Level = msgspec.field(default_factory=Level)
    first: float = 0.0
    bump: Bump | None = None
    gradients: list[float] = []
    lowest: float = math.inf
    risen: int = 0
    risen_at: Seen | None = None
    drift: Episode | None = None

    def take(self, seen: Seen) -> Iterator[Episode]:
        """Learn of the next step, and say what begins, changes or is over by it."""
        gradient = self._gradient(seen.grad_norm)
        yield from self.numbers.take(seen, self.level)
        if self.numbers.is_bad:
            self.bump = None  # where it led to is said now
            return
        if seen.loss is None:
            return
        if not self.level.known:
            self.level.learn(seen.loss)
            self.first = self.level.middle()
            return
        yield from self._bump(seen, seen.loss, gradient) if self.drift is None else ()
        if self.bump is None:
            self.level.learn(seen.loss)
            yield from self._drift(seen)

    @property
    def standing(self) -> set[str]:
        """The kinds of what is not over yet, of numbers."""
        said = {self.bump.said} if self.bump is not None and self.bump.said else set()
        return said | ({DIVERGENCE} if self.drift is not None else set())

    def end(self) -> Iterator[Episode]:
        """The output is over: a bump that had long enough to heal and did not is a divergence."""
        bump = self.bump
        if bump is not None and bump.said:
            if bump.lasted >= ENOUGH_TO_DIVERGE and not self._is_healing(bump):
                bump.said = DIVERGENCE
            yield self._episode(bump)

    def _gradient(self, norm: float | None) -> float:
        """How many times its usual norm the gradient has; 0.0 where the column says nothing, or always the same."""
        if norm is None or not math.isfinite(norm):
            return 0.0
        usual = median(self.gradients) if len(self.gradients) >= LEAST else 0.0
        varied = usual > 0.0 and min(self.gradients) < max(self.gradients)
        times = norm / usual if varied else 0.0
        if times < _EXPLODED:
            self.gradients.append(norm)
            del self.gradients[:-32]
        return times

    # --- a loss above its level

    def _bump(self, seen: Seen, loss: float, gradient: float) -> Iterator[Episode]:
        bump = self.bump
        if bump is None:
            before = self.level.middle()
            if loss - before <= _LEAST_SHARE * abs(before):
                return  # whatever the noise
            bump = Bump(seen.step, seen.line, before, self._noise(), loss)
        over = loss - bump.before
        z = over / bump.noise
        odd = z > ODD_Z and over > _LEAST_SHARE * abs(bump.before)
        if self.bump is None and not odd:
            return
        if not bump.said and bump.lasted and over > 3.0 * (bump.after - bump.before):
            # an odd step before is not where it began
            bump = Bump(seen.step, seen.line, bump.before, bump.noise, loss, score=bump.score)
        self.bump = bump
        bump.lasted += 1
        bump.gradient = max(bump.gradient, gradient)
        bump.after = max(bump.after, loss)
        bump.recent = [*bump.recent[-14:], loss]
        bump.worst = max(bump.worst, median(bump.recent) - bump.before)
        if odd:
            bump.score += min(z, MOST_Z)
        bump.calm = bump.calm + 1 if z <= CALM_Z else 0
        bump.calm_from = seen.step if bump.calm == 1 else bump.calm_from
        yield from self._judge(bump, over, z)

    def _judge(self, bump: Bump, over: float, z: float) -> Iterator[Episode]:
        if bump.calm >= CALM_STEPS:
            self._close(bump)
            if bump.said:
                bump.said = SPIKE  # it came back, however long it took
                yield msgspec.structs.replace(self._episode(bump), recovered_at=bump.calm_from)
            return
        size = over / max(abs(bump.before), 1e-12)
        sure = z > 12.0 and (size > _SURE_SHARE or (bump.gradient >= _EXPLODED and size > _BACKED_SHARE))
        stays = bump.lasted >= _GIVE_UP
        moved = median(bump.recent) - bump.before > self._limit(bump.before, bump.noise)
        if not bump.said and (bump.score >= LEAST_SCORE or sure or (stays and moved)):
            bump.said = SPIKE
            yield self._episode(bump)
        elif not bump.said and stays:
            self._close(bump)
        elif bump.said == SPIKE and self._is_lost(bump):
            bump.said = DIVERGENCE
            yield self._episode(bump)

    def _is_lost(self, bump: Bump) -> bool:
        return bump.lasted >= 4 * PATIENCE or (bump.lasted >= PATIENCE and not self._is_healing(bump))

    def _is_healing(self, bump: Bump) -> bool:
        """Whether the loss has come back at least half of the way it had gone up."""
        return median(bump.recent) - bump.before < 0.5 * bump.worst

    def _close(self, bump: Bump) -> None:
        """Learn what came last: the usual steps that ended a spike; hard batches that were none are usual."""
        self.bump = None
        for value in bump.recent[-bump.calm or None :] if bump.said else bump.recent:
            self.level.learn(value)

    def _limit(self, level: float, noise: float) -> float:
        """How far above a level a median has to be to be no noise."""
        return max(_DRIFT_Z * noise, _DRIFT_SHARE * abs(level))

    def _noise(self) -> float:
        """The noise with a floor: losses are printed with few digits, and a tiny one is no trouble."""
        return max(self.level.noise(), 0.005 * abs(self.level.middle()), 0.002 * abs(self.first), 1e-9)

    def _episode(self, bump: Bump) -> Episode:
        after = bump.before + bump.worst if bump.said == DIVERGENCE else bump.after
        return Episode(
            step=bump.step, kind=bump.said, signal="loss", before=bump.before, after=after, line=bump.line,
            gradient=bump.gradient,
        )  # fmt: skip

    # --- a loss that rises slowly

    def _drift(self, seen: Seen) -> Iterator[Episode]:
        """A rise too slow for any step to stand out: against the lowest level there was."""
        if self.level.count < 2 * LEAST:
            return
        slow = self.level.wide_middle()
        self.lowest = min(self.lowest, slow)
        rise = slow - self.lowest
        if self.drift is None and rise <= _DRIFT_SHARE * abs(self.lowest):
            self.risen, self.risen_at = 0, None
            return
        limit = self._limit(self.lowest, self._noise())
        if self.drift is not None:
            if rise < 0.5 * limit:
                over, self.drift = self.drift, None
                yield msgspec.structs.replace(over, kind=SPIKE, recovered_at=seen.step)
            return
        if rise <= limit:
            self.risen, self.risen_at = 0, None
            return
        self.risen += 1
        self.risen_at = self.risen_at or seen
        if self.risen >= PATIENCE:
            self.drift = Episode(
                step=self.risen_at.step, kind=DIVERGENCE, signal="loss", before=self.lowest, after=slow,
                line=self.risen_at.line,
            )  # fmt: skip
            yield self.drift

"""Whether a step still has numbers: NaN and infinity, printed, masked as 0.0, or told by gradients and loss scale alone."""

import math
from collections.abc import Iterator

import msgspec

from detectors.training.episode import NAN, Episode
from detectors.training.level import Level

HEALED_STEPS = 3
BAD_GRADIENTS = 3
_SCALE_ESTABLISHED, _SCALE_LEAST = 5, 128.0


class Seen(msgspec.Struct):
    """One step as the core sees it; None: not told."""

    step: int
    loss: float | None = None
    grad_norm: float | None = None
    loss_scale: float | None = None
    skipped: int = 0
    nan_iterations: int = 0
    scale_gone: bool = False
    line: int = 0


class Numbers(msgspec.Struct):
    """One attempt. broken: what is said and not over; good: steps with a number since, from `good_from`.

    is_bad: whether the latest step had no number; zeros: losses of exactly 0.0 in a row
    scale: the loss scale that the run had found; scaled: steps that it has stood
    """

    broken: Episode | None = None
    good: int = 0
    good_from: int = -1
    is_bad: bool = False
    zeros: int = 0
    bad_gradients: int = 0
    scale: float = 0.0
    scaled: int = 0

    def take(self, seen: Seen, level: Level) -> Iterator[Episode]:
        """Learn of the next step. level: of the losses before it."""
        signal = self._signal(seen, level)
        self.is_bad = signal != ""
        if signal and self.broken is None:
            self.broken, self.good = self._episode(seen, level, signal), 0
            yield self.broken
        elif signal:
            self.good = 0
        elif self.broken is not None and seen.loss is not None:
            self.good_from = self.good_from if self.good else seen.step
            self.good += 1
            if self.good >= HEALED_STEPS:
                over, self.broken = self.broken, None
                yield msgspec.structs.replace(over, recovered_at=self.good_from)

    def _signal(self, seen: Seen, level: Level) -> str:
        """The signal that says that there is no number any more, "" if all is a number."""
        loss, norm = seen.loss, seen.grad_norm
        no_norm = norm is not None and not math.isfinite(norm)
        # a step that was thrown away because its gradients overflowed is how mixed precision finds its scale
        self.bad_gradients = self.bad_gradients + 1 if no_norm and not seen.skipped else 0
        # a framework that sums only what is a number prints 0.0 where there was none
        silent = loss == 0.0 and level.known and level.middle() > max(0.01, 8.0 * level.noise())
        self.zeros = self.zeros + 1 if silent or (self.zeros and loss == 0.0) else 0
        if loss is not None and (not math.isfinite(loss) or (loss == 0.0 and no_norm) or self.zeros):
            return "loss"
        if seen.nan_iterations and not seen.skipped:
            return "loss"
        if self.bad_gradients >= BAD_GRADIENTS:
            return "grad_norm"
        return "loss_scale" if self._scale_collapsed(seen) else ""

    def _scale_collapsed(self, seen: Seen) -> bool:
        """Whether the loss scale fell all the way: the search for it at the start of a run is none."""
        if seen.scale_gone:
            return True
        if seen.loss_scale is None or not math.isfinite(seen.loss_scale):
            return False
        if self.scaled >= _SCALE_ESTABLISHED and self.scale >= _SCALE_LEAST and seen.loss_scale <= 1.0:
            return True
        if not seen.skipped:
            self.scaled += 1
            self.scale = max(seen.loss_scale, 0.999 * self.scale)
        return False

    def _episode(self, seen: Seen, level: Level, signal: str) -> Episode:
        before = level.middle() if level.values else math.nan
        after = 0.0 if seen.loss == 0.0 else math.nan
        if signal == "loss_scale":
            before, after = self.scale or math.nan, math.nan if seen.loss_scale is None else seen.loss_scale
        back = BAD_GRADIENTS - 1 if signal == "grad_norm" else 0  # they are said when there are enough
        return Episode(
            step=max(0, seen.step - back), kind=NAN, signal=signal, before=before, after=after, line=seen.line
        )

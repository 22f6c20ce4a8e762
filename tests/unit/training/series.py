"""Made up training runs: healthy ones as they are, and what can befall them, at a known step."""

import math
from collections.abc import Sequence

import numpy as np

from detectors.training.episode import SLOW_SPIKE, Episode
from detectors.training.finite import Seen
from detectors.training.health import Health
from detectors.training.pace import Pace, aperiodic


def chance(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def losses(seed: int, steps: int = 600) -> np.ndarray:
    """A healthy loss: a fast fall, a warm-up bump, a slow decay, noise whose size and tails differ by seed."""
    dice = chance(seed)
    step = np.arange(steps)
    start, floor = dice.uniform(6.0, 12.0), dice.uniform(1.5, 3.5)
    curve = floor + (start - floor) * (1.0 + step / dice.uniform(3.0, 30.0)) ** -dice.uniform(0.4, 0.8)
    curve -= 0.15 * floor * np.clip((step - 0.7 * steps) / (0.3 * steps), 0.0, 1.0)  # the learning rate decays
    size = dice.uniform(0.003, 0.05) * (1.0 + dice.uniform(0.0, 1.0) * np.sin(step / dice.uniform(20.0, 200.0)))
    tails = dice.standard_t(5.0, steps) if seed % 2 else dice.normal(size=steps)
    loss = curve * (1.0 + size * tails)
    hard = dice.integers([30, steps // 2 + 30], [steps // 2, steps])
    loss[hard] = 1.35 * curve[hard]  # hard batches, alone
    return np.asarray(loss)


def paces(seed: int, steps: int = 600) -> np.ndarray:
    """Healthy step times in seconds: a slow start, jitter, a slow creep, a checkpoint now and then."""
    dice = chance(seed)
    jitter = dice.uniform(0.002, 0.06)
    pace = (
        dice.uniform(0.1, 30.0) * (1.0 + jitter * np.abs(dice.standard_t(5.0, steps))) * np.linspace(1.0, 1.12, steps)
    )
    pace[: dice.integers(1, 8)] *= 12.0
    every = int(dice.integers(60, 150))
    pace[every - 1 :: every] *= 3.5
    return np.asarray(pace)


def judged(loss: Sequence[float] | np.ndarray, grad_norm: Sequence[float] | np.ndarray | None = None) -> list[Episode]:
    """What is said of these losses in the end, each episode once."""
    health = Health()
    said: dict[int, Episode] = {}
    norms = grad_norm if grad_norm is not None else [math.nan] * 0
    for step, value in enumerate(loss):
        norm = float(norms[step]) if len(norms) else None
        said |= {e.step: e for e in health.take(Seen(step, loss=float(value), grad_norm=norm))}
    said |= {e.step: e for e in health.end()}
    return list(said.values())


def paced(seconds: Sequence[float] | np.ndarray) -> list[Episode]:
    """What is said of these step times in the end, each episode once."""
    pace = Pace()
    every = [e for step, value in enumerate(seconds) for e in pace.take(step, float(value))] + list(pace.end())
    last = {(e.kind, e.step): e for e in every}
    return [e for e in last.values() if e.kind != SLOW_SPIKE] + aperiodic([e for e in every if e.kind == SLOW_SPIKE])

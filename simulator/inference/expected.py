"""An engine in closed form: what it would have counted by any moment, at almost no cost per simulated second.

A fluid queue: requests come as `arrivals.Counted` says, are served at the rate of `operating.Point` at most, and wait where more come.
Counters and histograms grow by what is expected of that. Nothing is computed until somebody looks or changes something, and what is
found does not depend on how often that is. Single requests, prefix caches and preemptions one by one are only in the event model.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

import numpy as np

from simulator.chance import stream
from simulator.inference.arrivals import Counted
from simulator.inference.cost import Cost
from simulator.inference.lengths import lognormal_below
from simulator.inference.limits import Limits, Role
from simulator.inference.meter import Histogram, Meter, shares_of
from simulator.inference.operating import Point, operating
from simulator.inference.view import View

Value = TypeVar("Value")

_EASY = 0.7
_SPREAD = {
    "ttft": 0.4, "queue": 0.6, "prefill": 0.3, "e2e": 0.6, "inference": 0.6, "decode": 0.6, "tpot": 0.06, "itl": 0.15,
    "iteration_tokens": 0.2,
}  # fmt: skip
"""Sigma of the logarithm of what is observed, an assumption; 0.5 where nothing is said."""
_QUEUE_S = 0.002
_NOISE_S = 600
PREEMPTED = 0.5
"""Preemptions per served request of an engine whose KV is exhausted: an assumption."""


@dataclass(frozen=True, kw_only=True)
class Lot:
    """What an expected engine is given. prompt, output: mean tokens; came: requests by a moment; clock: the moment it is now"""

    cost: Cost
    limits: Limits
    role: Role
    flavour: str
    prompt: float
    output: float
    seed: int
    came: Counted
    clock: Callable[[], float]


class Settable(Generic[Value]):
    """An attribute that a fault sets: all that was before is counted first."""

    def __init__(self, usual: Value) -> None:
        self.usual = usual

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, engine: "Expected", owner: type) -> Value:
        value: Value = engine.faults.get(self.name, self.usual)
        return value

    def __set__(self, engine: "Expected", value: Value) -> None:
        engine.before_change(self.name, value)
        engine.faults[self.name] = value
        engine.forget()


class Expected:
    """What faults set, as on `engine.Engine`: slow, stalled, leaked_blocks, link, dead; share: of its usual part of the requests."""

    slow = Settable(1.0)
    stalled = Settable(False)
    leaked_blocks = Settable(0)
    link = Settable(1.0)
    dead = Settable(False)
    share = Settable(1.0)

    def __init__(self, name: str, lot: Lot) -> None:
        self.name, self.role, self.flavour, self.limits = name, lot.role, lot.flavour, lot.limits
        self.waiting = 0.0
        self.lives = 0
        self._lot = lot
        self.faults: dict[str, Any] = {}
        self._at = self._began = lot.came.begin
        self._held, self._shown_waiting = 0.0, 0.0
        self._noise = (-1, np.zeros(0))
        self._settled: Point | None = None
        self._grown: tuple[float, list[tuple[Histogram, float, float, np.ndarray]]] | None = None
        self._blocks = lot.limits.blocks or lot.cost.kv_tokens() // lot.limits.block_size
        self.meter = Meter(lot.flavour, self._began, lot.limits.context_limit)

    @property
    def state(self) -> str:
        """healthy, degraded, stalled or dead."""
        if self.dead:
            return "dead"
        if self.stalled:
            return "stalled"
        return "degraded" if self.slow > 1 or self.leaked_blocks or self.link < 1 else "healthy"

    def before_change(self, name: str, value: object) -> None:
        """Count what was, up to now; a process that dies takes its counters along."""
        now = self._lot.clock()
        self.catch_up(now)
        if name == "stalled" and value and not self.stalled:
            self._held, self._shown_waiting = self._running(now), self.waiting
        if name == "dead" and value:
            self.lose(now)

    def forget(self) -> None:
        """Work out anew where it settles."""
        self._settled = self._grown = None

    def restart(self, now: float) -> None:
        """The process is ended and begins anew, and nothing is wrong with it any more."""
        self.catch_up(now)
        self.lose(now)
        self.faults.clear()
        self.forget()

    def lose(self, now: float) -> None:
        """The process is gone, and all it had; its counters begin at 0."""
        self.waiting, self._held, self._shown_waiting, self._began = 0.0, 0.0, 0.0, now
        self.lives += 1
        self.meter = Meter(self.flavour, now, self.limits.context_limit)
        self._grown = None

    # --- time

    def catch_up(self, now: float) -> None:
        """Count everything up to `now`."""
        lot, point = self._lot, self._point()
        if now <= self._at:
            return
        if self.dead:
            self._at = now
            return
        rate = lot.came.mean_rate * self.share
        if not self.stalled and self.waiting <= 0 and rate <= _EASY * point.most:
            self._serve((lot.came.by(now) - lot.came.by(self._at)) * self.share, point, 0.0)
            self._at = now
            return
        while self._at < now:
            until = min(now, max(lot.came.next_change(self._at), self._at + 1e-6))
            self._queue((lot.came.by(until) - lot.came.by(self._at)) * self.share, until - self._at, point)
            self._at = until

    def _queue(self, came: float, seconds: float, point: Point) -> None:
        """A stretch in which requests come evenly: the queue grows or shrinks in a straight line, and ends at 0."""
        before = self.waiting
        if self.stalled or point.most <= 0:
            self.waiting += came
            return
        after = max(0.0, before + came - point.most * seconds)
        served = before + came - after
        self.waiting = after
        self._serve(served, point, 0.5 * (before + after) / point.most)
        if point.by_blocks and after > 0:
            self.meter.preemptions += PREEMPTED * served

    def _serve(self, count: float, point: Point, waited_s: float) -> None:
        """So many requests begin and end. waited_s: their mean wait for a place."""
        lot, meter = self._lot, self.meter
        output = 1.0 if self.role == "prefill" else lot.output
        meter.prompt_tokens += count * lot.prompt
        meter.queried_tokens += count * lot.prompt
        meter.generated_tokens += count * output
        meter.transferred_tokens += count * lot.prompt if self.role == "decode" else 0.0
        meter.ended["stop"] += count
        waited_s = _rounded(waited_s)
        if self._grown is None or waited_s != self._grown[0]:
            self._grown = waited_s, self._growth(point, waited_s)
        for histogram, times, mean, shares in self._grown[1]:
            histogram.add_shares(count * times, mean, shares)

    def _growth(self, point: Point, waited_s: float) -> list[tuple[Histogram, float, float, np.ndarray]]:
        """What one request adds: to which histogram, how many observations, of what mean, and how they lie among its bounds."""
        lot = self._lot
        output = 1.0 if self.role == "prefill" else lot.output
        made = sum(self.limits.accept**n for n in range(1 + self.limits.drafted))
        steps = (output - 1.0) / made
        decode_s = steps * point.step_s
        first_s = point.first_s if self.role != "decode" else 0.5 * point.step_s
        chunk = made if self.flavour == "sglang" else 1.0
        batch = max(1.0, point.running)
        means = {
            "ttft": (1.0, first_s + waited_s), "queue": (1.0, waited_s + _QUEUE_S), "prefill": (1.0, first_s), "decode": (1.0, decode_s),
            "e2e": (1.0, first_s + waited_s + decode_s), "inference": (1.0, first_s + decode_s), "tpot": (1.0, point.step_s / made),
            "prompt": (1.0, lot.prompt), "output": (1.0, output), "computed": (1.0, lot.prompt), "preemptions": (1.0, 0.0),
            "itl": (steps * chunk, point.step_s / chunk), "iteration_tokens": (steps / batch, batch),
        }  # fmt: skip
        found = []
        for name, (times, mean) in means.items():
            histogram = self.meter.histograms[name]
            if len(histogram.bounds) and times > 0 and math.isfinite(mean):
                found.append((histogram, times, mean, _shares(tuple(histogram.bounds.tolist()), _rounded(mean), _SPREAD.get(name, 0.5))))
        return found

    # --- what is seen

    def view(self, model: str) -> View:
        """What its page is written from. Gauges of a stalled engine stay: engines set them at the end of a step."""
        now = self._lot.clock()
        self.catch_up(now)
        point, lot = self._point(), self._lot
        running = self._running(now)
        held = running * (lot.prompt + (0.5 * lot.output if self.role != "prefill" else 0.0))
        use = min(1.0, (held / lot.limits.block_size + self.leaked_blocks) / self._blocks)
        waiting = self._shown_waiting if self.stalled else self.waiting
        tokens_per_s = 0.0 if self.stalled else min(lot.came.mean_rate * self.share, point.most) * lot.output
        shape = lot.cost.model
        return View(
            name=self.name, model=model, flavour=self.flavour, role=self.role, limits=self.limits, meter=self.meter,
            running=round(running), waiting=math.floor(waiting), blocks=self._blocks, kv_use=round(use, 6), sequence_tokens=held,
            tokens_per_s=round(tokens_per_s, 3), weight_bytes=shape.parameters * shape.weight_bytes,
            kv_bytes=self._blocks * lot.limits.block_size * shape.kv_bytes,
        )  # fmt: skip

    def _running(self, now: float) -> float:
        """Requests under way, with the noise of a moment; those of a stalled engine stay."""
        point = self._point()
        if self.dead:
            return 0.0
        if self.stalled:
            return self._held
        if self.waiting > 0:
            return point.full
        running = max(0.0, point.running + math.sqrt(max(0.0, point.running)) * self._noise_of(round(now)))
        return min(point.full, max(running, 1.0 if point.running >= 1.0 else 0.0))

    def _noise_of(self, second: int) -> float:
        block, place = divmod(second, _NOISE_S)
        if self._noise[0] != block:
            self._noise = block, stream(self._lot.seed, "running", self.name, block).standard_normal(_NOISE_S)
        return float(self._noise[1][place])

    def _point(self) -> Point:
        if self._settled is None:
            lot = self._lot
            blocks = max(0, self._blocks - self.leaked_blocks)
            self._settled = operating(
                lot.cost, lot.limits, lot.role, rate=lot.came.mean_rate * self.share, prompt=lot.prompt, output=max(1.0, lot.output),
                blocks=blocks, slow=self.slow,
            )  # fmt: skip
        return self._settled


def _rounded(mean: float) -> float:
    """To three digits: so that few distributions have to be worked out."""
    return float(f"{mean:.3g}")


@lru_cache(maxsize=65_536)
def _shares(bounds: tuple[float, ...], mean: float, sigma: float) -> np.ndarray:
    return shares_of(lognormal_below(np.array(bounds), mean, sigma) if mean > 0 else np.ones(len(bounds)))

"""When requests come: Poisson, at a fixed rate, all at once for a closed loop, or from a real trace."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np

from simulator.chance import stream
from simulator.inference.lengths import Lengths
from simulator.inference.request import PIECE_TOKENS, Request
from simulator.inference.trace import Row, read_trace

_BLOCK = 1024
_CELL_S = 10.0
_CELLS = 360

Rate = Annotated[float, msgspec.Meta(gt=0, le=1e6)]


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What users ask of a service.

    kind: "poisson" or "fixed" at `rate` requests per second, "closed" (as many at once as `most_in_flight`), "trace" from a file
    count: requests in all, 0 without end; most_in_flight: what the client has under way at once, 0 without limit
    trace: path of the file (`trace.read_trace`), begun anew at its end when `count` is 0; speed: 2 plays it in half the time
    shared_prefixes, shared_tokens: so many system prompts of so many tokens, one of them in front of every prompt, by Zipf's law
    """

    kind: Literal["poisson", "fixed", "closed", "trace"] = "poisson"
    rate: Rate = 6.0
    count: Annotated[int, msgspec.Meta(ge=0)] = 0
    most_in_flight: Annotated[int, msgspec.Meta(ge=0)] = 0
    prompt: Lengths = Lengths(mean=900.0, shape="lognormal", spread=0.8)
    output: Lengths = Lengths(mean=180.0, shape="lognormal", spread=0.8)
    trace: str = ""
    speed: Rate = 1.0
    shared_prefixes: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0
    shared_tokens: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0

    def __post_init__(self) -> None:
        if self.kind == "closed" and not self.most_in_flight:
            raise ValueError("a closed load needs most_in_flight")
        if (self.kind == "trace") != bool(self.trace):
            raise ValueError("`trace` names the file of a load of kind trace, and of no other")


def requests(load: Load, *, seed: int, name: str, begin: float = 0.0) -> Iterator[Request]:
    """The requests in the order of time. begin: moment of the load's beginning; name: of the service, for its chance.

    raises TraceError: the trace cannot be read
    """
    if load.kind == "trace":
        yield from _from_trace(load, begin)
        return
    number, at = 0, begin
    while not load.count or number < load.count:
        chance = stream(seed, "load", name, number // _BLOCK)
        gaps = _gaps(load, chance.exponential(1.0, _BLOCK))
        prompts, outputs = load.prompt.draw(chance, _BLOCK), load.output.draw(chance, _BLOCK)
        shared = _shared(load, chance.random(_BLOCK))
        for gap, prompt, output, group in zip(gaps.tolist(), prompts.tolist(), outputs.tolist(), shared.tolist(), strict=True):
            if load.count and number >= load.count:
                return
            at += gap
            prefix = tuple(range(-1 - group * 4096, -1 - group * 4096 - load.shared_tokens // PIECE_TOKENS, -1)) if group >= 0 else ()
            yield Request(number, at, prompt + (load.shared_tokens if group >= 0 else 0), output, prefix)
            number += 1


def _gaps(load: Load, unit: np.ndarray) -> np.ndarray:
    if load.kind == "closed":
        return np.zeros(len(unit))
    return unit / load.rate if load.kind == "poisson" else np.full(len(unit), 1.0 / load.rate)


def _shared(load: Load, uniform: np.ndarray) -> np.ndarray:
    """Which system prompt each request has, -1 for none; the n-th is asked for 1/n as often as the first."""
    if not load.shared_prefixes:
        return np.full(len(uniform), -1)
    weight = np.cumsum(1.0 / np.arange(1, load.shared_prefixes + 1))
    return np.searchsorted(weight / weight[-1], uniform)


@lru_cache(maxsize=8)
def _rows(path: str) -> tuple[Row, ...]:
    return tuple(read_trace(Path(path)))


def means(load: Load) -> tuple[float, float]:
    """Mean tokens of prompts and of outputs.

    raises TraceError: the trace cannot be read
    """
    if load.kind != "trace":
        return load.prompt.mean + load.shared_tokens * bool(load.shared_prefixes), load.output.mean
    rows = _rows(load.trace)
    return sum(row.prompt for row in rows) / len(rows), sum(row.output for row in rows) / len(rows)


def _from_trace(load: Load, begin: float) -> Iterator[Request]:
    rows = _rows(load.trace)
    period_s = rows[-1].at_s + 1.0
    number = 0
    while not load.count or number < load.count:
        turn, place = divmod(number, len(rows))
        row = rows[place]
        yield Request(number, begin + (turn * period_s + row.at_s) / load.speed, row.prompt, row.output, row.prefix)
        number += 1


@dataclass
class Counted:
    """How many requests have come to one of several engines by a moment, without making each: for long simulations.

    Within a cell of ten seconds they come evenly. The count is a function of the moment alone: whoever asks every second and whoever
    asks every hour get the same.
    """

    load: Load
    share: float
    seed: int
    name: str
    begin: float
    _hours: dict[int, np.ndarray] = field(default_factory=dict)
    _before: list[float] = field(default_factory=lambda: [0.0])
    _times: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.load.kind == "closed":
            raise ValueError('a closed load needs a service of mode "events"')
        if self.load.kind == "trace":
            self._times = np.array([row.at_s for row in _rows(self.load.trace)])

    @property
    def mean_rate(self) -> float:
        """Requests per second in the long run."""
        if self._times is not None:
            return len(self._times) / (float(self._times[-1]) + 1.0) * self.load.speed * self.share
        return self.load.rate * self.share

    def by(self, at: float) -> float:
        """Requests from the beginning to `at`."""
        passed_s = max(0.0, at - self.begin)
        if self._times is not None:
            return self._of_trace(self._times, passed_s)
        if self.load.kind == "fixed":
            return passed_s * self.load.rate * self.share
        hour, within_s = divmod(passed_s, _CELL_S * _CELLS)
        while len(self._before) <= hour:
            self._before.append(self._before[-1] + float(self._hour(len(self._before) - 1)[-1]))
        place = within_s / _CELL_S
        cell = min(int(place), _CELLS - 1)
        sums = self._hour(int(hour))
        return self._before[int(hour)] + float(sums[cell] + (sums[cell + 1] - sums[cell]) * (place - cell))

    def next_change(self, at: float) -> float:
        """The end of the cell that `at` lies in; within it they come evenly."""
        return self.begin + (math.floor((at - self.begin) / _CELL_S + 1e-9) + 1) * _CELL_S

    def _of_trace(self, times: np.ndarray, passed_s: float) -> float:
        turn, within_s = divmod(passed_s * self.load.speed, float(times[-1]) + 1.0)
        return (turn * len(times) + float(np.searchsorted(times, within_s, side="right"))) * self.share

    def _hour(self, hour: int) -> np.ndarray:
        """Sums of an hour's cells, shape (_CELLS + 1,), from 0."""
        found = self._hours.get(hour)
        if found is None:
            come = stream(self.seed, "come", self.name, hour).poisson(self.load.rate * self.share * _CELL_S, _CELLS)
            found = self._hours[hour] = np.concatenate(([0.0], np.cumsum(come, dtype=float)))
            while len(self._hours) > 2:
                del self._hours[min(self._hours)]
        return found

"""What each suspect costs: the job replayed without it, and with it alone."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from detectors.traceslow.channels import Channel, slow_channels
from detectors.traceslow.factors import Factors, Spell, lower_median, spells, take_apart
from detectors.traceslow.replay import Replay, ideal
from detectors.traceslow.trace import Operations

# Rows of each table in the answer.
MOST_ROWS = 16
_MOST_COSTED = 64
# Loading that takes less than this part of a step is as it should be; more of it is not hidden behind the computation.
_HIDDEN = 0.1


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The trace, what was found in it, and step times by scenario: scenario -> seconds, shape (steps,).

    first: the step (place) from which on means are taken
    """

    replay: Replay
    factors: Factors
    channels: list[Channel]
    loading: list[Spell]
    ideal_s: np.ndarray
    times: Mapping[Hashable, np.ndarray]
    workers: tuple[int, ...]
    first: int = 0

    def since(self, step: int) -> "Costs":
        """The same, of the steps from this place on."""
        return replace(self, first=step)

    def mean(self, scenario: Hashable) -> float:
        """Mean step time of a scenario, in seconds."""
        return float(self.times[scenario][self.first :].mean())

    @property
    def slowdown(self) -> float:
        """Actual over ideal time."""
        return self.mean("actual") / max(self.mean("ideal"), 1e-12)

    def share(self, scenario: Hashable) -> float:
        """The part of the lost time that would come back in this scenario, 0..1."""
        lost = self.mean("actual") - self.mean("ideal")
        return min(1.0, max(0.0, (self.mean("actual") - self.mean(scenario)) / lost)) if lost > 1e-9 else 0.0

    def weight(self, scenario: Hashable) -> float:
        """How much of the lost time is a scenario's doing, 0..1: mean of what comes back without it and what it costs alone.

        Of two suspects that each hold up every step, removing one brings little back.
        """
        lost = self.slowdown - 1.0
        alone = min(1.0, max(0.0, (self.alone(("only", scenario)) - 1.0) / lost)) if lost > 1e-9 else 0.0
        return (self.share(scenario) + alone) / 2.0

    def alone(self, scenario: Hashable) -> float:
        """The slowdown of a job in which nothing but this is wrong."""
        return self.mean(scenario) / max(self.mean("ideal"), 1e-12)


def cause_of(name: str) -> str:
    """The cause that an operation's or a phase's own time stands for, "" if none: pauses have no place in an ideal step."""
    if name in ("data", "dataloader", "loader") or ("data" in name and any(word in name for word in ("load", "fetch", "wait", "read"))):
        return "data_loading"
    if name == "gc" or name.startswith(("gc-", "garbage")):
        return "gc"
    return "checkpoint" if "checkpoint" in name and "recompute" not in name and "activation" not in name else ""


def costs(ops: Operations) -> Costs:
    """Replay a trace in every scenario that matters, all in one pass."""
    replay = Replay(ops)
    own = replay.own_s
    factors = take_apart(ops, own)
    channels, longer = slow_channels(ops, replay.met, own)
    ideal_s = ideal(ops, own, pauses=_pauses(replay))
    loading, prompt_s = _loading(replay)
    workers = _suspects(ops, own - ideal_s, factors)
    scenarios: dict[Hashable, Callable[[], np.ndarray]] = {
        "actual": lambda: own,
        "ideal": lambda: ideal_s,
        "slow_worker": lambda: own / factors.worker,
        "stage_imbalance": lambda: own / factors.stage,
        "uneven": lambda: np.where(factors.compute, factors.even, own),
        "global": lambda: own / np.maximum(1.0, factors.drift),
        "slow_link": lambda: own / longer,
        "loading": lambda: prompt_s,
    }
    factor_of = {
        "slow_worker": factors.worker, "stage_imbalance": factors.stage, "uneven": factors.rest,
        "global": np.maximum(1.0, factors.drift), "slow_link": longer,
    }  # fmt: skip
    for what, factor in factor_of.items():
        scenarios["only", what] = partial(np.multiply, ideal_s, factor)
    for cause in ("data_loading", "gc", "checkpoint"):
        codes = [n for n, name in enumerate(ops.names) if cause_of(name) == cause]
        if codes:
            scenarios[cause] = partial(_swapped, np.isin, ops.op, codes, own, ideal_s)
            scenarios["only", cause] = partial(_swapped, np.isin, ops.op, codes, ideal_s, own)
    groups = [("op", ops.op, range(len(ops.names))), ("worker", ops.rank, workers)]
    groups.append(("stage", ops.pp[ops.rank], sorted(set(ops.pp.tolist()))))
    for what, column, values in groups:
        for value in list(values)[:_MOST_COSTED]:
            scenarios[what, value] = partial(_swapped, np.equal, column, value, own, ideal_s)
            scenarios["only", what, value] = partial(_swapped, np.equal, column, value, ideal_s, own)
    for spell in factors.spells[:_MOST_COSTED]:
        scenarios["spell", spell.who] = partial(_swapped, np.equal, ops.rank, spell.who, ideal_s, ideal_s * factors.worker)
    times = replay.step_times(make() for make in scenarios.values())
    return Costs(
        replay=replay, factors=factors, channels=channels, loading=loading, ideal_s=ideal_s, workers=workers,
        times=dict(zip(scenarios, times, strict=True)),
    )  # fmt: skip


def _swapped(
    match: Callable[..., np.ndarray], column: np.ndarray, value: object, own_s: np.ndarray, other_s: np.ndarray
) -> np.ndarray:
    """Own times, but other ones where a column matches."""
    return np.where(match(column, value), other_s, own_s)


def _pauses(replay: Replay) -> dict[str, float]:
    """The ideal of pauses: none. Loading has its usual length where that is a small part of the step."""
    ops, step_s = replay.ops, float(np.median(replay.measured_s))
    ideals = {name: 0.0 for name in ops.names if cause_of(name)}
    for code, name in enumerate(ops.names):
        if cause_of(name) == "data_loading":
            rows = ops.op == code
            usual = float(np.median(replay.own_s[rows]))
            if usual * rows.sum() / (len(ops.steps) * len(ops.ranks)) < _HIDDEN * step_s:
                ideals[name] = usual
    return ideals


def _loading(replay: Replay) -> tuple[list[Spell], np.ndarray]:
    """Ranks that wait longer for data than the others of their stage for long, and own times in which they do not."""
    ops, own = replay.ops, replay.own_s
    rows = np.flatnonzero(np.isin(ops.op, [n for n, name in enumerate(ops.names) if cause_of(name) == "data_loading"]))
    prompt = own.copy()
    if not len(rows):
        return [], prompt
    table = np.zeros((len(ops.steps), len(ops.ranks)))
    np.add.at(table, (ops.step[rows], ops.rank[rows]), own[rows])
    level = np.empty_like(table)
    for stage in np.unique(ops.pp):  # the first stage loads what the others do not
        members = ops.pp == stage
        level[:, members] = lower_median(table[:, members], axis=1)[:, None]
    found = spells((table - level) / float(np.median(replay.measured_s)))
    for spell in found:
        hit = rows[ops.rank[rows] == spell.who]
        prompt[hit] *= np.minimum(1.0, level[ops.step[hit], spell.who] / np.maximum(table[ops.step[hit], spell.who], 1e-12))
    return found, prompt


def _suspects(ops: Operations, excess_s: np.ndarray, factors: Factors) -> tuple[int, ...]:
    """The ranks with most work above the ideal, and those known to be slow."""
    above = np.bincount(ops.rank, weights=np.where(factors.compute, excess_s, 0.0), minlength=len(ops.ranks))
    first = [spell.who for spell in factors.spells[:MOST_ROWS]]
    return tuple(dict.fromkeys([*first, *np.argsort(-above, kind="stable")[:MOST_ROWS].tolist()]))

"""The figures of inference engines, from their own counters: rates, and means of the requests since the last reading."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from exporters.facts import Facts
from exporters.figures import Sheet
from holdfast.events import Finding, Samples
from holdfast.topology import Kind, Target

MOST_INSTANCES = 256
# An engine that was not read for so long is shown no more; that its source is silent is a figure of its own.
STALE_S = 300.0
STATES = ("healthy", "stalled")
# The role of an engine of which nobody says that it only prefills or only decodes.
BOTH = "both"

_GAUGES = {
    "serving.requests_running": "holdfast_serving_requests_running",
    "serving.requests_waiting": "holdfast_serving_requests_waiting",
    "serving.kv_use_ratio": "holdfast_serving_kv_cache_use_ratio",
}
_RATES = {
    "serving.prompt_tokens_total": ("holdfast_serving_tokens_per_second", "prompt"),
    "serving.generation_tokens_total": ("holdfast_serving_tokens_per_second", "generation"),
    "serving.requests_total": ("holdfast_serving_requests_per_second",),
}
_MEANS = {
    "serving.ttft_s": "holdfast_serving_time_to_first_token_seconds",
    "serving.tpot_s": "holdfast_serving_time_per_output_token_seconds",
    "serving.itl_s": "holdfast_serving_inter_token_latency_seconds",
}
_PREFIX = "serving."


@dataclass
class Reading:
    """The latest two readings of one engine, by signal: (value, when)."""

    new: dict[str, tuple[float, float]] = field(default_factory=dict)
    old: dict[str, tuple[float, float]] = field(default_factory=dict)

    def note(self, signal: str, value: float, at: float) -> None:
        """Take in a value; one that is no later than the last is passed over."""
        before = self.new.get(signal)
        if before is not None:
            if at <= before[1]:
                return
            self.old[signal] = before
        self.new[signal] = (value, at)

    def grown(self, signal: str) -> tuple[float, float] | None:
        """How much a counter has grown and in how many seconds; a counter below its last value began anew from 0."""
        new, old = self.new.get(signal), self.old.get(signal)
        if new is None or old is None:
            return None
        return (new[0] - old[0] if new[0] >= old[0] else new[0]), new[1] - old[1]


@dataclass
class Engine:
    """One instance. stalls: standing claims, by check, that it makes no tokens."""

    service: str
    heard_at: float
    reading: Reading = field(default_factory=Reading)
    stalls: set[str] = field(default_factory=set)


class Engines:
    """All engines by node and id; of more than MOST_INSTANCES the one longest unheard is forgotten.

    facts: what is known of a service, by its job
    """

    def __init__(self, facts: Callable[[str], Facts]) -> None:
        self._facts = facts
        self._engines: dict[tuple[str, str], Engine] = {}

    def on_samples(self, seen: Samples) -> None:
        signals = [(n, name) for n, name in enumerate(seen.signals) if name.startswith(_PREFIX)]
        if not signals:
            return
        for target, row in zip(seen.targets, seen.values.tolist(), strict=True):
            if target.kind is not Kind.INSTANCE:
                continue
            engine = self._engine(target, seen.job or target.job, seen.at)
            engine.heard_at = max(engine.heard_at, seen.at)
            for n, name in signals:
                if math.isfinite(row[n]):
                    engine.reading.note(name, row[n], seen.at)

    def on_finding(self, finding: Finding) -> None:
        engine = self._engines.get((finding.target.node, finding.target.id))
        if engine is None or finding.target.kind is not Kind.INSTANCE or finding.cause != "stalled":
            return
        if finding.cleared:
            engine.stalls.discard(finding.check)
        else:
            engine.stalls.add(finding.check)

    def put(self, sheet: Sheet, now: float) -> None:
        """Note the figures of every engine that was read lately."""
        for (_, id), engine in self._engines.items():
            if now - engine.heard_at > STALE_S:
                continue
            facts = self._facts(engine.service)
            labels = (engine.service, facts.model, facts.role or BOTH, id)
            _put_reading(sheet, engine.reading, labels)
            sheet.put_one_of("holdfast_serving_engine_state", STATES, "stalled" if engine.stalls else "healthy", engine.service, id)

    def _engine(self, target: Target, service: str, at: float) -> Engine:
        key = (target.node, target.id)
        engine = self._engines.get(key)
        if engine is None or (service and service != engine.service):
            engine = self._engines[key] = Engine(service, at)
            if len(self._engines) > MOST_INSTANCES:
                del self._engines[min(self._engines, key=lambda other: self._engines[other].heard_at)]
        return engine


def _put_reading(sheet: Sheet, reading: Reading, labels: tuple[str, ...]) -> None:
    for signal, figure in _GAUGES.items():
        if (value := reading.new.get(signal)) is not None:
            sheet.put(figure, value[0], *labels)
    for signal, (figure, *kind) in _RATES.items():
        if (grown := reading.grown(signal)) is not None:
            sheet.put(figure, grown[0] / grown[1], *labels, *kind)
    for signal, figure in _MEANS.items():
        sheet.put(figure, _mean(reading, signal), *labels)


def _mean(reading: Reading, signal: str) -> float | None:
    """The mean of what came since the last reading; None where nothing came, or the counters began anew and do not match."""
    total, count = reading.grown(f"{signal}_sum"), reading.grown(f"{signal}_count")
    if total is None or count is None or count[0] <= 0:
        return None
    return total[0] / count[0]

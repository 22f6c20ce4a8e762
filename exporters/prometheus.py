"""The exporter `prometheus`: the page at /metrics, filled from the events that went by."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from exporters.engines import Engines
from exporters.facts import facts_of
from exporters.figures import Sheet
from exporters.fleet import Fleet
from exporters.jobs import Jobs
from exporters.present import Present
from exporters.recovery import Recovery
from holdfast.events import (
    Alerts,
    Beats,
    Changes,
    Dumps,
    Event,
    Finding,
    Lines,
    Observation,
    Order,
    Outcome,
    Received,
    Request,
    Samples,
    Steps,
    Transition,
)

MOST_AGENTS = 65_536
_OBSERVATIONS = (Samples, Steps, Lines, Changes, Dumps, Beats, Received, Alerts, Request)


class Dropping(Protocol):
    """Something that gives up records when it must, and counts them."""

    @property
    def dropped(self) -> int: ...


class Prometheus:
    """Keeps what the figures need and renders it when it is asked; `export` and `page` may be called by different threads.

    simulated: the cluster is; the present is then the time of the events, otherwise it goes on while none come
    jobs: by job, what the job does not say itself; the keys of `facts.Facts`
    """

    def __init__(self, *, simulated: bool = False, jobs: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        site = {}
        for name, settings in (jobs or {}).items():
            try:
                site[name] = facts_of(settings)
            except ValueError as error:
                raise ValueError(f"jobs.{name}: {error}") from error
        self._simulated = simulated
        self._lock = threading.Lock()
        self._present = Present(goes_on=not simulated)
        self._jobs, self._fleet, self._recovery = Jobs(site), Fleet(), Recovery()
        self._engines = Engines(self._jobs.facts)
        self._seen: Counter[type[Event]] = Counter()
        self._agents: dict[str, tuple[str, int]] = {}
        self._dropped = 0
        self._watched: dict[str, Dropping] = {}
        # of a simulation the committed step is the clock; a live service measures how far it is behind and tells
        self._lag_s = 0.0 if simulated else None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def watch(self, name: str, source: Dropping) -> None:
        """Show what another exporter's queue gives up. name: the same name again replaces it."""
        with self._lock:
            self._watched[name] = source

    def lag(self, seconds: float) -> None:
        """The service tells how far its newest committed step is behind the clock."""
        self._lag_s = seconds

    def export(self, event: Event) -> None:
        """Take in one event."""
        with self._lock:
            if isinstance(event, Observation):
                self._on_observation(event)
            elif isinstance(event, Finding):
                self._recovery.on_finding(event)
                self._fleet.on_finding(event)
                self._engines.on_finding(event)
            elif isinstance(event, Transition):
                self._present.know(event.at)
                self._jobs.on_transition(event)
                self._recovery.on_transition(event)
            elif isinstance(event, Order):
                self._present.know(event.at)
                self._recovery.on_order(event)
            elif isinstance(event, Outcome):
                self._recovery.on_outcome(event)

    def page(self) -> bytes:
        """The page in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """The families of one moment, for the registry."""
        sheet = Sheet()
        with self._lock:
            now = self._present.now()
            self._jobs.put(sheet, now)
            self._fleet.put(sheet, now)
            self._engines.put(sheet, now)
            self._recovery.put(sheet)
            self._put_own(sheet)
        return sheet.families()

    def _on_observation(self, seen: Observation) -> None:
        self._seen[type(seen)] += 1
        self._present.hear(seen.source, seen.at)
        latest_at = self._present.at
        self._fleet.on_observation(seen, latest_at)
        if isinstance(seen, Samples):
            self._fleet.on_samples(seen)
            self._engines.on_samples(seen)
        elif isinstance(seen, Steps):
            self._jobs.on_steps(seen, latest_at)
        elif isinstance(seen, Beats):
            self._jobs.on_beats(seen, latest_at)
        elif isinstance(seen, Changes):
            self._jobs.on_changes(seen, latest_at)
            self._fleet.on_changes(seen)
        elif isinstance(seen, Received):
            self._on_received(seen)

    def _on_received(self, seen: Received) -> None:
        """An agent says how much it has given up since its numbering began; a new boot begins at 0."""
        boot, dropped = self._agents.pop(seen.agent, (seen.boot, 0))
        before = dropped if boot == seen.boot else 0
        self._dropped += max(0, seen.dropped - before)
        self._agents[seen.agent] = (seen.boot, max(before, seen.dropped))
        if len(self._agents) > MOST_AGENTS:
            del self._agents[next(iter(self._agents))]

    def _put_own(self, sheet: Sheet) -> None:
        sheet.put("holdfast_simulated", float(self._simulated))
        sheet.put("holdfast_lag_seconds", self._lag_s)
        sheet.put("holdfast_dropped_records_total", self._dropped, "agent")
        sheet.put("holdfast_dropped_records_total", sum(source.dropped for source in self._watched.values()), "export")
        for kind in _OBSERVATIONS:
            sheet.put("holdfast_observations_total", self._seen[kind], str(kind.__struct_config__.tag))

"""The whole line in one place: what is asked, who answers whom, and what is written before it happens.

Observation -> Finding -> Transition -> Order -> Outcome, and a Tick before each round. `Pipeline.step(now)` is the only
entry, for the live service and for the simulator alike; read this file first.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from holdfast.bus import Bus, Stage
from holdfast.events import Event, Finding, Observation, Order, Outcome, Request, Said, Tick, Transition
from holdfast.ports import Acknowledging, Backend, Collector, Detector, Exporter, Planner, Remembering, Requested
from holdfast.wire import Heard


class Incidents(Protocol):
    """Keeps incidents: answers findings, people's requests, orders, outcomes and time with transitions."""

    def on_request(self, request: Request) -> Iterator[Transition | Outcome]: ...

    def on_finding(self, finding: Finding) -> Iterator[Transition]: ...

    def on_order(self, order: Order) -> Iterator[Transition]: ...

    def on_outcome(self, outcome: Outcome) -> Iterator[Transition]: ...

    def on_tick(self, tick: Tick) -> Iterator[Transition]: ...


class Journal(Protocol):
    """Where a step is written, in one transaction, before it happens."""

    def commit(self, now: float, inputs: Sequence[Heard], said: Sequence[Said]) -> None: ...


class View(Protocol):
    """Keeps a picture of what goes by."""

    def on_event(self, event: Event) -> None: ...


class NoJournal:
    """For tests and benchmarks: nothing is written."""

    def commit(self, now: float, inputs: Sequence[Heard], said: Sequence[Said]) -> None:
        """Forget it."""


class Pipeline:
    """One single-threaded line of stages.

    detectors, views: by name, so that what they remember finds them again after a restart
    views: see everything and answer nothing, so that a replay rebuilds them too
    strict: see `Bus`
    now: time of the latest step, Unix seconds
    """

    def __init__(
        self,
        *,
        detectors: Mapping[str, Detector],
        book: Incidents,
        planner: Planner,
        collectors: Sequence[Collector] = (),
        backends: Sequence[Backend] = (),
        exporters: Sequence[Exporter] = (),
        views: Mapping[str, View] | None = None,
        journal: Journal | None = None,
        strict: bool = True,
    ) -> None:
        self.bus = Bus(strict=strict)
        self.collectors, self.backends, self.exporters = collectors, backends, exporters
        self.journal: Journal = journal or NoJournal()
        self.now = 0.0
        self.detectors = detectors
        self._acknowledging = [collector for collector in collectors if isinstance(collector, Acknowledging)]
        self._stages: dict[str, object] = {**detectors, "book": book}
        self._stages |= {f"planner.{depth}": guard for depth, guard in enumerate(_layers(planner))}
        self._connect(book, planner)
        for name, view in (views or {}).items():
            self._stages[name] = view
            self.bus.connect(Event, view.on_event)

    def _connect(self, book: Incidents, planner: Planner) -> None:
        self.bus.connect(Tick, book.on_tick)  # first, so that the book knows the time
        for detector in self.detectors.values():
            for kind in detector.consumes:
                self.bus.connect(kind, detector.observe)
            self.bus.connect(Tick, _ticking(detector))
        self.bus.connect(Finding, book.on_finding)
        self.bus.connect(Request, book.on_request)
        for guard in _layers(planner):
            if isinstance(guard, Requested):
                self.bus.connect(Request, guard.on_request)
        self.bus.connect(Transition, planner.on_transition)
        self.bus.connect(Order, book.on_order)
        self.bus.connect(Outcome, book.on_outcome)

    def step(self, now: float) -> list[Said]:
        """Ask every source, decide, commit, and only then let it happen. now: Unix seconds, never less than before."""
        heard = list(self._hear(now))
        said = self.decide(now, [event for event, _ in heard])
        self.journal.commit(now, [event for event, kept in heard if kept], said)
        self._release([event for event, _ in heard], said)
        return said

    def decide(self, now: float, inputs: Sequence[Heard]) -> list[Said]:
        """Run the stages on these inputs and return what was said, outcomes from outside first; nothing leaves.

        A replay is this and no more.
        """
        self.now = now
        for event in (*inputs, Tick(at=now)):
            self.bus.publish(event)
        answers = self.bus.drain()
        return [*(event for event in inputs if isinstance(event, Outcome)), *answers]  # type: ignore[list-item]

    def _hear(self, now: float) -> Iterator[tuple[Heard, bool]]:
        for collector in self.collectors:
            for seen in collector.poll(now):
                yield seen, collector.durable  # type: ignore[misc]  # every observation is one of Seen
        for backend in self.backends:
            for outcome in backend.poll(now):
                yield outcome, True

    def _release(self, heard: Sequence[Heard], said: Sequence[Said]) -> None:
        for event in said:
            for backend in self.backends:
                if isinstance(event, Outcome):
                    backend.settle(event)
                elif isinstance(event, Order):
                    backend.submit(event)
        for collector in self._acknowledging:
            collector.committed()
        for exporter in self.exporters:
            for seen in heard:
                if isinstance(seen, Observation):
                    exporter.export(seen)
            for event in said:
                exporter.export(event)

    def snapshot(self) -> dict[str, bytes]:
        """What every stage remembers, by name."""
        return {name: stage.snapshot() for name, stage in self._stages.items() if isinstance(stage, Remembering)}

    def restore(self, memory: Mapping[str, bytes]) -> None:
        """Give every stage its memory back; a stage the snapshot does not know starts afresh."""
        for name, stage in self._stages.items():
            if isinstance(stage, Remembering) and name in memory:
                stage.restore(memory[name])


def _layers(planner: Planner) -> Iterator[Planner]:
    """A planner and the planners it wraps, outermost first."""
    inner: Planner | None = planner
    while inner is not None:
        yield inner
        inner = getattr(inner, "inner", None)


def _ticking(detector: Detector) -> Stage:
    def tick(tick: Tick) -> Iterator[Event]:
        yield from detector.tick(tick.at)

    tick.__qualname__ = f"{type(detector).__qualname__}.tick"
    return tick

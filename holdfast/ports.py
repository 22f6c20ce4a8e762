"""The sockets of the system: what a plugin of each kind has to be."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from holdfast.events import Event, Finding, Observation, Order, Outcome, Request, Transition
from holdfast.incident import Incident
from holdfast.verdict import Verdict


class Collector(Protocol):
    """A source of observations. `poll` returns what is ready and never blocks; a dead source is an observation.

    durable: whether what it gives is kept in the journal, because its sender will forget it once it is acknowledged.
    """

    durable: bool

    def poll(self, now: float) -> Iterable[Observation]: ...


@runtime_checkable
class Acknowledging(Protocol):
    """A collector that tells its senders when what `poll` returned is safe in the journal."""

    def committed(self) -> None: ...


class Detector(Protocol):
    """Observations -> findings; no clock, no chance, no file.

    consumes: the observation types it wants. `tick` is called as time passes.
    """

    consumes: tuple[type[Observation], ...]

    def observe(self, seen: Observation) -> Iterable[Finding]: ...

    def tick(self, now: float) -> Iterable[Finding]: ...


@runtime_checkable
class Remembering(Protocol):
    """A stage whose memory must survive a restart of the service."""

    def snapshot(self) -> bytes: ...

    def restore(self, memory: bytes) -> None: ...


@runtime_checkable
class Warming(Protocol):
    """A detector that compares with what it has seen before.

    After so many seconds of telemetry, and so many steps of a job, it judges as if it had seen everything; 0 for neither.
    """

    warmup_s: float
    warmup_steps: int


class Planner(Protocol):
    """Transitions -> orders; guards wrap a planner and are planners, and a refusal is an outcome."""

    def on_transition(self, moved: Transition) -> Iterable[Order | Outcome]: ...


@runtime_checkable
class Requested(Protocol):
    """A guard that a person may speak to."""

    def on_request(self, request: Request) -> Iterable[Outcome]: ...


class Backend(Protocol):
    """Carries out orders. `submit` returns at once; the same order id twice acts once; a refusal is an outcome.

    settle: the outcome of one of its orders is committed; nothing more will be asked about it.
    """

    def submit(self, order: Order) -> None: ...

    def poll(self, now: float) -> Iterable[Outcome]: ...

    def settle(self, outcome: Outcome) -> None: ...


@runtime_checkable
class Relaying(Protocol):
    """A backend whose orders are fetched by agents: those of `job` that are not settled yet, oldest first."""

    def orders_for(self, job: str) -> Sequence[Order]: ...


class Exporter(Protocol):
    """Shows committed events to the outside; never answers."""

    def export(self, event: Event) -> None: ...


@runtime_checkable
class Scraped(Protocol):
    """An exporter that is asked instead of telling: its page is served at `/metrics`."""

    def page(self) -> bytes: ...


@runtime_checkable
class Lagging(Protocol):
    """An exporter that shows how late the newest step is."""

    def lag(self, seconds: float) -> None: ...


class Line(Protocol):
    """What an exporter still has to deliver. dropped: what never had its turn."""

    @property
    def dropped(self) -> int: ...


@runtime_checkable
class Delivering(Protocol):
    """An exporter that delivers in its own time."""

    @property
    def delivery(self) -> Line: ...


@runtime_checkable
class Watching(Protocol):
    """An exporter that shows what others have dropped."""

    def watch(self, name: str, source: Line) -> None: ...


@runtime_checkable
class Resuming(Protocol):
    """An exporter that is told, when the service starts again, of the incidents that are not resolved."""

    def resume(self, incidents: Sequence[Incident]) -> None: ...


@runtime_checkable
class Closing(Protocol):
    """A part that has something to finish or to end when the service does."""

    def close(self, seconds: float) -> None: ...


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """One file given to an offline diagnosis. name: as it is printed; kind: filled in by recognition."""

    name: str
    path: Path
    kind: str = ""


class Diagnoser(Protocol):
    """Files -> verdict, with no service running.

    kinds: kind of file -> one line on what it is
    recognise: the kind of a file from its name and its first 64 KiB, "" if it is none of ours
    diagnose: never raises for bad content; a file that cannot be used is in `skipped`
    """

    kinds: Mapping[str, str]

    def recognise(self, name: str, head: bytes) -> str: ...

    def diagnose(self, inputs: Sequence[Input], options: Mapping[str, str]) -> Verdict: ...

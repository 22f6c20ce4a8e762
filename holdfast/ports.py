"""The sockets of the system: what a plugin of each kind has to be."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from holdfast.events import Event, Finding, Observation, Order, Outcome
from holdfast.verdict import Verdict


class Collector(Protocol):
    """A source of observations. `poll` returns what is ready and never blocks; a dead source is an observation."""

    def poll(self, now: float) -> Iterable[Observation]: ...


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


class Backend(Protocol):
    """Carries out orders. `submit` returns at once; the same order id twice acts once; a refusal is an outcome."""

    def submit(self, order: Order) -> None: ...

    def poll(self, now: float) -> Iterable[Outcome]: ...


class Exporter(Protocol):
    """Shows committed events to the outside; never answers."""

    def export(self, event: Event) -> None: ...


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

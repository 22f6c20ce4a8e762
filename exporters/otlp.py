"""The exporter `otlp`: one OpenTelemetry trace for each incident that ended, sent as OTLP over HTTP.

A span for each stage that happened: perceive (from what was seen to the incident), diagnose, decide, act, verify. Times and
ids come from the incident, so the same incident is the same trace. An incident that people had to end is one trace, sent
when they were called. What was tried more than once is shown by its last round; `holdfast.tries` says how often.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from exporters.delivery import Delivery
from exporters.peer import DeliveryError, Peer
from holdfast.events import Event, Transition
from holdfast.incident import ENDED, Incident, State
from holdfast.secretfile import secret_of
from holdfast.topology import Kind

MOST_OPEN = 10_000
_SCOPE = InstrumentationScope("holdfast")
_HARDWARE = {Kind.DEVICE: "gpu", Kind.NIC: "network"}
_LATEST = 2.0**33  # the year 2242: what an agent's broken clock says must fit into nanoseconds

Attributes = dict[str, str | int]


class Stage(NamedTuple):
    """One part of an incident's life, Unix seconds."""

    name: str
    start: float
    end: float


class Otlp:
    """Sends traces to a collector.

    endpoint: the whole URL, such as http://127.0.0.1:4318/v1/traces; headers_file: a JSON object of further headers
    raises ValueError: a URL that is none, headers that are none
    """

    def __init__(self, *, endpoint: str, headers_file: str = "", service_name: str = "holdfast") -> None:
        self._peer = Peer(endpoint)
        self._headers = {**_headers(headers_file), "Content-Type": "application/x-protobuf"}
        self._resource = Resource({"service.name": service_name})
        self._opened: dict[str, float | None] = {}
        self._told: dict[str, None] = {}
        self.delivery = Delivery("otlp")

    def export(self, event: Event) -> None:
        if not isinstance(event, Transition):
            return
        incident = event.incident
        opened_at = self._opened.setdefault(incident.id, event.at if event.id == f"{incident.id}/1" else None)
        if incident.state in ENDED and incident.id not in self._told:
            self._told[incident.id] = None
            self.delivery.put(partial(self._send, incident, opened_at))
        if incident.state is State.RESOLVED:
            self._told.pop(incident.id, None)
            del self._opened[incident.id]
        for memory in (self._opened, self._told):
            while len(memory) > MOST_OPEN:
                del memory[next(iter(memory))]

    def close(self, seconds: float) -> None:
        self.delivery.close(seconds)

    def _send(self, incident: Incident, opened_at: float | None) -> None:
        spans = list(spans_of(incident, opened_at=opened_at, resource=self._resource))
        if not spans:
            raise DeliveryError(f"incident {incident.id} has times that are none", again=False)
        # The SDK's encoder, not its exporter: queue, retries and forbidden addresses are Delivery's and Peer's business.
        self._peer.post(encode_spans(spans).SerializeToString(), headers=self._headers)


def stages_of(incident: Incident, *, opened_at: float | None) -> Iterator[Stage]:
    """The stages that happened, in order; the first begins when the source saw something, by its own clock.

    opened_at: when the service opened the incident, None if that is not known any more
    """
    known = [at for at in (incident.at, opened_at, incident.diagnosed_at, incident.ended_at) if at is not None]
    start = min(known)  # a source whose clock is ahead has seen it no later than it was opened
    last = start if opened_at is None else opened_at
    yield Stage("perceive", start, last)
    for name, end in (("diagnose", incident.diagnosed_at), ("decide", incident.decided_at), ("act", incident.acted_at)):
        if end is None or end < last:  # it did not come to that, or only in a round before the last
            return
        yield Stage(name, last, end)
        last = end
    if incident.ended_at is not None and incident.ended_at > last:
        yield Stage("verify", last, incident.ended_at)


def spans_of(incident: Incident, *, opened_at: float | None, resource: Resource) -> Iterator[ReadableSpan]:
    """The root span and its children, ids derived from the incident's id and time; none if a time is no time."""
    stages = list(stages_of(incident, opened_at=opened_at))
    whole = Stage(f"incident {incident.id}", stages[0].start, incident.ended_at or stages[-1].end)
    if not all(0.0 <= stage.start <= stage.end < _LATEST for stage in (whole, *stages)):
        return
    trace = _number(16, incident.id, repr(incident.at))
    root = _context(trace, "incident")
    failed = incident.state is State.NEEDS_HUMAN
    status = Status(StatusCode.ERROR, incident.note or "needs a human") if failed else Status(StatusCode.OK)
    yield _span(whole, root, None, _attributes(incident), status, resource)
    for stage in stages:
        own: Attributes = {"holdfast.incident.id": incident.id, "holdfast.stage": stage.name}
        yield _span(stage, _context(trace, stage.name), root, own, Status(), resource)


def _span(
    stage: Stage, context: SpanContext, parent: SpanContext | None, attributes: Attributes, status: Status, resource: Resource
) -> ReadableSpan:  # fmt: skip
    return ReadableSpan(
        stage.name, context=context, parent=parent, resource=resource, attributes=attributes, status=status,
        start_time=_nanoseconds(stage.start), end_time=_nanoseconds(stage.end), instrumentation_scope=_SCOPE,
    )  # fmt: skip


def _attributes(incident: Incident) -> Attributes:
    verdict = incident.verdict
    said: Attributes = {
        "holdfast.incident.id": incident.id,
        "holdfast.job": incident.job,
        "holdfast.state": incident.state.value,
        "holdfast.perception": incident.perception.value if incident.perception else "",
        "holdfast.check": incident.check,
        "holdfast.fault": verdict.fault.value,
        "holdfast.verdict": verdict.verdict.value,
        "holdfast.verb": incident.verb.value if incident.verb else "",
        "holdfast.tries": incident.tries,
    }
    for culprit in verdict.culprits:
        if culprit.kind in _HARDWARE:
            said |= {"hw.id": culprit.id, "hw.type": _HARDWARE[culprit.kind], "host.name": culprit.node}
            break
    return {name: value for name, value in said.items() if value != ""}


def _headers(file: str) -> dict[str, str]:
    if not file:
        return {}
    try:
        said = json.loads(secret_of(file, key="headers_file"))
    except json.JSONDecodeError as error:
        raise ValueError(f"headers_file {file}: line {error.lineno}: no JSON") from None
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise ValueError(f"headers_file {file}: must be a JSON object of strings")
    return said


def _context(trace: int, name: str) -> SpanContext:
    return SpanContext(trace, _number(8, f"{trace:032x}", name), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _number(size: int, *parts: str) -> int:
    """So many bytes that follow from the parts, never 0, which would be no id."""
    return int.from_bytes(hashlib.sha256(" ".join(parts).encode()).digest()[:size]) or 1


def _nanoseconds(at: float) -> int:
    return round(at * 1e6) * 1000  # a float holds a present time to a quarter of a microsecond

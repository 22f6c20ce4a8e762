"""One trace for each incident, decoded from what a real server was sent: spans, parents, times, attributes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from exporters.otlp import Otlp
from holdfast.events import Transition
from holdfast.incident import State, Trigger
from tests.unit.exporters.receiver import (
    ACTED,
    CALLED,
    CLOSED,
    DIAGNOSED,
    OPENED,
    REFUSED,
    REPAIRED,
    RESOLVED,
    Told,
    move,
    receiver,
)

WATCHED = msgspec.structs.replace(DIAGNOSED, state=State.RESOLVED, ended_at=1200.0)
AGAIN = msgspec.structs.replace(ACTED, diagnosed_at=1050.0, state=State.NEEDS_HUMAN, ended_at=1051.0, note="no ladder left")
EARLY = msgspec.structs.replace(RESOLVED, at=1020.0)


def sent(moves: Sequence[Transition], **settings: Any) -> tuple[list[Told], Otlp]:
    with receiver() as there:
        exporter = Otlp(endpoint=there.url + "/v1/traces", **settings)
        for moved in moves:
            exporter.export(moved)
        exporter.close(20)
        return there.told, exporter


def spans_of(told: Told) -> list[Span]:
    request = ExportTraceServiceRequest.FromString(told.body)
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


def attributes_of(span: Span) -> dict[str, str | int]:
    return {row.key: row.value.int_value if row.value.HasField("int_value") else row.value.string_value for row in span.attributes}


def ended(incident_move: Transition) -> list[Transition]:
    return [REPAIRED[0], incident_move]


@pytest.mark.parametrize(
    ("moves", "stages"),
    [
        pytest.param(
            REPAIRED,
            {"perceive": (1000, 1001), "diagnose": (1001, 1003), "decide": (1003, 1004), "act": (1004, 1030), "verify": (1030, 1090)},
            id="a repair has five stages",
        ),
        pytest.param(
            CALLED, {"perceive": (1000, 1001), "diagnose": (1001, 1003), "decide": (1003, 1004)}, id="a refused order was not acted on"
        ),
        pytest.param(
            ended(move(4, WATCHED, State.VERIFYING, Trigger.CLEARED, 1200.0)), {"perceive": (1000, 1001), "diagnose": (1001, 1003)},
            id="what healed by itself was neither decided nor verified",
        ),
        pytest.param(
            ended(move(9, AGAIN, State.DIAGNOSING, Trigger.REFUSED, 1051.0)), {"perceive": (1000, 1001), "diagnose": (1001, 1050)},
            id="of several rounds the last is shown as far as it came",
        ),
        pytest.param(
            [move(6, RESOLVED, State.VERIFYING, Trigger.STEPPED, 1090.0)],
            {"perceive": (1000, 1000), "diagnose": (1000, 1003), "decide": (1003, 1004), "act": (1004, 1030), "verify": (1030, 1090)},
            id="an incident from before a restart of the service",
        ),
        pytest.param(
            ended(move(6, EARLY, State.VERIFYING, Trigger.STEPPED, 1090.0)),
            {"perceive": (1001, 1001), "diagnose": (1001, 1003), "decide": (1003, 1004), "act": (1004, 1030), "verify": (1030, 1090)},
            id="a source whose clock is ahead has seen it no later than it was opened",
        ),
    ],
)  # fmt: skip
def test_spans(moves: Sequence[Transition], stages: dict[str, tuple[int, int]]) -> None:
    (told,), _ = sent(moves)
    root, *children = spans_of(told)
    assert {span.name: (span.start_time_unix_nano, span.end_time_unix_nano) for span in children} == {
        name: (start * 10**9, end * 10**9) for name, (start, end) in stages.items()
    }
    assert (root.name, root.parent_span_id) == ("incident i7", b"")
    assert (root.start_time_unix_nano, root.end_time_unix_nano) == (
        children[0].start_time_unix_nano,
        round(moves[-1].incident.ended_at or 0) * 10**9,
    )
    assert {span.parent_span_id for span in children} == {root.span_id}
    assert {span.trace_id for span in children} == {root.trace_id}
    assert len({span.span_id for span in (root, *children)}) == 1 + len(children)


def test_the_root_says_what_the_incident_was() -> None:
    (told,), _ = sent(REPAIRED, service_name="holdfast-a")
    root = spans_of(told)[0]
    assert attributes_of(root) == {
        "holdfast.incident.id": "i7", "holdfast.job": "j", "holdfast.state": "resolved", "holdfast.perception": "node_fault",
        "holdfast.check": "xid.79", "holdfast.fault": "gpu_hw", "holdfast.verdict": "culprit", "holdfast.verb": "replace",
        "holdfast.tries": 1, "hw.id": "0000:1b:00", "hw.type": "gpu", "host.name": "n4",
    }  # fmt: skip
    assert root.status.code == Status.STATUS_CODE_OK
    (resource,) = ExportTraceServiceRequest.FromString(told.body).resource_spans
    assert {row.key: row.value.string_value for row in resource.resource.attributes} == {"service.name": "holdfast-a"}
    assert told.headers["content-type"] == "application/x-protobuf"


def test_a_person_who_is_needed_is_an_error_told_once() -> None:
    told, exporter = sent(CLOSED)
    root = spans_of(told[0])[0]
    assert (len(told), exporter.delivery.sent) == (1, 1)
    assert (root.status.code, root.status.message) == (Status.STATUS_CODE_ERROR, "over budget")


def test_the_same_incident_is_the_same_trace_and_another_is_another() -> None:
    other = move(6, msgspec.structs.replace(RESOLVED, at=999.0), State.VERIFYING, Trigger.STEPPED, 1090.0)
    ids = [spans_of(sent(moves)[0][0])[0].trace_id for moves in (REPAIRED, REPAIRED, [other])]
    assert ids[0] == ids[1] != ids[2]
    assert [len(id) for id in ids] == [16, 16, 16]


@pytest.mark.parametrize("at", [float("nan"), float("inf"), -5.0, 1e300], ids=str)
def test_times_that_are_none_are_counted_and_harm_nothing(at: float) -> None:
    broken = msgspec.structs.replace(RESOLVED, id="i8", acted_at=at, at=at)
    told, exporter = sent([move(6, broken, State.VERIFYING, Trigger.STEPPED, 1090.0), *REPAIRED])
    assert spans_of(told[-1])[0].name == "incident i7"
    assert exporter.delivery.sent + exporter.delivery.failed == 2
    assert not exporter.delivery.dropped


def test_headers_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "headers").write_text('{"Authorization": "Bearer s3cret"}')
    (told,), _ = sent(REPAIRED, headers_file=str(tmp_path / "headers"))
    assert told.headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"a": 1}'])
def test_headers_that_are_none_stop_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "headers").write_text(text)
    with pytest.raises(ValueError, match="headers_file"):
        Otlp(endpoint="http://127.0.0.1:4318/v1/traces", headers_file=str(tmp_path / "headers"))


def test_nothing_is_kept_of_what_is_over() -> None:
    exporter = Otlp(endpoint="http://127.0.0.1:9/v1/traces")
    exporter.close(0)
    for n in range(50):
        for moved in CLOSED if n % 2 else REPAIRED:
            incident = msgspec.structs.replace(moved.incident, id=f"i{n}")
            exporter.export(msgspec.structs.replace(moved, id=f"i{n}/{moved.id.split('/')[1]}", incident=incident))
    exporter.export(move(1, OPENED, State.OPEN, Trigger.CLAIMED, 1.0))
    exporter.export(move(5, REFUSED, State.RECOVERING, Trigger.REFUSED, 1005.0))
    assert (list(exporter._opened), list(exporter._told)) == (["i7"], ["i7"])

"""Alertmanager's door: what is a body and what is none, and an answer only after the commit."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from holdfast.api import alerts as module
from holdfast.api.alerts import AlertBodyError, AlertDoor, alerts_of
from holdfast.events import Alert, Alerts
from holdfast.wire import inputs_of_bytes, inputs_to_bytes

FIRING: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "NodeDown", "instance": "n4:9100", "severity": "critical"},
    "annotations": {"summary": "n4 does not answer"},
    "startsAt": "2026-11-24T22:00:00.123456789Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://prometheus.example/graph",
    "fingerprint": "a1b2c3d4e5f60718",
}
BODY: dict[str, Any] = {
    "receiver": "holdfast", "status": "firing", "alerts": [FIRING], "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
    "externalURL": "http://alertmanager.example", "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0,
    "notification_reason": "new", "routeLabels": {},
}  # fmt: skip


def body(alert: dict[str, Any] | None = None, **changed: Any) -> bytes:
    return json.dumps({**BODY, "alerts": [{**FIRING, **(alert or {})}], **changed}).encode()


def test_a_body_becomes_alerts() -> None:
    assert alerts_of(body(), at=5.0) == Alerts(
        at=5.0, source="alertmanager:holdfast",
        alerts=(
            Alert(
                fingerprint="a1b2c3d4e5f60718", name="NodeDown", status="firing", labels=FIRING["labels"],
                annotations=FIRING["annotations"], starts_at=1795557600.123457,
            ),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("alert", "ends_at"),
    [
        pytest.param({}, None, id="Go's zero time is none"),
        pytest.param({"endsAt": "2026-11-24T23:00:00+01:00"}, None, id="while it fires there is no end, whatever is announced"),
        pytest.param({"status": "resolved", "endsAt": "2026-11-24T23:00:10+01:00"}, 1795557610.0, id="an end with a time zone"),
        pytest.param({"status": "resolved"}, None, id="resolved without an end"),
    ],
)
def test_when_an_alert_ended(alert: dict[str, Any], ends_at: float | None) -> None:
    assert alerts_of(body(alert), at=5.0).alerts[0].ends_at == ends_at


@pytest.mark.parametrize(
    ("said", "names"),
    [
        pytest.param(b"", "malformed|truncated", id="nothing"),
        pytest.param(b"[]", "object", id="a list"),
        pytest.param(b'{"alerts": []}', "version", id="no version"),
        pytest.param(body(version="3"), r"\$\.version", id="another version"),
        pytest.param(json.dumps({**BODY, "alerts": {}}).encode(), r"\$\.alerts", id="alerts that are no list"),
        pytest.param(b'{"version": "4"}', "alerts", id="no alerts: a body of somebody's own template"),
        pytest.param(body({"status": "maybe"}), r"\$\.alerts\[", id="a status that is none"),
        pytest.param(body({"startsAt": "yesterday"}), "startsAt", id="a time that is none"),
        pytest.param(body({"startsAt": "2026-11-24T22:00:00"}), r"time zone - at `\$\.alerts\[0\]\.startsAt", id="a time without a zone"),
        pytest.param(body({"startsAt": "0001-01-01T00:00:00Z"}), "startsAt", id="no start"),
        pytest.param(body({"fingerprint": ""}), "fingerprint", id="an empty fingerprint"),
        pytest.param(body({"labels": {"a": 1}}), "labels", id="a label that is no text"),
        pytest.param(body({"labels": {str(n): "" for n in range(201)}}), "labels", id="too many labels"),
        pytest.param(body({"annotations": {"a": "x" * 9000}}), "annotations", id="too long an annotation"),
        pytest.param(json.dumps({**BODY, "alerts": [FIRING] * 10_001}).encode(), "alerts", id="too many alerts"),
        pytest.param(b"\xff\xfe", "malformed", id="no text"),
        pytest.param(b'{"alerts":' + b"[" * 5000, "recursion|truncated|Expected", id="a tower of brackets"),
    ],
)
def test_what_is_none_is_refused_by_name(said: bytes, names: str) -> None:
    with pytest.raises(AlertBodyError, match=names):
        alerts_of(said, at=5.0)


ANY = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(sorted(FIRING))


@given(alert=st.dictionaries(FIELDS, ANY, max_size=3), gone=st.sets(FIELDS, max_size=1), rest=ANY)
def test_whatever_stands_in_a_field_is_read_or_refused(alert: dict[str, Any], gone: set[str], rest: Any) -> None:
    said = {field: value for field, value in {**FIRING, **alert}.items() if field not in gone}
    try:
        seen = alerts_of(json.dumps({**BODY, "alerts": [said], "groupLabels": rest}).encode(), at=5.0)
    except AlertBodyError as error:
        refused = str(error)
        assert refused.startswith(("Expected", "Invalid", "JSON", "Object", "empty", "over", "no "))  # it may be either
    else:
        assert inputs_of_bytes(inputs_to_bytes([seen])) == [seen]


class Served:
    """A door on loopback whose line is stepped by hand."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.door = AlertDoor(self.came.set, now=lambda: 7.0)
        self.url = ""

    async def post(self, said: bytes) -> tuple[int, dict[str, Any]]:
        async with aiohttp.ClientSession() as session:
            answer = await session.post(self.url, data=said)
            return answer.status, await answer.json()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/api/v1/alerts", served.door.receive)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1/alerts"
    yield served
    await runner.cleanup()


async def test_the_answer_comes_after_the_commit(served: Served) -> None:
    asked = asyncio.create_task(served.post(body()))
    await asyncio.wait_for(served.came.wait(), 10)
    assert list(served.door.poll(8.0)) == [alerts_of(body(), at=7.0)]
    assert not asked.done()
    served.door.committed()
    assert await asked == (200, {"alerts": 1})
    assert served.door.durable


async def test_what_is_none_is_answered_at_once_and_counted(served: Served) -> None:
    status, answer = await served.post(body(version="3"))
    assert (status, "version" in answer["error"], served.door.refused) == (422, True, 1)
    assert list(served.door.poll(8.0)) == []


async def test_a_body_without_end_is_cut(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    assert (await served.post(b" " * 1001))[0] == 413


async def test_a_step_that_does_not_come_is_answered_with_an_error_so_that_it_is_sent_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.api.door.ANSWER_S", 0.01)
    assert (await served.post(body()))[0] == 503

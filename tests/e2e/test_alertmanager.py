"""With a real Alertmanager: an incident's alert fires and ends there, and what it hands on is read back as it stands."""

import json
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from detectors.alerts import OutsideAlerts
from exporters.alertmanager import Alertmanager
from exporters.peer import Peer
from holdfast.api.alerts import alerts_of
from holdfast.events import Alerts
from holdfast.faults import Fault
from holdfast.topology import Kind, Target
from tests.servers import alertmanager
from tests.unit.exporters.receiver import CLOSED, Receiver, receiver

CONFIG = """
route:
  receiver: back
  group_by: [alertname, incident, node]
  group_wait: 0s
  group_interval: 1s
receivers:
  - name: back
    webhook_configs: [{url: "URL/hook", send_resolved: true}]
"""
WAIT_S = 30.0


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as there:
        yield there


@pytest.fixture
def url(tmp_path: Path, hook: Receiver) -> Iterator[str]:
    with alertmanager(tmp_path / "alertmanager", CONFIG.replace("URL", hook.url)) as url:
        yield url


def firing(url: str) -> dict[str, dict[str, Any]]:
    """The alerts that it shows as firing, by name."""
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=5) as answer:
        return {alert["labels"]["alertname"]: alert for alert in json.load(answer)}


def wait_firing(url: str, *names: str) -> dict[str, dict[str, Any]]:
    until = time.monotonic() + WAIT_S
    while set(now := firing(url)) != set(names) and time.monotonic() < until:
        time.sleep(0.05)
    assert set(now) == set(names)
    return now


def handed_on(hook: Receiver, status: str, *names: str) -> list[Alerts]:
    """What came back, once alerts of all these names came with this status; read by the door's own decoder."""

    def all_there(told: Any) -> bool:
        seen = [alert for request in told for alert in alerts_of(request.body, at=1.0).alerts]
        return {alert.name for alert in seen if alert.status == status} >= set(names)

    return [alerts_of(request.body, at=float(n)) for n, request in enumerate(hook.wait(all_there), 1)]


def test_an_incident_fires_and_ends_and_is_not_taken_for_news(url: str, hook: Receiver) -> None:
    exporter = Alertmanager(url=url, external_url="http://127.0.0.1:8642")
    for moved in CLOSED[:4]:
        exporter.export(moved)
    alert = wait_firing(url, "HoldfastIncident")["HoldfastIncident"]
    assert alert["labels"] == {"alertname": "HoldfastIncident", "incident": "i7", "job": "j", "severity": "warning"}
    exporter.export(CLOSED[4])
    both = wait_firing(url, "HoldfastIncident", "HoldfastNeedsHuman")
    assert both["HoldfastIncident"]["fingerprint"] == alert["fingerprint"]
    assert both["HoldfastIncident"]["annotations"]["state"] == "needs_human"
    assert both["HoldfastIncident"]["annotations"]["runbook_url"] == "http://127.0.0.1:8642/#incident=i7"
    assert both["HoldfastNeedsHuman"]["labels"]["severity"] == "critical"
    handed_on(hook, "firing", *both)
    exporter.export(CLOSED[5])
    wait_firing(url)
    heard = handed_on(hook, "resolved", *both)
    exporter.close(5)
    assert (exporter.delivery.failed, exporter.delivery.dropped) == (0, 0)
    assert {json.loads(told.body)["version"] for told in hook.told} == {"4"}
    ours = [alert for seen in heard for alert in seen.alerts]
    assert {alert.starts_at for alert in ours if alert.name == "HoldfastIncident"} == {1000.0}
    detector = OutsideAlerts()
    assert [finding for seen in heard for finding in detector.observe(seen)] == []


def test_a_strangers_alert_is_a_finding_until_it_is_resolved(url: str, hook: Receiver) -> None:
    labels = {"alertname": "NodeDown", "instance": "n4:9100", "severity": "critical"}
    said = {"labels": labels, "annotations": {"summary": "n4 does not answer"}, "startsAt": now()}
    post(url, said)
    handed_on(hook, "firing", "NodeDown")
    post(url, {**said, "endsAt": now()})
    heard = handed_on(hook, "resolved", "NodeDown")
    detector = OutsideAlerts()
    found = [finding for seen in heard for finding in detector.observe(seen)]
    assert [finding.cleared for finding in found] == [False, True]
    assert (found[0].target, found[0].fault) == (Target(Kind.NODE, "n4", node="n4"), Fault.HOST)
    assert (found[0].evidence[0].file, found[0].evidence[0].text) == ("alertmanager:back", "alert NodeDown: n4 does not answer")


def now() -> str:
    return datetime.now(UTC).isoformat()


def post(url: str, alert: dict[str, Any]) -> None:
    Peer(url).post(json.dumps([alert]).encode(), path="/api/v2/alerts", headers={"Content-Type": "application/json"})

"""Alerts for incidents: labels that never change, an end that is said, an end that comes by itself."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import pytest

from exporters.alertmanager import LIVES_S, Alertmanager
from holdfast.events import Transition
from holdfast.incident import State, Trigger
from tests.servers import free_port
from tests.unit.exporters.receiver import CALLED, CLOSED, OPENED, REFUSED, REPAIRED, move, receiver

Heard = dict[str, Any]
NAMES = {"HoldfastIncident": "incident", "HoldfastNeedsHuman": "human"}


def said(moves: Sequence[Transition], **settings: Any) -> list[list[Heard]]:
    """What is posted after each move."""
    with receiver() as there:
        exporter = Alertmanager(url=there.url + "/am/", **settings)
        for n, moved in enumerate(moves, 1):
            exporter.export(moved)
            there.wait_for(n)
        exporter.close(20)
        assert {(told.method, told.path) for told in there.told} == {("POST", "/am/api/v2/alerts")}
        return [json.loads(told.body) for told in there.told]


def short(alerts: Sequence[Heard]) -> list[str]:
    """Names of the alerts, with a full stop where one ends now."""
    return sorted(NAMES[alert["labels"]["alertname"]] + ("" if lasting_s(alert) > 60 else ".") for alert in alerts)


def lasting_s(alert: Heard) -> float:
    return (datetime.fromisoformat(alert["endsAt"]) - datetime.now().astimezone()).total_seconds()


@pytest.mark.parametrize(
    ("moves", "posts"),
    [
        pytest.param(REPAIRED, [["incident"]] * 5 + [["incident."]], id="an incident fires until it is resolved"),
        pytest.param(CALLED, [["incident"]] * 4 + [["human", "incident"]], id="a person is called by an alert of its own"),
        pytest.param(
            CLOSED, [["incident"]] * 4 + [["human", "incident"], ["human.", "incident."]], id="both end when it is resolved",
        ),
        pytest.param(
            [*CALLED, move(6, msgspec.structs.replace(REFUSED, state=State.RECOVERING), State.NEEDS_HUMAN, Trigger.REQUESTED, 1100.0)],
            [["incident"]] * 4 + [["human", "incident"], ["human.", "incident"]],
            id="a person who acts ends the call, not the incident",
        ),
        pytest.param(REPAIRED[-1:], [["incident."]], id="the end of one from before a restart is told"),
        pytest.param(CLOSED[-1:], [["human.", "incident."]], id="so is the end of a call"),
    ],
)  # fmt: skip
def test_what_fires(moves: Sequence[Transition], posts: list[list[str]]) -> None:
    assert [short(alerts) for alerts in said(moves)] == posts


def test_what_stood_when_the_service_ended_fires_on() -> None:
    with receiver() as there:
        exporter = Alertmanager(url=there.url + "/am/")
        exporter.resume([OPENED, msgspec.structs.replace(REFUSED, id="i2")])
        there.wait_for(1)
        exporter.close(20)
        posts = [json.loads(told.body) for told in there.told]
    assert short(posts[-1]) == ["human", "incident", "incident"]



def test_labels_never_change_and_hold_nothing_that_does() -> None:
    heard = [alert for alerts in said(CLOSED, labels={"cluster": "a"}) for alert in alerts]
    labels = {tuple(sorted(alert["labels"].items())) for alert in heard}
    assert {dict(row)["alertname"]: dict(row) for row in labels} == {
        name: {"alertname": name, "cluster": "a", "incident": "i7", "job": "j", "severity": severity}
        for name, severity in (("HoldfastIncident", "warning"), ("HoldfastNeedsHuman", "critical"))
    }
    assert len(labels) == 2


def test_annotations_say_what_is_known_by_now() -> None:
    first, *_, last = (alerts[0] for alerts in said(REPAIRED, external_url="https://holdfast.example/"))
    page = "https://holdfast.example/#incident=i7"
    assert first["annotations"] == {
        "summary": "job j: node_fault, gpu_hw, open", "state": "open", "perception": "node_fault", "fault": "gpu_hw", "verdict": "culprit",
        "culprits": "device 0000:1b:00 (xid.79)", "targets": "device 0000:1b:00 (j/n4)", "runbook_url": page,
        "description": "kmsg: NVRM: Xid (PCI:0000:1b:00): 79, <GPU> has fallen off the bus.",
    }  # fmt: skip
    assert (first["generatorURL"], first["startsAt"]) == (page, "1970-01-01T00:16:40.000Z")
    assert (last["annotations"]["state"], last["annotations"]["verb"]) == ("resolved", "replace")
    assert last["annotations"]["description"].endswith("stepped past where it broke: step 8")


@pytest.mark.parametrize("at", [float("nan"), float("inf"), -1.0, 1e300], ids=str)
def test_an_incident_with_a_time_that_is_none_starts_now(at: float) -> None:
    ((alert,),) = said([move(1, msgspec.structs.replace(OPENED, at=at), State.OPEN, Trigger.CLAIMED, 1.0)])
    assert datetime.fromisoformat(alert["startsAt"]) < datetime.fromisoformat(alert["endsAt"])
    assert LIVES_S - 60 < lasting_s(alert) <= LIVES_S


def test_what_fires_is_said_again_and_again() -> None:
    with receiver() as there:
        exporter = Alertmanager(url=there.url, resend_s=0.02)
        exporter.export(REPAIRED[0])
        heard = [json.loads(told.body) for told in there.wait_for(4)]
        exporter.close(20)
    assert [short(alerts) for alerts in heard] == [["incident"]] * 4
    assert [alert["endsAt"] for (alert,) in heard] == sorted(alert["endsAt"] for (alert,) in heard)


def test_an_end_is_said_until_it_is_heard() -> None:
    with receiver() as there:
        exporter = Alertmanager(url=there.url, resend_s=0.1)
        exporter.export(REPAIRED[0])
        there.wait_for(1)
        with there.changed:
            there.script = [(400, b"", {})]  # final for this post, but the next regular one says it again
        exporter.export(REPAIRED[-1])
        heard = there.wait_for(3)
        exporter.close(20)
    assert [short(json.loads(told.body)) for told in heard] == [["incident"], ["incident."], ["incident."]]
    assert exporter.delivery.waiting == 0


def test_a_dead_server_holds_nothing_up_and_is_counted() -> None:
    exporter = Alertmanager(url=f"http://127.0.0.1:{free_port()}/")
    for moved in (*REPAIRED, *CALLED) * 200:
        exporter.export(moved)
    exporter.close(20)
    assert (exporter.delivery.sent, exporter.delivery.alive) == (0, False)
    assert exporter.delivery.failed >= 1


@pytest.mark.parametrize("labels", [{"a-b": "x"}, {"severity": "info"}, {"a": 1}], ids=str)
def test_a_label_is_refused_that_is_none_or_ours(labels: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="labels"):
        Alertmanager(url="http://127.0.0.1:1/", labels=labels)


@pytest.mark.parametrize("resend_s", [0.0, -1.0, LIVES_S])
def test_a_resend_time_is_refused_that_lets_alerts_lapse(resend_s: float) -> None:
    with pytest.raises(ValueError, match="resend_s"):
        Alertmanager(url="http://127.0.0.1:1/", resend_s=resend_s)

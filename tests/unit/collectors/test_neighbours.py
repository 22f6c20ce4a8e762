"""Other monitors as sources: gpud's states, NVSentinel's events, and what is said of their changes."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.neighbours import NeighbourError, Neighbours, events_of_nvsentinel, states_of_gpud
from detectors.alerts import OutsideAlerts
from holdfast.events import Alerts


def gpud(health: str) -> bytes:
    state = {
        "time": "2026-11-20T10:00:00Z", "name": "ib_ports", "health": health, "reason": "2 ports are down",
        "suggested_actions": {"repair_actions": ["HARDWARE_INSPECTION"]},
    }  # fmt: skip
    return json.dumps([{"component": "accelerator-nvidia-infiniband", "states": [state]}]).encode()


def sentinel(healthy: bool, **known: Any) -> str:
    event = {
        "agent": "gpu-health-monitor", "checkName": "GpuThermalWatch", "isFatal": True, "isHealthy": healthy, "message": "too hot",
        "recommendedAction": "RESTART_VM", "errorCode": ["DCGM_FR_CLOCK_THROTTLE_THERMAL"], "nodeName": "n3",
        "entitiesImpacted": [{"entityType": "GPU", "entityValue": "3"}], "generatedTimestamp": "2026-11-20T10:00:00Z",
    } | known  # fmt: skip
    return json.dumps(event)


def test_a_component_that_is_unwell_is_an_alert_with_its_reason() -> None:
    (alert,) = states_of_gpud(gpud("Unhealthy"), "n3")
    assert (alert.status, alert.labels["severity"], alert.labels["repair_actions"]) == (
        "firing",
        "critical",
        "HARDWARE_INSPECTION",
    )
    assert alert.annotations["summary"] == "2 ports are down"
    assert [one.status for one in states_of_gpud(gpud("Healthy"), "n3")] == ["resolved"]


def test_an_event_names_node_device_and_what_is_wanted() -> None:
    (alert,) = events_of_nvsentinel(sentinel(False))
    assert (alert.name, alert.labels["node"], alert.labels["gpu"]) == ("nvsentinel.GpuThermalWatch", "n3", "3")
    assert alert.annotations["summary"] == "[DCGM_FR_CLOCK_THROTTLE_THERMAL] too hot - RESTART_VM"
    assert alert.starts_at == 1795168800.0


def test_each_change_is_said_once_and_claimed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("")
    collector, alerts = Neighbours(events=(str(path),)), OutsideAlerts()
    said = []
    for n, line in enumerate([sentinel(False), sentinel(False), sentinel(True), "no JSON", sentinel(True)]):
        with path.open("a") as file:
            file.write(line + "\n")
        for seen in collector.poll(10.0 * n):
            if isinstance(seen, Alerts):
                said += [(f.check, str(f.target), f.cleared) for f in alerts.observe(seen)]
    claim = ("alert.nvsentinel.GpuThermalWatch", "device 3 (n3)")
    assert said == [(*claim, False), (*claim, True)]


@pytest.mark.parametrize("line", ["", "{}", "[1]", '{"events": [{"x": 1}]}', "\udcff"])
def test_what_is_no_event_is_refused(line: str) -> None:
    with pytest.raises((NeighbourError, UnicodeEncodeError)):
        list(events_of_nvsentinel(line))


KEYS = st.sampled_from(
    ["component", "states", "health", "events", "checkName", "entitiesImpacted", "errorCode", "suggested_actions"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_any_json_is_taken_or_refused(value: Any) -> None:
    text = json.dumps(value)
    for read in (lambda t: states_of_gpud(t.encode(), "n"), events_of_nvsentinel):
        try:
            list(read(text))
        except NeighbourError:
            continue

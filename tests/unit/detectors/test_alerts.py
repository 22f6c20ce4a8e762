"""Outside alerts: what they point to, one claim while they fire, and that they repair nothing by themselves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import alerts as module
from detectors.alerts import AlertTableError, OutsideAlerts
from holdfast.assembly import assemble
from holdfast.config import Config, Remedier
from holdfast.events import Alert, Alerts, Finding, Observation, Order, Transition
from holdfast.faults import Action, Fault, Judgement, Perception, Severity, Symptom
from holdfast.topology import JobId, Kind, Target, job_of, rank_of
from remedier.correlate import depth


def labelled(name: str, labels: Mapping[str, str], status: str = "firing", start: float = 100.0) -> Alert:
    """The fingerprint follows from name and labels, as Alertmanager's does."""
    fingerprint = f"{name} {sorted(labels.items())}"
    return Alert(fingerprint=fingerprint, name=name, status=status, labels=labels, starts_at=start)


def alert(name: str = "NodeDown", status: str = "firing", *, start: float = 100.0, **labels: str) -> Alert:
    return labelled(name, labels, status, start)


def seen(*alerts: Alert, at: float = 100.0) -> Alerts:
    return Alerts(at=at, source="alertmanager:r", alerts=alerts)


def claims(rounds: Sequence[Alerts], *, until: float | None = None, **settings: Any) -> list[Finding]:
    detector = OutsideAlerts(**settings)
    said = [finding for one in rounds for finding in detector.observe(one)]
    return [*said, *(detector.tick(until) if until is not None else ())]


def one(given: Alert, **settings: Any) -> Finding:
    (finding,) = claims([seen(given)], **settings)
    return finding


@pytest.mark.parametrize(
    ("name", "labels", "fault"),
    [
        pytest.param("NodeDown", {}, Fault.HOST, id="a node that is down"),
        pytest.param("KubeNodeNotReady", {}, Fault.HOST, id="a node that is not ready"),
        pytest.param("NodeClockSkewDetected", {}, Fault.HOST, id="a clock"),
        pytest.param("DCGMGpuXidError", {}, Fault.GPU_HW, id="an XID"),
        pytest.param("GpuDoubleBitEccErrors", {}, Fault.GPU_MEM, id="ECC"),
        pytest.param("GPURowRemapFailure", {}, Fault.GPU_MEM, id="a row remap"),
        pytest.param("GPUHighTemperature", {}, Fault.GPU_THERMAL_POWER, id="heat"),
        pytest.param("NVLinkErrors", {}, Fault.NVLINK, id="NVLink"),
        pytest.param("InfinibandPortDown", {}, Fault.NIC, id="InfiniBand"),
        pytest.param("NodeNetworkInterfaceFlapping", {}, Fault.NIC, id="a network interface"),
        pytest.param("NodeFilesystemAlmostOutOfSpace", {}, Fault.STORAGE, id="a file system"),
        pytest.param("NodeRAIDDegraded", {}, Fault.STORAGE, id="a RAID"),
        pytest.param("HostOomKillDetected", {}, Fault.HOST_RESOURCE, id="out of memory"),
        pytest.param("HostHighCpuLoad", {}, Fault.HOST_RESOURCE, id="CPU"),
        pytest.param("KubeAPIDown", {}, Fault.PLATFORM, id="Kubernetes"),
        pytest.param("PrometheusConfigReloadFailed", {}, Fault.UNKNOWN, id="what no row knows"),
        pytest.param("Watchdog", {}, Fault.UNKNOWN, id="an alert that always fires"),
        pytest.param("NodeDown", {"holdfast_fault": "nic"}, Fault.NIC, id="a label of ours stands above the table"),
        pytest.param("NodeDown", {"holdfast_fault": "rubbish"}, Fault.HOST, id="a label that is no word of ours is passed over"),
    ],
)
def test_what_broke(name: str, labels: dict[str, str], fault: Fault) -> None:
    assert one(labelled(name, labels)).fault is fault


@pytest.mark.parametrize(
    ("name", "labels", "target"),
    [
        pytest.param("NodeDown", {"node": "n4", "instance": "x:1"}, Target(Kind.NODE, "n4", node="n4"), id="the label node"),
        pytest.param("NodeDown", {"instance": "n4:9100"}, Target(Kind.NODE, "n4", node="n4"), id="an instance without its port"),
        pytest.param("NodeDown", {"instance": "[fd00::4]:9100"}, Target(Kind.NODE, "fd00::4", node="fd00::4"), id="an IPv6 instance"),
        pytest.param("NodeDown", {"instance": "fd00::4"}, Target(Kind.NODE, "fd00::4", node="fd00::4"), id="an IPv6 address"),
        pytest.param("GpuXid", {"Hostname": "n4", "gpu": "3"}, Target(Kind.DEVICE, "3", node="n4"), id="a GPU"),
        pytest.param(
            "GpuXid", {"Hostname": "n4", "gpu": "3", "pci_bus_id": "00000000:1B:00.0"}, Target(Kind.DEVICE, "0000:1b:00", node="n4"),
            id="a GPU by its PCI address",
        ),
        pytest.param(
            "InfinibandPortDown", {"node": "n4", "device": "mlx5_0", "port": "1"}, Target(Kind.NIC, "mlx5_0:1", node="n4"), id="a port",
        ),
        pytest.param(
            "NodeFilesystemFull", {"node": "n4", "device": "/dev/sda1"}, Target(Kind.NODE, "n4", node="n4"), id="a disk is the node's",
        ),
        pytest.param("LossHigh", {"training_job": "j"}, job_of("j"), id="the training job, where nothing else is named"),
        pytest.param("NodeDown", {"training_job": "j", "node": "n4"}, Target(Kind.NODE, "n4", node="n4"), id="the node before the job"),
        pytest.param("Watchdog", {"job": "node-exporter"}, Target(Kind.SOURCE, "Watchdog"), id="Prometheus' own job is a scrape job"),
    ],
)  # fmt: skip
def test_whom_it_points_to(name: str, labels: dict[str, str], target: Target) -> None:
    finding = one(labelled(name, labels))
    assert finding.target == target
    placed = target.kind in (Kind.NODE, Kind.DEVICE, Kind.NIC)
    assert finding.perception is (Perception.NODE_FAULT if placed else Perception.LOG_ERROR)
    assert finding.job == labels.get("training_job", "")


@pytest.mark.parametrize(
    ("labels", "severity"),
    [
        ({"severity": "critical"}, Severity.ERROR), ({"severity": "PAGE"}, Severity.ERROR), ({"severity": "warning"}, Severity.WARNING),
        ({"severity": "info"}, Severity.INFO), ({"severity": "emergency"}, Severity.FATAL), ({"severity": "odd"}, Severity.WARNING),
        ({}, Severity.WARNING),
    ],
)  # fmt: skip
def test_how_bad_it_is(labels: dict[str, str], severity: Severity) -> None:
    assert one(labelled("NodeDown", labels)).severity is severity


def test_a_claim_is_undecided_and_watched() -> None:
    finding = one(alert("NodeDown", node="n4", team="a"))
    assert (finding.judgement, finding.action, finding.cause) == (Judgement.UNDECIDED, Action.WATCH, "outside_alert")
    assert finding.detail == {"alert": "NodeDown", "starts_at": 100.0, "labels": {"node": "n4", "team": "a"}}
    assert (finding.check, finding.id, finding.at) == ("alert.NodeDown", "alerts/1", 100.0)


DOWN, AGAIN = alert(node="n4"), alert(node="n4", start=500.0)
UP, UP_AGAIN = alert(node="n4", status="resolved"), alert(node="n4", status="resolved", start=500.0)
TWIN, TWIN_UP = alert(node="n4", replica="b"), alert(node="n4", replica="b", status="resolved")


@pytest.mark.parametrize(
    ("rounds", "until", "said"),
    [
        pytest.param([[DOWN]], None, [False], id="an alert is a claim"),
        pytest.param([[DOWN], [DOWN], [DOWN, DOWN]], None, [False], id="its repeats say nothing"),
        pytest.param([[DOWN], [UP]], None, [False, True], id="resolved withdraws it"),
        pytest.param([[UP], [UP]], None, [], id="resolved without a claim says nothing"),
        pytest.param([[DOWN], [UP], [UP], [AGAIN]], None, [False, True, False], id="a new start is a new claim"),
        pytest.param([[DOWN], [AGAIN]], None, [False, True, False], id="a new start ends the one whose end was never said"),
        pytest.param([[AGAIN], [UP], [DOWN]], None, [False], id="late news of an earlier start says nothing"),
        pytest.param([[AGAIN], [UP_AGAIN]], None, [False, True], id="the later start ends by itself"),
        pytest.param([[DOWN, TWIN]], None, [False], id="two alerts of one name about one target are one claim"),
        pytest.param([[DOWN, TWIN], [UP]], None, [False], id="which stands while one of them fires"),
        pytest.param([[DOWN, TWIN], [UP], [TWIN_UP]], None, [False, True], id="and ends with the last"),
        pytest.param([[DOWN]], 100.0 + 86_400, [False], id="a day of silence is borne"),
        pytest.param([[DOWN]], 102.0 + 86_400, [False, True], id="more is the end of it"),
        pytest.param([[alert("HoldfastIncident", node="n4")]], None, [], id="our own alert is an echo"),
        pytest.param([[alert("HoldfastNeedsHuman")]], None, [], id="so is our call for a person"),
        pytest.param([[alert("HoldfastSourceSilent")]], None, [], id="and what our rules say of ourselves"),
    ],
)
def test_claims(rounds: list[list[Alert]], until: float | None, said: list[bool]) -> None:
    found = claims([seen(*alerts, at=100.0 + n) for n, alerts in enumerate(rounds)], until=until)
    assert [finding.cleared for finding in found] == said
    assert len({finding.id for finding in found}) == said.count(False)


def test_a_repeat_keeps_it_from_being_forgotten() -> None:
    detector = OutsideAlerts(expire_s=10.0)
    said = [*detector.observe(seen(DOWN, TWIN, at=0.0)), *detector.observe(seen(alert(node="n5"), at=1.0))]
    said += detector.observe(seen(DOWN, at=9.0))
    assert [f.cleared for f in said] == [False, False]
    assert [f.target.id for f in detector.tick(12.0)] == ["n5"]
    (last,) = detector.tick(20.0)
    assert (last.cleared, last.evidence[0].text) == (True, "alert NodeDown: not repeated for 10 s")


def test_memory_is_bounded_and_what_is_forgotten_is_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_STANDING", 10)
    found = claims([seen(*(alert(node=f"n{n}", big="x" * 100_000) for n in range(25)))])
    assert [f.target.id for f in found if f.cleared] == [f"n{n}" for n in range(15)]
    assert max(len(msgspec.json.encode(f)) for f in found) < 2000


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 2), st.integers(0, 1)), max_size=40), st.integers(0, 40))
def test_a_claim_is_withdrawn_before_it_is_made_again_wherever_the_service_is_restarted(
    news: list[tuple[int, bool, int, int]], cut: int
) -> None:
    detector = OutsideAlerts()
    standing: set[str] = set()
    for n, (node, fires, start, replica) in enumerate(news):
        if n == cut:
            fresh = OutsideAlerts()
            fresh.restore(detector.snapshot())
            detector = fresh
        status = "firing" if fires else "resolved"
        for finding in detector.observe(seen(alert(node=f"n{node}", replica=str(replica), status=status, start=float(start)), at=float(n))):
            assert (finding.target.id in standing) == finding.cleared
            (standing.discard if finding.cleared else standing.add)(finding.target.id)
    ends = [finding.target.id for finding in detector.tick(1e9)]
    assert (sorted(ends), list(detector.tick(2e9))) == (sorted(standing), [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("rubbish", "own.toml", id="no TOML"),
        pytest.param('[[row]]\nfault = "gpu"\nmatch = "x"', "own.toml", id="an unknown word"),
        pytest.param(
            '[severity]\n[labels]\nnode = []\ndevice = []\nnic = []\n[[row]]\nfault = "host"\nmatch = "(?=x)"', r"own.toml: '\(\?=x\)'",
            id="an expression RE2 cannot run",
        ),
    ],
)  # fmt: skip
def test_a_table_is_refused_for(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(AlertTableError, match=says):
        OutsideAlerts(table=str(tmp_path / "own.toml"))


@dataclass
class Given:
    """A collector that gives one list an asking."""

    rounds: list[list[Observation]]
    durable: bool = field(default=True, init=False)

    def poll(self, now: float) -> Iterator[Observation]:
        yield from self.rounds.pop(0) if self.rounds else ()


@pytest.mark.parametrize("fault", list(Fault))
def test_an_alert_alone_orders_nothing_whatever_it_says(fault: Fault) -> None:
    """In mode `auto`, twice, with every word of ours in its label."""
    labels = {"severity": "critical", "node": "n4", "training_job": "j", "holdfast_fault": fault}
    first, second = (seen(labelled("X", labels, start=at), at=at) for at in (100.0, 200.0))
    over = seen(labelled("X", labels, "resolved"), at=150.0)
    parts = assemble(
        Config(remedier=Remedier(mode="auto")), live=False, collectors=(Given([[first], [], [], [over], [second]]),)
    )
    said = [event for now in range(100, 1100, 5) for event in parts.pipeline.step(float(now))]
    assert {event.incident.state for event in said if isinstance(event, Transition)} >= {"open", "verifying", "resolved"}
    assert [event for event in said if isinstance(event, Order)] == []


def test_what_was_seen_here_explains_more_than_an_alert() -> None:
    hang = Finding(
        at=1.0, id="f", job=JobId("j"), target=rank_of("j", 3), perception=Perception.HANG, symptom=Symptom.HANG, fault=Fault.GPU_HW,
        check="tracehang.device_stuck", judgement=Judgement.UNDECIDED, confidence=0.9,
    )  # fmt: skip
    assert depth(one(alert("GpuXid", node="n4", gpu="3", training_job="j"))) < depth(hang)

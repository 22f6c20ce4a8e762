"""Figures of machines, devices, ports and sources."""

import numpy as np
import pytest

from exporters.fleet import LONGEST, MOST_FAULTY, SILENT_S
from holdfast.events import Event, Received, Samples
from holdfast.faults import Fault, Judgement
from holdfast.topology import JobId, Kind, NodeId, Target
from tests.unit.exporters.scraped import beats, change, finding, node_change, shown


def agent(at: float, node: str, *, job: str = "", boot: str = "b", dropped: int = 0) -> Received:
    return Received(
        at=at, source=f"agent:{node}", node=NodeId(node), job=JobId(job), agent=node, boot=boot, sequence=1, dropped=dropped
    )


def devices(at: float, node: str, **columns: list[float]) -> Samples:
    names = {"temp": "gpu.temp_c", "power": "gpu.power_w", "util": "gpu.util_ratio", "up": "nic.up"}
    values = np.array(list(columns.values())).T
    targets = tuple(Target(Kind.DEVICE, str(n), node=node) for n in range(len(values)))
    signals = tuple(names[name] for name in columns)
    return Samples(at=at, source=f"dcgm:{node}", node=NodeId(node), targets=targets, signals=signals, values=values)


def source_down(at: float, source: str) -> Samples:
    target = Target(Kind.SOURCE, source, node="n1")
    return Samples(at=at, source=source, node=NodeId("n1"), targets=(target,), signals=("source.up",), values=np.zeros((1, 1)))


@pytest.mark.parametrize(
    ("events", "states"),
    [
        pytest.param([agent(100, "n1"), agent(100, "n2")], {"ready": 2.0}, id="a node that is heard is ready"),
        pytest.param([node_change(100, "n1", "cordoned"), agent(101, "n1")], {"cordoned": 1.0}, id="the scheduler knows better"),
        pytest.param([node_change(100, "n1", "ready")], {"ready": 1.0}, id="a node without an agent is not silent"),
        pytest.param(
            [agent(100, "n1"), agent(100, "n2"), agent(101 + SILENT_S, "n2")], {"ready": 1.0, "silent": 1.0}, id="a node falls silent"
        ),
        pytest.param(
            [agent(100, "n1"), node_change(100, "n1", "not_ready"), agent(101 + SILENT_S, "n2")], {"ready": 1.0, "not_ready": 1.0},
            id="a node that is down is not counted as silent too",
        ),
        pytest.param([agent(100, "n1"), node_change(101, "n1", "deleted")], {}, id="a node is taken away"),
        pytest.param([node_change(100, "n1", "nonsense")], {}, id="a state that is none"),
    ],
)  # fmt: skip
def test_nodes(events: list[Event], states: dict[str, float]) -> None:
    page = shown(*events)
    counts = {word: page[f'holdfast_nodes{{state="{word}"}}'] for word in ("ready", "not_ready", "cordoned", "silent")}
    assert {word: count for word, count in counts.items() if count} == states


NODE = Target(Kind.NODE, "n1")
RANK = Target(Kind.RANK, "3", node="n1", job="j")
DEVICE = Target(Kind.DEVICE, "0000:1b:00", node="n1")


@pytest.mark.parametrize(
    ("events", "faulty"),
    [
        pytest.param([finding(100, DEVICE)], ["gpu_hw"], id="a claim about a device of it"),
        pytest.param([finding(100, NODE, fault=Fault.HOST)], ["host"], id="a claim about the node itself"),
        pytest.param([finding(100, DEVICE), finding(101, DEVICE, cleared=True)], [], id="a claim that was withdrawn"),
        pytest.param([finding(100, DEVICE), node_change(101, "n1", "deleted")], [], id="a node that was taken away"),
        pytest.param([finding(100, RANK, fault=Fault.HOST)], ["host"], id="a claim about a rank on it"),
        pytest.param([finding(100, RANK, fault=Fault.HOST), change(101, "restarting", attempt=1)], [], id="the rank runs elsewhere"),
        pytest.param([finding(100, DEVICE), change(101, "restarting", attempt=1)], ["gpu_hw"], id="the device outlives the attempt"),
        pytest.param([finding(100, DEVICE, fault=Fault.USER_CODE)], [], id="the code that ran there is to blame"),
        pytest.param([finding(100, DEVICE, judgement=Judgement.NOBODY)], [], id="nobody is to blame"),
    ],
)
def test_a_node_is_faulty(events: list[Event], faulty: list[str]) -> None:
    page = shown(*events)
    assert [key for key in page if key.startswith("holdfast_node_faulty")] == [
        f'holdfast_node_faulty{{fault="{fault}",node="n1"}}' for fault in faulty
    ]


def test_faulty_nodes_are_bounded() -> None:
    page = shown(*(finding(100, Target(Kind.NODE, f"n{n}"), fault=Fault.HOST) for n in range(MOST_FAULTY + 20)))
    nodes = {key for key in page if key.startswith("holdfast_node_faulty")}
    assert len(nodes) == MOST_FAULTY
    assert f'holdfast_node_faulty{{fault="host",node="n{MOST_FAULTY + 19}"}}' in nodes


def test_devices_are_told_as_a_whole() -> None:
    page = shown(
        devices(100, "n1", temp=[50, 60], power=[400, float("nan")], util=[0.5, 0.7]),
        devices(100, "n2", temp=[70, 80], power=[500, 600], util=[0.9, 0.9]),
        devices(110, "n1", temp=[40, 60], power=[300, 400], util=[0.1, 0.3]),
        devices(110, "n2", up=[1, 1, 0]),
    )
    assert page["holdfast_devices"] == 4
    temperatures = {stat: page[f'holdfast_device_temperature_celsius{{stat="{stat}"}}'] for stat in ("min", "median", "max")}
    assert temperatures == {"min": 40, "median": 65, "max": 80}
    assert page['holdfast_device_power_watts{stat="sum"}'] == 1800
    assert page['holdfast_device_utilization_ratio{stat="median"}'] == pytest.approx(0.6)
    assert (page['holdfast_nic_ports{state="up"}'], page['holdfast_nic_ports{state="down"}']) == (2, 1)


def test_readings_of_a_machine_that_is_gone_are_not_shown() -> None:
    page = shown(devices(100, "n1", temp=[50]), agent(300, "n2"), agent(450, "n2"))
    assert page["holdfast_devices"] == 0
    assert 'holdfast_device_temperature_celsius{stat="max"}' not in page


@pytest.mark.parametrize(
    ("events", "heard", "silent"),
    [
        pytest.param([agent(100, "n1"), devices(100, "n1", temp=[1])], 2, 0, id="an agent and an exporter"),
        pytest.param([agent(100, "n1"), agent(101 + SILENT_S, "n2")], 1, 1, id="one that is silent"),
        pytest.param(
            [devices(100, "n1", temp=[1]), source_down(101 + SILENT_S, "dcgm:n1")], 0, 1, id="its collector says that it is down"
        ),
        pytest.param([change(100, "started"), agent(101 + SILENT_S, "n1")], 1, 0, id="a scheduler speaks when something happens"),
        pytest.param([agent(100, "n1", job="j"), change(101, "finished")], 0, 0, id="an agent ends with its job"),
        pytest.param(
            [agent(100, "n1", job="j"), change(101, "finished"), agent(102, "n1")], 1, 0, id="the node's agent outlives the job"
        ),
    ],
)
def test_sources(events: list[Event], heard: float, silent: float) -> None:
    page = shown(*events)
    assert (page['holdfast_sources{state="heard"}'], page['holdfast_sources{state="silent"}']) == (heard, silent)


def test_the_longest_silences_are_named() -> None:
    page = shown(*(agent(100 + n, f"n{n:02d}") for n in range(15)))
    named = {key: value for key, value in page.items() if key.startswith("holdfast_source_silence_seconds")}
    assert len(named) == LONGEST
    assert named['holdfast_source_silence_seconds{source="agent:n00"}'] == 14
    assert 'holdfast_source_silence_seconds{source="agent:n14"}' not in named


@pytest.mark.parametrize(
    ("events", "dropped"),
    [
        pytest.param([agent(1, "n1", dropped=3), agent(2, "n1", dropped=5)], 5, id="an agent says how many so far"),
        pytest.param([agent(1, "n1", dropped=3), agent(2, "n1", boot="c", dropped=1)], 4, id="a new boot counts from 0"),
        pytest.param([agent(1, "n1", dropped=3), agent(2, "n1", dropped=2)], 3, id="what was said late changes nothing"),
        pytest.param([agent(1, "n1", dropped=3), agent(2, "n2", dropped=2)], 5, id="two agents"),
        pytest.param([beats(1, 1, 1.0)], 0, id="nothing dropped"),
    ],
)
def test_what_agents_have_dropped(events: list[Event], dropped: float) -> None:
    assert shown(*events)['holdfast_dropped_records_total{where="agent"}'] == dropped

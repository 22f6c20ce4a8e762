"""Ports of one rail on several nodes: a switch, and what is none."""

from collections.abc import Mapping

import numpy as np
import pytest

from detectors.has.fabric import Fabric
from holdfast.events import Claims, Finding, Observation, Samples
from holdfast.faults import Action, Fault, Perception
from holdfast.topology import JobId, Kind, NodeId, Target
from tests.unit.detectors.seen import answers

RAILS = 4


def page(at: float, node: str, values: Mapping[int, float], *, signal: str = "nic.up", usual: float = 1.0, job: str = "j") -> Samples:
    """One node's ports, `usual` where nothing is said."""
    targets = tuple(Target(Kind.NIC, f"mlx5_{n}:1", node=node) for n in range(RAILS))
    table = np.array([[values.get(n, usual)] for n in range(RAILS)])
    return Samples(at=at, source=f"page:{node}", node=NodeId(node), job=JobId(job), targets=targets, signals=(signal,), values=table)


def down(at: float, nodes: str, *rails: int, every_s: float = 1.0, job: str = "j") -> list[Observation]:
    """A page of each node, one after the other, with those ports down."""
    return [page(at + n * every_s, f"n{node}", dict.fromkeys(rails, 0.0), job=job) for n, node in enumerate(nodes)]


def errors(at: float, nodes: str, counts: Mapping[int, float]) -> list[Observation]:
    return [page(at, f"n{node}", counts, signal="nic.rx_errors_total", usual=0.0) for node in nodes]


def said(stream: list[Observation | float], **limits: float) -> list[str]:
    return [f"{'-' if one.cleared else ''}{one.check} {one.target.id}" for one in answers(Fabric(**limits), stream)]  # type: ignore[arg-type]


SWITCH, BACK = "fabric.switch_down switch of mlx5_2:1", "-fabric.switch_down switch of mlx5_2:1"


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param(down(0, "012", 2), [SWITCH], id="one rail of three nodes is a switch"),
        pytest.param(down(0, "01", 2), [], id="of two nodes it may be two ports"),
        pytest.param(down(0, "012", 2, every_s=120.0), [], id="what breaks hours and minutes apart is no switch"),
        pytest.param([*down(0, "0", 0), *down(0, "1", 1), *down(0, "2", 2)], [], id="different rails of three nodes are no switch"),
        pytest.param([*down(0, "012", 2), *down(20, "012")], [SWITCH, BACK], id="it is over when its ports are back"),
        pytest.param([*down(0, "0123", 2), *down(20, "01")], [SWITCH], id="it is not over while some of them are gone"),
        pytest.param(
            down(0, "012", 0, 1, 2, 3), ["fabric.switch_down switch of 4 rails"], id="all ports of some nodes are what the nodes share"
        ),
    ],
)
def test_ports_that_lose_their_link_together(stream: list[Observation | float], expected: list[str]) -> None:
    assert said(stream) == expected


LOSSY = "fabric.switch_errors switch of mlx5_1:1"


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param(
            [*errors(0, "012", {}), *errors(15, "012", {}), *errors(30, "012", {1: 900.0})], [LOSSY], id="a rail begins to damage packets"
        ),
        pytest.param(
            [*errors(0, "012", {}), *errors(15, "012", {}), *errors(30, "012", {1: 900.0}), 200.0], [LOSSY, f"-{LOSSY}"],
            id="it is over when the errors stand still",
        ),
        pytest.param(
            [*errors(0, "012", {1: 0.0}), *errors(15, "012", {1: 900.0})], [], id="of what was noisy at first sight nobody knows since when"
        ),
        pytest.param(
            [*errors(0, "012", {}), *errors(15, "012", {}), *errors(30, "012", {1: 3.0})], [], id="a few errors are in every fabric"
        ),
        pytest.param(
            [*errors(0, "012", {}), *errors(900, "012", {1: 9e6})], [], id="a gap between two pages says nothing of when it began"
        ),
    ],
)  # fmt: skip
def test_ports_that_damage_packets_together(stream: list[Observation | float], expected: list[str]) -> None:
    assert said(stream) == expected


def test_every_job_behind_the_switch_hears_of_it() -> None:
    found = answers(Fabric(), [*down(0, "012", 2, job="a"), *down(1, "345", 2, job="b")])
    assert [one.job for one in found] == ["a", "b"]
    assert {one.fault for one in found} == {Fault.FABRIC}
    assert found[0].culprits[0].kind is Kind.LINK


def test_agents_of_nodes_are_heard_too() -> None:
    def claim(node: str) -> Finding:
        return Finding(
            at=1.0, id=node, target=Target(Kind.NIC, "mlx5_2:1", node=node), perception=Perception.NODE_FAULT, fault=Fault.NIC,
            check="nic.down", confidence=0.9, action=Action.REPLACE,
        )  # fmt: skip

    def told(node: str, *found: Finding) -> Claims:
        return Claims(at=1.0, source=f"agent:node:{node}", job=JobId("j"), node=NodeId(node), findings=found, whole=not found)

    stream: list[Observation | float] = [told(node, claim(node)) for node in "abc"]
    assert said(stream) == [SWITCH]
    assert said([*stream, told("a"), told("b")]) == [SWITCH, BACK]

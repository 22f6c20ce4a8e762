"""What a score counts: hits, places, echoes and false alarms, and how sure a rate is."""

import math
from typing import Any

import msgspec
import pytest

from holdfast.faults import Fault, Judgement, Perception
from holdfast.incident import Incident, State
from holdfast.topology import Kind, Target
from holdfast.verdict import Culprit, Verdict
from simulator.rates import interval, per_thousand, percentiles
from simulator.score import match, score
from simulator.stories.kinds import kinds
from simulator.stories.story import Struck

STRUCK = Struck(story=kinds()["gpu_lost"].of("j", 3), at=100.0, nodes=("n1",))
BUMP = Struck(story=kinds()["data_bump"].of("j", 3), at=100.0, nodes=("n1",))


def incident(
    id: str, at: float, *, fault: Fault = Fault.GPU_HW, node: str = "n1", job: str = "j", ended_at: float | None = None
) -> Incident:
    culprit = Culprit(kind=Kind.DEVICE, id="0000:1b:00", cause="xid.79", confidence=0.9, node=node)
    return Incident(
        id=id, at=at, job=job, perception=Perception.NODE_FAULT, check="xid.79", ended_at=ended_at,
        state=State.OPEN if ended_at is None else State.RESOLVED, targets=(Target(Kind.DEVICE, "0000:1b:00", node=node),),
        verdict=Verdict(verdict=Judgement.CULPRIT, fault=fault, culprits=(culprit,)),
    )  # fmt: skip


def scored(*incidents: Incident, **known: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "seed": 1, "simulated_s": 3600.0, "wall_s": 1.0, "devices": 80, "node_hours": 10.0, "journal_sha256": "", "ettr": 0.9, "evicted": []
    }  # fmt: skip
    return score([STRUCK], incidents, **{**facts, **known})


@pytest.mark.parametrize(
    ("incidents", "counts"),
    [
        pytest.param([], (0, 0, 0, 0), id="a fault that nobody saw is missed"),
        pytest.param([incident("i1", 101.0, ended_at=200.0)], (1, 1, 1, 0), id="seen, placed and repaired"),
        pytest.param([incident("i1", 101.0)], (1, 1, 0, 0), id="an incident that is open is not repaired"),
        pytest.param([incident("i1", 101.0, node="n2", ended_at=200.0)], (1, 0, 1, 0), id="another node is another place"),
        pytest.param([incident("i1", 101.0, fault=Fault.NIC, ended_at=200.0)], (0, 0, 1, 0), id="another fault is not it"),
        pytest.param([incident("i1", 90.0)], (0, 0, 0, 1), id="before it happened it is a false alarm"),
        pytest.param([incident("i1", 101.0, job="k", node="n9")], (0, 0, 0, 1), id="elsewhere it is one too"),
        pytest.param(
            [incident("i1", 101.0, ended_at=200.0), incident("i2", 240.0, fault=Fault.HOST)], (1, 1, 1, 0), id="an echo soon after is none",
        ),
        pytest.param(
            [incident("i1", 101.0, ended_at=200.0), incident("i2", 300.0, fault=Fault.HOST)], (1, 1, 1, 1), id="what comes later is",
        ),
    ],
)  # fmt: skip
def test_what_counts(incidents: list[Incident], counts: tuple[int, int, int, int]) -> None:
    said = scored(*incidents)
    row = said["by_class"]["gpu_hw"]
    assert (row["detected"], row["located"], row["recovered"], said["false_alarms"]) == counts


@pytest.mark.parametrize(
    ("found", "false"),
    [
        pytest.param(incident("i1", 101.0, ended_at=200.0), 1, id="a machine that is accused of what is no fault is a false alarm"),
        pytest.param(
            msgspec.structs.replace(incident("i1", 101.0), verdict=Verdict(verdict=Judgement.UNDECIDED)), 0,
            id="what is only watched is none",
        ),
    ],
)  # fmt: skip
def test_what_is_no_fault(found: Incident, false: int) -> None:
    facts = {"seed": 1, "simulated_s": 3600.0, "wall_s": 1.0, "devices": 80, "node_hours": 10.0, "journal_sha256": "", "ettr": 0.9}
    said = score([BUMP], [found], evicted=[], **facts)  # type: ignore[arg-type]
    assert (said["n"], said["no_faults"], said["false_alarms"]) == (0, 1, false)


def test_a_healthy_node_that_is_taken_out_counts_against_it() -> None:
    said = scored(incident("i1", 101.0, ended_at=200.0), evicted=[(150.0, "n1"), (150.0, "n2"), (50.0, "n1")])
    assert said["healthy_nodes_evicted_per_fault"] == 2.0


def test_a_score_of_nothing_claims_nothing() -> None:
    said = score([], [], seed=1, simulated_s=0.0, wall_s=0.0, devices=0, node_hours=0.0, journal_sha256="", ettr=0.0, evicted=[])
    assert (said["recall"], said["intervals"]["recall"], said["false_alarms_per_1000_node_hours"]) == (None, None, None)


def test_intervals_are_those_of_the_tables() -> None:
    assert interval(10, 10) == (0.7225, 1.0)
    assert interval(0, 20) == (0.0, 0.1611)
    rate, (low, high) = per_thousand(10, 1000.0) or (0.0, (0.0, 0.0))
    assert (rate, math.isclose(low, 4.795, abs_tol=0.02), math.isclose(high, 18.39, abs_tol=0.02)) == (10.0, True, True)
    assert percentiles([3.0, 1.0, 2.0]) == {"p50": 2.0, "p90": 3.0, "max": 3.0}


LATER = Struck(story=kinds()["nic_down"].of("j", 3), at=400.0, nodes=("n1",))
AGAIN = Struck(story=kinds()["gpu_lost"].of("j", 3), at=400.0, nodes=("n1",))


@pytest.mark.parametrize(
    ("second", "incidents", "paired"),
    [
        pytest.param(LATER, [incident("i1", 401.0, fault=Fault.NIC)], ("", "i1"), id="a name goes to whose it is"),
        pytest.param(LATER, [incident("i1", 150.0, fault=Fault.UNKNOWN), incident("i2", 401.0, fault=Fault.NIC)], ("i1", "i2"),
                     id="a wrong name to whoever was there"),
        pytest.param(LATER, [incident("i1", 401.0, fault=Fault.UNKNOWN)], ("", "i1"), id="or to the latest of them"),
        pytest.param(AGAIN, [incident("i1", 401.0)], ("", "i1"), id="of two alike to the latest"),
        pytest.param(AGAIN, [incident("i1", 101.0), incident("i2", 401.0)], ("i1", "i2"), id="to each its own"),
    ],
)  # fmt: skip
def test_a_story_before_another_does_not_take_its_incident(second: Struck, incidents: list[Incident], paired: tuple[str, str]) -> None:
    found, false = match([STRUCK, second], incidents)
    assert tuple(one.incident for one in found) == paired
    assert false == []


def switch_incident(id: str, job: str, rail: int) -> Incident:
    culprit = Culprit(kind=Kind.LINK, id=f"switch of mlx5_{rail}:1", cause="switch_down", confidence=0.9)
    verdict = Verdict(verdict=Judgement.CULPRIT, fault=Fault.FABRIC, culprits=(culprit,))
    target = Target(Kind.LINK, culprit.id, job=job)
    facts: dict[str, Any] = {"perception": Perception.NODE_FAULT, "check": "fabric.switch_down", "targets": (target,)}
    return Incident(id=id, at=105.0, job=job, verdict=verdict, **facts)


def test_a_switch_is_placed_by_its_port_and_other_jobs_behind_it_are_echoes() -> None:
    leaf = Struck(story=kinds()["leaf_down"].of("j", 3), at=100.0, nodes=("n1", "n2"))
    later = Struck(story=kinds()["gpu_lost"].of("k", 0), at=101.0, nodes=("n9",))
    found, false = match([leaf, later], [switch_incident("i1", "j", 3), switch_incident("i2", "k", 3), switch_incident("i3", "l", 5)])
    assert [(one.incident, one.located) for one in found] == [("i1", True), ("", False)]
    assert [one.id for one in false] == ["i3"]

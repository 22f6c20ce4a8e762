"""Every kind of fault, alone on a small cluster, is found, located and repaired by the whole service."""

from pathlib import Path

import pytest

from simulator.scenario import FaultRow, read
from simulator.score import match
from simulator.stories.kinds import kinds
from tests.unit.simulator.small import scenario, simulation


@pytest.mark.parametrize("kind", read("demo").kinds)
def test_a_fault_is_found_located_and_repaired(kind: str, tmp_path: Path) -> None:
    job = "chat" if kind == "engine_stall" else "train"
    with simulation(scenario(FaultRow(kind=kind, at_s=100.0, job=job, rank=11)), tmp_path) as running:
        while not running.over:
            running.step()
        found, false = match(running.world.struck, list(running.parts.board.incidents.values()))
    assert [(one.said, one.located, one.recovered) for one in found] == [(kinds()[kind].truth.fault.value, True, True)]
    assert false == []


def test_a_machine_that_breaks_while_its_job_waits_for_a_person_is_repaired(tmp_path: Path) -> None:
    with simulation(scenario(FaultRow(kind="user_error", at_s=100.0, job="train", rank=11), lasting_s=900.0), tmp_path) as running:
        while running.world.jobs["train"].state != "stopped":
            running.step()
        running.world.tell(kinds()["kernel_panic"].of("train", 3))
        while not running.over:
            running.step()
        found, false = match(running.world.struck, list(running.parts.board.incidents.values()))
    assert [(one.kind, one.said, one.located, one.recovered) for one in found] == [
        ("user_error", "user_code", True, True),
        ("kernel_panic", "host", True, True),
    ]
    assert false == []


def test_a_healthy_cluster_is_left_alone(tmp_path: Path) -> None:
    with simulation(scenario(lasting_s=600.0), tmp_path) as running:
        while not running.over:
            running.step()
        assert running.parts.board.incidents == {}

"""A small simulated cluster under the whole service."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.journal import Journal
from holdfast.simulation import Simulation, settings
from simulator.scenario import FaultRow, JobRow, Scenario, ServiceRow


def scenario(*faults: FaultRow, nodes: int = 6, job_nodes: int = 4, seed: int = 3, lasting_s: float = 240.0) -> Scenario:
    """A job "train" of four nodes, a service "chat" of one, and what is left to spare."""
    return Scenario(
        nodes=nodes, seed=seed, lasting_s=lasting_s, job=(JobRow(name="train", nodes=job_nodes, step_s=4.0),),
        service=(ServiceRow(name="chat", model="m"),), fault=faults,
    )  # fmt: skip


@contextmanager
def simulation(told: Scenario, folder: Path) -> Iterator[Simulation]:
    """The service over a scenario, its journal closed at the end."""
    path = folder / "journal.sqlite"
    running = Simulation(told, Journal(path, snapshots_kept=0), settings(path))
    try:
        yield running
    finally:
        running.journal.close()

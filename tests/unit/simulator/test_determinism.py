"""The same scenario and seed give the same bytes, whatever the process; a further node changes nobody else's numbers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.scenario import FaultRow, make
from simulator.sweep import Sweep
from simulator.world import World
from tests.unit.simulator.small import scenario, simulation

ROOT = Path(__file__).resolve().parents[3]
FAULTS = (
    FaultRow(kind="gpu_lost", at_s=100.0, job="train", rank=5),
    FaultRow(kind="host_hang", at_s=330.0, job="train", rank=20),
)
_SCRIPT = """
import sys
from pathlib import Path
from tests.unit.simulator.test_determinism import journal_sha256
print(journal_sha256(Path(sys.argv[1]), seed=int(sys.argv[2])))
"""


def journal_sha256(folder: Path, *, seed: int) -> str:
    """The hash over ten simulated minutes of four nodes, of which three train."""
    told = scenario(*FAULTS, nodes=5, job_nodes=3, seed=seed)
    with simulation(told, folder) as running:
        while running.now - running.start < 600.0:
            running.step()
        assert len(running.parts.board.incidents) >= 2
        return running.journal.sha256()


def test_the_journal_is_the_same_in_another_process_with_other_hashes(tmp_path: Path) -> None:
    first = journal_sha256(tmp_path, seed=3)
    (tmp_path / "other").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path / "other"), "3"], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    )  # fmt: skip
    assert done.stdout.strip() == first


def written(world: World, seconds: float) -> dict[str, object]:
    """Everything that is written in some time, by stream."""
    world.advance(world.cluster.now + seconds)
    cluster = world.cluster
    return {
        "batches": cluster.agents.fetch(), "kernel": cluster.fetch_kernel(0.0), "logs": cluster.fetch_logs(0.0),
        "pages": Sweep(world).now()[0],
    }  # fmt: skip


@pytest.mark.parametrize("stream", ["batches", "kernel", "logs", "pages"])
def test_a_further_node_changes_no_other_nodes_numbers(stream: str) -> None:
    few, more = (written(make(scenario(nodes=nodes)), 60.0)[stream] for nodes in (6, 7))
    assert isinstance(few, list)
    assert isinstance(more, list)
    assert [one for one in more if "node0006" not in str(one)] == few


def test_another_seed_gives_other_numbers() -> None:
    assert written(make(scenario(seed=1)), 60.0) != written(make(scenario(seed=2)), 60.0)

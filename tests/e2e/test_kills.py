"""Agent and service are killed at random moments of a running job: it is not touched, nothing is lost or done twice."""

import json
import random
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from holdfast.events import Steps
from holdfast.journal import ORDERS, Journal
from tests.e2e.jobs import HOLDFAST, ring_job

_SETTINGS = """
[journal]
keep = "all"
snapshot_every_s = 5.0
"""


def _children(supervisor: psutil.Process, *words: str) -> list[psutil.Process]:
    return [child for child in supervisor.children() if all(word in " ".join(child.cmdline()) for word in words)]


def _kill(supervisor: psutil.Process, chance: random.Random) -> int:
    """Kill the agent, the service or both, and return how many were there to kill."""
    whom = chance.choice((("ftagent",), ("serve",), ("ftagent", "serve")))
    victims = [child for word in whom for child in _children(supervisor, word)]
    for victim in victims:
        if victim.is_running():
            victim.kill()
    return len(victims)


def _run(folder: Path, *, kills: int, seed: int, steps: int) -> None:
    settings = folder / "settings.toml"
    settings.write_text(_SETTINGS)
    words = [
        "run",
        "--quiet",
        "--nproc",
        "4",
        "--dir",
        str(folder / "run"),
        "--report",
        str(folder / "report.json"),
        "-c",
        str(settings),
    ]
    job = ring_job(
        folder,
        "--steps",
        str(steps),
        "--step-s",
        "0.2",
        "--fault",
        "block",
        "--fault-rank",
        "2",
        "--fault-step",
        str(steps // 3),
    )
    chance = random.Random(seed)
    with (folder / "said").open("w") as said:
        started = subprocess.Popen([*HOLDFAST, *words, "--", *job], stdout=said, stderr=said, cwd=folder)
    supervisor = psutil.Process(started.pid)
    done = 0
    while done < kills and started.poll() is None:
        time.sleep(chance.uniform(0.2, 2.5))
        if started.poll() is None:
            done += _kill(supervisor, chance) > 0
    assert started.wait(timeout=240) == 0, (folder / "said").read_text()
    assert done == kills, f"seed {seed}: the job ended after {done} kills"
    _check(folder, steps=steps)


def _check(folder: Path, *, steps: int) -> None:
    report = json.loads((folder / "report.json").read_text())
    hang = [i for i in report["incidents"] if i["symptom"] == "hang"]
    assert [([(c["id"], c["cause"]) for c in i["culprits"]], i["verb"], i["state"]) for i in hang] == [
        ([("2", "host_stuck")], "restart", "resolved")
    ], f"report {report['incidents']}"
    assert report["attempts"] == 2
    log = "".join(path.read_text() for path in sorted((folder / "run" / "job" / "logs").rglob("*.log")))
    assert log.count("training from step") == 2  # once, and once more for the fault: no kill has touched it
    assert log.count("done") == 1
    journal = Journal(folder / "run" / "journal.sqlite")
    heard = {
        int(step)
        for written in journal.steps()
        for seen in written.inputs
        if isinstance(seen, Steps)
        for step in seen.steps
    }
    restarts = [row.id for row in journal._db.execute(ORDERS.select()) if "/restart/" in row.id]
    journal.close()
    assert heard == set(range(steps))
    assert len(restarts) == 1
    again = subprocess.run(
        [*HOLDFAST, "replay", str(folder / "run" / "journal.sqlite")], capture_output=True, text=True, timeout=120
    )
    assert again.returncode == 0, again.stdout


def test_a_few_kills_change_nothing(tmp_path: Path) -> None:
    _run(tmp_path, kills=6, seed=1, steps=70)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [2, 3])
def test_fifty_kills_change_nothing(tmp_path: Path, seed: int) -> None:
    _run(tmp_path, kills=25, seed=seed, steps=260)

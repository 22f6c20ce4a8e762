"""`holdfast demo`: its exit status, its report, what it tells with and without a terminal, and its pace."""

import asyncio
import io
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace
from rich.console import Console

from holdfast.cli.screen import Screen
from holdfast.config import Token
from holdfast.demo import HOST, Demo, Pace, passed
from simulator.scenario import FaultRow, JobRow, Scenario, read

SMALL = """
nodes = 4
lasting_s = 300.0

[[job]]
name = "tiny"
nodes = 2
step_s = 4.0

[[fault]]
kind = "process_crash"
at_s = 100.0
job = "tiny"
"""
# The fault begins in the last second there is: it cannot be mended any more.
TOO_LATE = SMALL.replace("lasting_s = 300.0", "lasting_s = 1.0").replace("at_s = 100.0", "at_s = 900.0")

# contracts.md, "The score of a simulation"
SCORE = {
    "seed", "simulated_s", "wall_s", "devices", "faults", "by_class", "precision", "recall", "located", "observed_node_hours",
    "false_alarms_per_1000_node_hours", "actions", "ettr", "journal_sha256",
}  # fmt: skip


def demo(folder: Path, scenario: str, *options: str) -> subprocess.Popen[str]:
    """`holdfast demo` with pipes for a terminal."""
    file = folder / "small.toml"
    file.write_text(scenario)
    words = [sys.executable, "-m", "holdfast", "demo", "--port", "0", "--scenario", str(file), *options]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_demo_whose_fault_is_repaired_ends_with_0_and_leaves_the_score(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with demo(tmp_path, SMALL, "--once", "--speed", "0", "--seed", "7", "--report", str(report)) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    score: dict[str, Any] = json.loads(report.read_text())
    assert score.keys() >= SCORE
    assert (score["seed"], score["devices"], score["faults"], score["recall"]) == (7, 32, 1, 1.0)
    lines = out.splitlines()
    assert "SIMULATED" in lines[0]
    assert f"http://{HOST}:" in lines[1]
    assert [line.split()[2] for line in lines if " i1 " in line][-1] == "resolved"
    assert "process_crash" in out
    assert "\x1b" not in out, "a pipe is told in plain lines"
    assert err == ""


def test_a_fault_that_is_not_repaired_ends_with_1(tmp_path: Path) -> None:
    with demo(tmp_path, TOO_LATE, "--once", "--speed", "0") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "(n = 1)" in out


@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGTERM])
def test_a_word_to_stop_is_obeyed_and_the_score_still_told(tmp_path: Path, word: signal.Signals) -> None:
    with demo(tmp_path, SMALL, "--speed", "20") as process:
        assert process.stdout is not None
        assert "SIMULATED" in process.stdout.readline()
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(word)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 1, "it was asked for the whole scenario and did not see it"
    assert "0 false alarms" in out
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("scenario", "options", "told"),
    [
        pytest.param("nodes = 0\n", [], "small.toml", id="no scenario"),
        pytest.param(SMALL, ["--report", "/proc/none/report.json"], "/proc/none/report.json", id="a report that cannot be written"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(tmp_path: Path, scenario: str, options: list[str], told: str) -> None:
    with demo(tmp_path, scenario, *options) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert len(err.splitlines()) == 1
    assert told in err


STORY = {"said": "nic", "truth": "nic", "located": True, "recovered": True}


@pytest.mark.parametrize(
    ("stories", "false_alarms", "good"),
    [
        pytest.param([STORY, STORY], 0, True, id="all met"),
        pytest.param([STORY, {**STORY, "said": ""}], 0, False, id="one was not detected"),
        pytest.param([{**STORY, "said": "host"}], 0, False, id="one was called something else"),
        pytest.param([{**STORY, "located": False}], 0, False, id="one was put in another place"),
        pytest.param([{**STORY, "recovered": False}], 0, False, id="one was not repaired"),
        pytest.param([STORY], 1, False, id="something was called a fault that is none"),
    ],
)
def test_passed(stories: list[dict[str, Any]], false_alarms: int, good: bool) -> None:
    assert passed({"stories": stories, "false_alarms": false_alarms}) is good


@dataclass
class Watch:
    """A clock that goes when it is told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("speed", "step_s", "measured", "lag_s"),
    [
        pytest.param(60.0, 0.0, 60.0, 0.0, id="a fast machine is held to the speed that was asked for"),
        pytest.param(60.0, 0.025, 40.0, 0.0, id="a slower machine goes as fast as it can and keeps the promise"),
        pytest.param(60.0, 0.1, 10.0, 5.0, id="one too slow for twenty times says how far it is behind"),
        pytest.param(10.0, 0.0, 10.0, 0.0, id="less than the promise may be asked for"),
        pytest.param(0.0, 0.01, 100.0, 0.0, id="without a bound nothing is waited for"),
    ],
)
def test_the_pace(speed: float, step_s: float, measured: float, lag_s: float) -> None:
    watch = Watch()
    pace = Pace(speed, clock=watch)
    for _ in range(100):
        watch.now += step_s
        watch.now += pace.wait_s()
    assert pace.measured() == pytest.approx(measured, rel=0.05)
    assert pace.lag_s() == pytest.approx(lag_s, abs=0.06)


def test_after_a_pause_of_the_machine_the_simulation_does_not_run_away() -> None:
    watch = Watch()
    pace = Pace(60.0, clock=watch)
    pace.wait_s()
    watch.now += 30.0
    waits = [pace.wait_s() for _ in range(60)]
    assert waits.count(0.0) <= 20


def small(*faults: FaultRow) -> Scenario:
    return Scenario(nodes=4, lasting_s=200.0, job=(JobRow(name="tiny", nodes=2, step_s=4.0),), fault=faults)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Demo]:
    (tmp_path / "read").write_text("read-token")
    (tmp_path / "act").write_text("act-token")
    tokens = [Token(file=str(tmp_path / role), role=role) for role in ("read", "act")]
    crash = FaultRow(kind="process_crash", at_s=60.0, job="tiny")
    demo = Demo(small(crash), folder=tmp_path, tokens=tokens, speed=0.0, endless=False, clock=time.monotonic)
    with socket.create_server((HOST, 0)) as taken:
        await demo.open(taken.getsockname()[1])
        assert demo.port != taken.getsockname()[1]
    yield demo
    await demo.close()


async def test_a_taken_port_is_given_up_for_a_free_one_and_all_is_served_there(served: Demo) -> None:
    playing = asyncio.create_task(served.play())
    headers = {"Authorization": "Bearer read-token"}
    async with aiohttp.ClientSession(f"http://{HOST}:{served.port}", headers=headers) as client:
        about = await (await client.get("/api/v1/about")).json()
        nodes = await (await client.get("/api/v1/nodes")).json()
        page, figures = await client.get("/"), await client.get("/metrics")
        refused = await client.post("/api/v1/actions", json={"verb": "restart", "job": "tiny"})
    assert about["simulated"] is True
    assert {"now", "mode", "seed", "speed", "lag_s"} <= about.keys()
    assert len(nodes["nodes"]) <= 4
    assert (page.status, figures.status, refused.status) == (200, 200, 403)
    await playing
    assert served.simulation.over


async def test_the_screen_shows_jobs_nodes_and_incidents_and_takes_no_markup_from_them(served: Demo) -> None:
    out = io.StringIO()
    screen = Screen(Console(file=out, width=150, force_terminal=False))
    screen.begin(served, url="http://127.0.0.1:1/#token=t", act=Path("act"))
    await served.play()
    incident = next(iter(served.simulation.parts.board.incidents.values()))
    hostile = "[red]/etc[/red][/]"
    nobody = replace(incident.verdict, culprits=())
    served.simulation.parts.board.incidents["x"] = replace(incident, id="x", job=hostile, targets=(), verdict=nobody)
    screen.show()
    screen.end()
    told = out.getvalue()
    assert told.count("#token=t") == 1
    for words in ("SIMULATED", "all figures are simulated", "times real time", "nodes: 4 ready", "tiny"):
        assert words in told
    for words in ("rank", "restart", "resolved", hostile):
        assert words in told


def test_the_demo_that_comes_with_it_breaks_something_within_the_first_minutes() -> None:
    scenario = read("demo")
    assert scenario.nodes >= 64
    assert scenario.begin_s <= 150.0

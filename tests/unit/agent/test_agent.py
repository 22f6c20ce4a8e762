"""The whole agent as a process of its own: told to a service, killed, brought back, and refused where it cannot start."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ftagent.layout as layout
import pytest
from ftagent.cli import main
from ftagent.job import Job, _told
from ftagent.lines import PATTERN

from tests.unit.agent.running import Service, python, sh, until

STEPS = """
import ftagent, time, math
for n in range(400):
    ftagent.step(n, loss=float("nan") if n == 3 else 1.5)
    time.sleep(0.02)
"""


@pytest.fixture
def service() -> Iterator[Service]:
    one = Service()
    yield one
    one.close()


class Beside:
    """An agent in a process of its own beside its job."""

    def __init__(self, folder: Path, url: str) -> None:
        (folder / "token").write_text("t")
        self.folder = folder
        self.options = ["--dir", str(folder / "run"), "--url", url, "--token-file", str(folder / "token"), "--job", "j"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *command: str) -> None:
        words = [sys.executable, "-m", "ftagent", "run", *self.options, "--nproc", "1", "--", *command]
        with (self.folder / "said").open("ab") as said:
            self.process = subprocess.Popen(words, stdout=said, stderr=said)

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(10.0)


def records(service: Service, kind: str) -> list[dict[str, Any]]:
    return [row for _, body in list(service.heard) for row in body["records"] if row["type"] == kind]


def steps(service: Service) -> list[int]:
    return [step for row in records(service, "steps") for step in row["steps"]]


def test_an_agent_that_is_killed_is_followed_by_one_that_goes_on(tmp_path: Path, service: Service) -> None:
    beside = Beside(tmp_path, service.url)
    beside.start(*python(STEPS))
    until(lambda: len(steps(service)) > 5)
    beside.end(signal.SIGKILL)
    told = len(steps(service))
    beside.start()
    until(lambda: len(steps(service)) > told + 20)
    assert beside.end(signal.SIGTERM) == 0
    assert sorted(set(steps(service))) == list(range(max(steps(service)) + 1))
    assert len({body["boot"] for _, body in service.heard}) == 1
    numbers = [body["sequence"] for _, body in service.heard]
    assert numbers == sorted(numbers)
    [broken] = {
        tuple(values[row["signals"].index(name)] for name in ("loss", "loss_nan"))
        for row in records(service, "steps") if "loss_nan" in row["signals"]
        for step, values in zip(row["steps"], row["values"], strict=True) if step == 3
    }  # fmt: skip
    assert broken == (None, 1.0)
    kept = layout.read_dict(str(tmp_path / "run" / "attempts" / "0" / "keeper.json"))
    assert os.path.exists(f"/proc/{kept['pid']}")  # noqa: PTH110  # the job runs on without an agent
    assert main(["stop", "--dir", str(tmp_path / "run"), "--grace", "0"]) == 0
    until(lambda: not os.path.exists(f"/proc/{kept['pid']}"))  # noqa: PTH110


def test_a_service_that_has_forgotten_is_told_everything_anew(tmp_path: Path) -> None:
    service = Service((200, b'{"acknowledged": 1, "resync": true, "orders": []}'), None)
    beside = Beside(tmp_path, service.url)
    try:
        beside.start(*sh("exec sleep 600"))
        until(lambda: [row["state"] for row in records(service, "job")].count("started") == 2)
        beside.end(signal.SIGTERM)
    finally:
        main(["stop", "--dir", str(tmp_path / "run"), "--grace", "0"])
        service.close()


def test_two_agents_in_one_folder_are_one_too_many(tmp_path: Path, service: Service) -> None:
    beside = Beside(tmp_path, service.url)
    beside.start(*sh("exec sleep 600"))
    until(lambda: bool(records(service, "job")))
    assert main(["run", *beside.options, "--", "true"]) == 2
    beside.end(signal.SIGTERM)
    assert main(["stop", "--dir", str(tmp_path / "run"), "--grace", "0"]) == 0


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--dir", "{}"], id="no command and no job"),
        pytest.param(["--dir", "{}", "--url", "n3:80", "--", "true"], id="an address that is none"),
        pytest.param(["--dir", "{}", "--pattern", "(", "--", "true"], id="a pattern that is none"),
        pytest.param(["--dir", "/dev/null/x", "--", "true"], id="a folder that cannot be made"),
    ],
)
def test_what_the_operator_has_to_mend_ends_with_2(tmp_path: Path, words: list[str]) -> None:
    assert main(["run", *(word.format(tmp_path / "run") for word in words)]) == 2


def test_a_folder_without_a_job_has_none_to_stop(tmp_path: Path) -> None:
    assert main(["stop", "--dir", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("row", "name", "told"),
    [
        pytest.param({"loss": 1.5}, "loss", 1.5, id="a number"),
        pytest.param({}, "loss", None, id="not reported"),
        pytest.param({"loss": float("inf")}, "loss", None, id="infinity is none in JSON"),
        pytest.param({"loss": float("nan")}, "loss_nan", 1.0, id="but is told beside it"),
        pytest.param({"loss": 1.5}, "loss_nan", 0.0, id="and so is that it is a number"),
        pytest.param({"x_nan": 3.0}, "x_nan", 3.0, id="a name of the user's own that ends so"),
    ],
)
def test_values_as_json_can_say_them(row: dict[str, float], name: str, told: float | None) -> None:
    assert _told(row, name) == told


def test_steps_that_were_overwritten_before_they_were_read_are_counted(tmp_path: Path) -> None:
    from ftagent.reporter import Reporter

    paths = layout.Layout(str(tmp_path))
    layout.make_folder(paths.ranks(0))
    job = Job(paths, {}, PATTERN)
    job._open(0, {})
    reporter = Reporter(paths.ranks(0), 0, 1)
    for n in range(300):
        reporter.step(n)
    job.watcher._open_rings()
    told = [row for _, rows in job.take(1.0) for row in rows if row["type"] == "steps"]
    assert [len(row["steps"]) for row in told] == [255]
    assert (job.take_lost(), job.take_lost()) == (45, 0)


@pytest.mark.parametrize(
    ("script", "options", "status"),
    [
        pytest.param("exit 0", [], 0, id="a job that ends well"),
        pytest.param("exit 7", [], 7, id="an error of the job's own"),
        pytest.param("kill -9 $$", [], 137, id="a job that is killed"),
        pytest.param("exit 7", ["--own-status"], 0, id="the agent's own status, where that is asked for"),
    ],
)
def test_it_ends_with_the_jobs_status(tmp_path: Path, script: str, options: list[str], status: int) -> None:
    words = [sys.executable, "-m", "ftagent", "run", "--dir", str(tmp_path / "run"), *options, "--", *sh(script)]
    assert subprocess.run(words, capture_output=True, timeout=30).returncode == status

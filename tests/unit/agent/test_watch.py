"""Real processes under a real keeper: which are ranks, what state each is in, and how each ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import ftagent.layout as layout
import ftagent.processes as processes
import pytest
from ftagent.watch import end_tree

from tests.unit.agent.running import Watch, job, python, sh, until

EXAMPLES = str(Path(__file__).resolve().parents[3] / "examples")
SLEEPS = "exec sleep 600"


@pytest.mark.parametrize(
    ("script", "code", "killed_by"),
    [
        pytest.param("exit 0", 0, None, id="one that ends well"),
        pytest.param("exit 3", 3, None, id="one that ends with a status"),
        pytest.param("kill -9 $$", None, 9, id="one that is killed"),
        pytest.param("kill -6 $$", None, 6, id="one that aborts"),
        pytest.param("sleep 0.3; exit 4", 4, None, id="one that lives a while"),
    ],
)
def test_how_a_rank_ends_is_told_and_so_ends_the_job(
    tmp_path: Path, script: str, code: int | None, killed_by: int | None
) -> None:
    with job(tmp_path, sh(script), nproc=1) as watch:
        ended = watch.until("job", state="finished" if code == 0 else "failed")
        [rank] = watch.of("process", rank=0, state="exited")
    assert (ended["exit_code"], ended["signal"]) == (rank["exit_code"], rank["signal"]) == (code, killed_by)


def test_of_several_ranks_the_first_that_does_not_end_well_is_how_the_job_ends(tmp_path: Path) -> None:
    script = "test $RANK = 1 && exit 7; sleep 0.3; test $RANK = 2 && exit 9; exit 0"
    with job(tmp_path, sh(script), nproc=3) as watch:
        ended = watch.until("job", state="failed")
        codes = {row["rank"]: row["exit_code"] for row in watch.of("process", state="exited")}
    assert (ended["exit_code"], codes) == (7, {0: 0, 1: 7, 2: 9})


@pytest.mark.parametrize("nproc", [0, 2])
def test_a_command_that_cannot_start_ends_with_127_and_its_log_says_why(tmp_path: Path, nproc: int) -> None:
    with job(tmp_path, ["/no/such/command"], nproc) as watch:
        assert watch.until("job", state="failed")["exit_code"] == 127
        told = [line for row in watch.of("lines") for line in row["lines"]]
    assert len([line for line in told if "cannot start" in line and "/no/such/command" in line]) == max(nproc, 1)


def test_a_stopped_rank_is_told_and_told_again_when_it_goes_on(tmp_path: Path) -> None:
    with job(tmp_path, sh(SLEEPS), nproc=1) as watch:
        os.kill(watch.pid(), signal.SIGSTOP)
        assert watch.until("process", rank=0, state="stopped")["pid"] == watch.pid()
        os.kill(watch.pid(), signal.SIGCONT)
        until(lambda: watch.look().of("process", rank=0)[-1]["state"] == "running")


def test_a_rank_in_the_kernel_is_told_with_what_it_waits_in(tmp_path: Path) -> None:
    script = f"import sys; sys.path.insert(0, {EXAMPLES!r}); import faults; faults.sit_in_the_kernel()"
    with job(tmp_path, python(script), nproc=1) as watch:
        assert "wchan" in watch.until("process", rank=0, state="uninterruptible")
        assert end_tree(watch.job.watcher, 0.0) == []


def test_a_child_that_nobody_asks_after_is_told_with_its_status(tmp_path: Path) -> None:
    script = "import subprocess, time; child = subprocess.Popen(['sh', '-c', 'sleep 1.2; exit 5']); time.sleep(600)"
    with job(tmp_path, python(script), nproc=1) as watch:
        told = watch.until("process", rank=None, state="exited", exit_code=5)
        assert told["parent"] == watch.pid()


def test_a_stopped_tree_of_children_of_children_is_ended_whole(tmp_path: Path) -> None:
    with job(tmp_path, sh("(sleep 601 & sleep 602 & wait) & kill -STOP $$; wait"), nproc=1) as watch:
        until(lambda: len(watch.look().job.watcher.tree()) == 4)
        pids = [(one.pid, one.start_time) for one in watch.job.watcher.tree()]
        assert end_tree(watch.job.watcher, 5.0) == []
        assert not any(processes.alive(*one) for one in pids)
        assert watch.until("job", state="failed")["signal"] in (9, 15)


def test_who_does_not_hear_a_polite_word_is_killed(tmp_path: Path) -> None:
    with job(tmp_path, sh("trap '' TERM; while true; do sleep 0.1; done"), nproc=1) as watch:
        watch.pid()
        assert end_tree(watch.job.watcher, 0.3) == []
        assert watch.until("job", state="failed")["signal"] == 9


def test_an_orphan_still_belongs_to_the_job(tmp_path: Path) -> None:
    with job(tmp_path, sh("(sleep 604 &) ; exit 0")) as watch:
        watch.until("job", state="finished")
        until(lambda: [one.name for one in watch.job.watcher.tree()] == ["sleep"])


def test_helpers_that_inherit_a_ranks_number_are_not_the_rank(tmp_path: Path) -> None:
    with job(tmp_path, sh("sleep 605 & wait"), nproc=1) as watch:
        pid = watch.pid()
        until(lambda: len(watch.look().job.watcher.watched) >= 2)
        assert watch.pid() == pid == watch.job.watcher.keeper()["children"][0]["pid"]


def test_the_process_with_the_ring_is_the_rank_and_not_its_launcher(tmp_path: Path) -> None:
    script = "import ftagent, time; ftagent.step(1); time.sleep(600)"
    command = sh(f'RANK=0 {sys.executable} -c "{script}" & wait')
    with job(tmp_path, command, nproc=1) as watch:
        launcher = watch.pid()
        until(lambda: watch.pid() != launcher)
        until(lambda: bool(watch.look().of("steps", ranks=[0])))
        assert watch.of("beat")[-1]["ranks"][0]["step"] in (-1, 1)
        assert processes.stat(watch.pid()).parent == launcher


# --- the agent dies and another comes


def test_the_next_agent_adopts_the_job_and_tells_its_present_state(tmp_path: Path) -> None:
    with job(tmp_path, sh(SLEEPS), nproc=2) as watch:
        pids = {watch.pid(0), watch.pid(1)}
        again = Watch(tmp_path, [], 0)
        assert {again.pid(0), again.pid(1)} == pids
        assert {row["rank"] for row in again.of("process", state="running")} == {0, 1}
        assert [row["attempt"] for row in again.of("job", state="started")] == [0]


def test_how_a_rank_ended_while_no_agent_was_there_is_told_by_the_next(tmp_path: Path) -> None:
    with job(tmp_path, sh(SLEEPS), nproc=2) as watch:
        os.kill(watch.pid(1), signal.SIGKILL)
        note = tmp_path / "run" / "attempts" / "0" / f"exit-{watch.job.watcher.by_rank()[1].pid}.json"
        until(note.exists)
        again = Watch(tmp_path, [], 0)
        told = again.until("process", rank=1, state="exited")
        assert (told["signal"], told["since"]) == (9, layout.read_dict(str(note))["at"])
        again.look()
        assert len(again.of("process", rank=1)) == 1


def test_how_a_rank_ended_is_told_anew_by_the_next_agent_as_it_was_told_before(tmp_path: Path) -> None:
    with job(tmp_path, sh("test $RANK = 1 && exit 7; exec sleep 600"), nproc=2) as watch:
        told = watch.until("process", rank=1, state="exited")
        again = Watch(tmp_path, [], 0)
        again.pid(0)
        [anew] = [
            row
            for _, rows in again.job.take(1.0, anew=True)
            for row in rows
            if row["type"] == "process" and row["rank"] == 1
        ]
        assert {**anew, "at": 0.0} == {**told, "at": 0.0}


def test_a_job_that_was_stopped_is_so_for_the_next_agent_too(tmp_path: Path) -> None:
    with job(tmp_path, sh(SLEEPS), nproc=1) as watch:
        watch.pid()
        with watch.job.ending():
            assert end_tree(watch.job.watcher, 0.0) == []
            watch.job.has_stopped()
        watch.look()
        again = Watch(tmp_path, [], 0).look()
        assert [row["state"] for row in again.of("job")] == ["stopped"]
        assert again.job.is_over()


def test_an_agent_that_died_before_it_wrote_down_what_to_start_is_made_good(tmp_path: Path) -> None:
    (tmp_path / "run" / "attempts" / "0").mkdir(parents=True)
    with job(tmp_path, sh("exit 0")) as watch:
        assert watch.until("job", state="finished")["exit_code"] == 0


def test_a_job_outlives_its_keeper_and_its_end_is_seen(tmp_path: Path) -> None:
    with job(tmp_path, sh(SLEEPS), nproc=1) as watch:
        pid, keeper = watch.pid(), watch.job.watcher.keeper()
        os.kill(keeper["pid"], signal.SIGKILL)
        until(lambda: not processes.alive(keeper["pid"], keeper["start_time"]))
        assert pid in [one.pid for one in watch.job.watcher.tree()]
        assert watch.look().of("job", state="failed") == []
        assert end_tree(watch.job.watcher, 5.0) == []
        assert watch.until("job", state="failed")["exit_code"] is None


@pytest.mark.parametrize("moment", ["while it runs", "after it has ended"])
def test_of_two_keepers_of_one_attempt_the_second_gives_way(tmp_path: Path, moment: str) -> None:
    with job(tmp_path, sh(f"echo once >> runs; test '{moment}' = 'while it runs' && exec sleep 600")) as watch:
        if moment == "while it runs":
            until(lambda: watch.job.watcher.has_begun() and (tmp_path / "runs").exists())
        else:
            watch.until("job", state="failed")
        second = subprocess.run([sys.executable, "-m", "ftagent.keeper", watch.job.watcher.folder], timeout=10)
        assert second.returncode == 3
    assert (tmp_path / "runs").read_text() == "once\n"


def test_a_keeper_that_died_before_it_began_is_replaced(tmp_path: Path) -> None:
    with job(tmp_path, sh("exit 0")) as watch:
        watch.until("job", state="finished")
        folder = Path(watch.job.watcher.folder)
        for name in ("keeper.json", "ended.json"):
            (folder / name).unlink()  # only its lock is left
        subprocess.run([sys.executable, "-m", "ftagent.keeper", str(folder)], timeout=10, check=True)
        assert layout.read_dict(str(folder / "ended.json"))["exit_code"] == 0


def test_a_note_of_an_earlier_process_with_the_same_number_is_not_believed(tmp_path: Path) -> None:
    with job(tmp_path, sh(SLEEPS), nproc=1) as watch:
        pid, folder = watch.pid(), watch.job.watcher.folder
        layout.write_json(f"{folder}/exit-{pid}.json", {"exit_code": 55, "signal": None, "at": 1.0})
        one = watch.job.watcher.watched[pid]
        watch.job.watcher._is_over(one, 2.0, None)
        assert (one.state, one.exit_code) == ("gone", None)


def test_the_jobs_environment_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    with job(tmp_path, sh("exit 0")) as watch:
        watch.until("job", state="finished")
        spec = tmp_path / "run" / "attempts" / "0" / "spec.json"
        assert spec.stat().st_mode & 0o077 == 0

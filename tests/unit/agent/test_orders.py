"""The service's orders, carried out on real jobs: each once, and nonsense never."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ftagent.collect as collect
import ftagent.layout as layout
import ftagent.processes as processes
import pytest
from ftagent.orders import Orders

from tests.unit.agent.running import Record, Watch, job, python, sh, until

RUNS = "echo once >> runs; exec sleep 600"


@contextlib.contextmanager
def obeying(folder: Path, command: list[str], nproc: int = 1) -> Iterator[tuple[Watch, Any]]:
    """A job and the orders' thread of its agent."""
    with job(folder, command, nproc) as watch:
        orders = Orders(watch.job)
        orders.start()
        until(watch.job.watcher.has_begun)
        yield watch, orders


def order(id: str, verb: Any, **known: Any) -> Record:
    return {"id": id, "verb": verb, "job": "j", "targets": [], "arguments": {"grace_s": "0"}, **known}


def answered(watch: Watch, id: str) -> Record:
    return watch.until("outcome", order=id)


class Desk:
    """A job without processes, where orders that come to nothing can be told."""

    def __init__(self, folder: Path) -> None:
        self.layout = layout.Layout(str(folder))
        self.attempt = 0
        self.told: list[Record] = []

    def say(self, records: list[Record]) -> None:
        self.told.extend(records)

    def hear(self, *orders: Record, last: str = "last") -> list[Record]:
        """What is told of these orders and one more, which comes last."""
        thread = Orders(self)
        thread.start()
        thread.hear([*orders, order(last, "dance")])
        until(lambda: any(row["order"] == last for row in self.told))
        return self.told[:-1]


def test_a_restart_ends_the_processes_and_begins_the_next_attempt(tmp_path: Path) -> None:
    with obeying(tmp_path, sh(RUNS)) as (watch, orders):
        old = watch.pid()
        orders.hear([order("i1/restart/1", "restart")])
        outcome = answered(watch, "i1/restart/1")
        assert (outcome["done"], outcome["note"]) == (True, "attempt 1 runs")
        assert watch.pid() != old
        assert not processes.alive(old, processes.start_time(old))
        assert [row["attempt"] for row in watch.of("job", state="started")] == [0, 1]
        assert watch.of("job", state="failed") == []


def test_the_same_order_twice_acts_once_after_a_restart_of_the_agent_too(tmp_path: Path) -> None:
    with obeying(tmp_path, sh(RUNS)) as (watch, orders):
        again = order("i1/restart/1", "restart")
        orders.hear([again, again])
        answered(watch, "i1/restart/1")
        orders.hear([again])
        second = Watch(tmp_path, [])
        later = Orders(second.job)
        later.start()
        later.hear([again])
        answered(second, "i1/restart/1")
        until(lambda: (tmp_path / "runs").exists() and (tmp_path / "runs").read_text() == "once\nonce\n")
        assert second.job.attempt == 1


def test_an_order_that_was_under_way_when_the_agent_died_is_finished_by_the_next(tmp_path: Path) -> None:
    with obeying(tmp_path, sh(RUNS)) as (watch, _):
        watch.pid()
        layout.write_json(watch.job.layout.orders, {"i1/restart/1": {"attempt": 0}})
        second = Watch(tmp_path, [])
        later = Orders(second.job)
        later.start()
        later.hear([order("i1/restart/1", "restart")])
        assert answered(second, "i1/restart/1")["note"] == "attempt 1 runs"
        third = Watch(tmp_path, [])
        layout.write_json(third.job.layout.orders, {"i1/restart/1": {"attempt": 0}})  # done, but not said
        last = Orders(third.job)
        last.start()
        last.hear([order("i1/restart/1", "restart")])
        assert answered(third, "i1/restart/1")["note"] == "attempt 1 runs"
        assert third.job.attempt == 1


def test_a_stop_ends_the_job_for_good(tmp_path: Path) -> None:
    with obeying(tmp_path, sh("exec sleep 600"), nproc=2) as (watch, orders):
        orders.hear([order("i1/stop/1", "stop")])
        assert answered(watch, "i1/stop/1")["done"] is True
        watch.look()
        assert [row["state"] for row in watch.of("job")] == ["started", "stopped"]
        assert watch.job.is_over()
        assert watch.job.watcher.tree() == []


def test_an_order_in_the_moment_of_the_start_ends_what_is_only_being_started(tmp_path: Path) -> None:
    with job(tmp_path, sh("exec sleep 600"), nproc=8) as watch:
        orders = Orders(watch.job)
        orders.start()
        orders.hear([order("i1/stop/1", "stop")])
        assert answered(watch, "i1/stop/1")["done"] is True
        assert watch.job.watcher.has_begun()
        assert watch.job.watcher.tree() == []


def test_what_the_old_attempt_said_last_is_told_as_its_own(tmp_path: Path) -> None:
    script = (
        "import ftagent, time\nfor n in range(5): ftagent.step(n)\nprint('error: mine', flush=True)\ntime.sleep(600)"
    )
    with obeying(tmp_path, python(script)) as (watch, orders):
        log = tmp_path / "run" / "logs" / "attempt-0" / "rank0.log"
        until(lambda: log.exists() and b"mine" in log.read_bytes())
        watch.job.look(2e9)  # a scan finds the ring, and nothing is taken yet
        orders.hear([order("i1/restart/1", "restart")])
        until(lambda: watch.job.attempt == 1)
        answered(watch, "i1/restart/1")
    steps = [(attempt, row["steps"]) for attempt, row in watch.told if row["type"] == "steps"]
    lines = [(attempt, row["lines"]) for attempt, row in watch.told if row["type"] == "lines"]
    assert steps[0] == (0, [0, 1, 2, 3, 4])
    assert lines[0] == (0, ["error: mine"])


@pytest.mark.parametrize(
    "verb", ["replace", "reboot", "", None, 7, ["stop"], {"stop": 1}], ids=lambda verb: f"{verb!r}"
)
def test_what_the_agent_cannot_do_is_refused(tmp_path: Path, verb: Any) -> None:
    [outcome] = Desk(tmp_path).hear(order("i1/x/1", verb))
    assert (outcome["done"], outcome["refused"], outcome["note"]) == (False, True, "not something this agent can do")


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param({}, id="no id"),
        pytest.param({"id": 5}, id="an id that is a number"),
        pytest.param({"id": ""}, id="an empty id"),
        pytest.param({"id": ["i1"]}, id="an id that is a list"),
    ],
)
def test_what_is_no_order_is_left_alone(tmp_path: Path, nonsense: Record) -> None:
    assert Desk(tmp_path).hear(nonsense) == []


@pytest.mark.parametrize(
    "known",
    [
        pytest.param({"arguments": {"grace_s": "nan"}}, id="a grace that is no number"),
        pytest.param({"arguments": "all"}, id="arguments that are text"),
        pytest.param({"arguments": {"grace_s": None}}, id="a grace of nothing"),
        pytest.param({"targets": 5}, id="targets that are a number"),
    ],
)
def test_an_order_with_nonsense_in_it_is_carried_out_as_far_as_it_goes(tmp_path: Path, known: Record) -> None:
    with obeying(tmp_path, sh("exec sleep 600")) as (watch, orders):
        watch.pid()
        orders.hear([order("i1/stop/1", "stop", **known)])
        assert answered(watch, "i1/stop/1")["done"] is True


def test_an_order_that_fails_by_a_mistake_of_ours_leaves_the_thread_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr(collect, "collect", broken)
    with obeying(tmp_path, sh("exec sleep 600")) as (watch, orders):
        orders.hear([order("i1/collect/1", "collect"), order("i1/x/1", "dance")])
        assert "changed size" in answered(watch, "i1/collect/1")["note"]
        assert answered(watch, "i1/x/1")["refused"]


@pytest.mark.parametrize("kept", [b"[]", b"{", b'{"i1/x/1": 5}', b'{"i1/x/1": {"attempt": 0, "outcome": 3}}'])
def test_what_was_kept_of_orders_and_is_nonsense_is_as_if_it_were_not_there(tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "orders.json").write_bytes(kept)
    assert [row["refused"] for row in Desk(tmp_path).hear(order("i1/x/1", "dance"))] == [True]


def test_orders_without_end_are_heard_as_far_as_there_is_room_and_remembered_within_bounds(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for letter in "ik":
        desk.hear(*(order(f"{letter}{n}/x/1", "dance") for n in range(190)), last=f"{letter}/last")
    kept = list(layout.read_dict(desk.layout.orders))
    assert (len(kept), kept[-1]) == (200, "k/last")


# --- evidence


def collected(watch: Watch, orders: Any, **known: Any) -> dict[str, Record]:
    orders.hear([order("i1/collect/1", "collect", **known)])
    answered(watch, "i1/collect/1")
    rows = watch.of("dump", order="i1/collect/1")
    assert [row["complete"] for row in rows] == [False] * (len(rows) - 1) + [True]
    return {row["name"]: row for row in rows}


def test_evidence_is_collected_while_the_main_thread_is_blocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "py_spy", lambda: None)  # then the side thread tells the stacks
    script = (
        "import ftagent, threading\ndef waits_for_ever(): threading.Event().wait()\nftagent.step(3)\nwaits_for_ever()"
    )
    with obeying(tmp_path, python(script)) as (watch, orders):
        watch.until("steps")
        files = collected(watch, orders)
    about = json.loads(files["rank0.json"]["data"])
    assert (about["answered"], about["step"], about["groups"], about["world_size"]) == (True, 3, {}, 1)
    assert "in waits_for_ever" in files["stacks_rank0.txt"]["data"]
    assert files["fr_rank0"]["error"] == "no flight recorder in this process"
    [row] = json.loads(files["processes.json"]["data"])["processes"]
    assert (row["rank"], row["state"]) == (0, "S")
    kept = tmp_path / "run" / "collect" / "i1_collect_1"
    assert sorted(path.name for path in kept.iterdir()) == ["processes.json", "rank0.json", "stacks_rank0.txt"]


def test_a_stopped_rank_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "py_spy", lambda: None)
    script = "import ftagent, os, signal\nftagent.step(3)\nos.kill(os.getpid(), signal.SIGSTOP)"
    with obeying(tmp_path, python(script)) as (watch, orders):
        watch.until("process", rank=0, state="stopped")
        files = collected(watch, orders)
    about = json.loads(files["rank0.json"]["data"])
    assert about["answered"] is False
    assert about["answer_s"] < 1.0
    assert files["fr_rank0"]["error"] == "the side thread did not answer"


def test_a_rank_that_holds_the_interpreter_does_not_answer_and_costs_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "py_spy", lambda: None)
    monkeypatch.setattr(collect, "ASK_S", 0.3)
    script = "import ctypes, ftagent\nftagent.step(3)\nctypes.PyDLL(None).sleep(600)"
    with obeying(tmp_path, python(script)) as (watch, orders):
        watch.until("steps")
        files = collected(watch, orders, arguments={"what": "flight_recorder,stacks"})
    about = json.loads(files["rank0.json"]["data"])
    assert (about["answered"], "timed out" in about["error"]) == (False, True)
    assert files["stacks_rank0.json"]["error"] == "py-spy is not installed"


def test_only_the_ranks_that_are_named_are_asked(tmp_path: Path) -> None:
    with obeying(tmp_path, sh("exec sleep 600"), nproc=3) as (watch, orders):
        for rank in range(3):
            watch.pid(rank)
        files = collected(watch, orders, targets=["1", "x", "\u00b2"], arguments={"what": "processes"})
    assert sorted(files) == ["processes.json", "rank1.json"]
    assert len(json.loads(files["processes.json"]["data"])["processes"]) == 3


def test_a_rank_that_has_ended_is_listed_with_how_it_ended(tmp_path: Path) -> None:
    with obeying(tmp_path, sh("test $RANK = 1 && exit 7; exec sleep 600"), nproc=2) as (watch, orders):
        watch.until("process", rank=1, state="exited")
        files = collected(watch, orders, arguments={"what": "processes"})
    rows = {row["rank"]: row for row in json.loads(files["processes.json"]["data"])["processes"]}
    assert (rows[1]["state"], rows[1]["exit_code"], rows[0]["state"]) == ("X", 7, "S")


def test_evidence_too_large_to_be_sent_is_kept_and_said() -> None:
    small = collect._record("o", 3, "fr_rank3", b"\x80\x02", "", 1.0)
    large = collect._record("o", 3, "fr_rank3", b"x" * (13 << 20), "", 1.0)
    assert (base64.b64decode(small["data"]), small["error"]) == (b"\x80\x02", "")
    assert (large["data"], "too many to be sent" in large["error"]) == ("", True)


def test_only_the_last_collections_are_kept(tmp_path: Path) -> None:
    with job(tmp_path, sh("exec sleep 600"), 1) as watch:
        for n in range(12):
            collect.collect(watch.job.watcher, f"o{n}", set(), set(), str(tmp_path / "collect" / f"o{n}"))
        assert len(list((tmp_path / "collect").iterdir())) == 8
        assert (tmp_path / "collect" / "o11").exists()


def test_evidence_is_collected_while_processes_come_and_go(tmp_path: Path) -> None:
    script = "while true; do sleep 0.01 & sleep 0.01; done"
    with job(tmp_path, sh(script), 2) as watch:
        failed: list[BaseException] = []

        def gather() -> None:
            try:
                for n in range(6):
                    collect.collect(watch.job.watcher, f"o{n}", {"processes"}, set(), str(tmp_path / "c" / f"o{n}"))
            except RuntimeError as error:
                failed.append(error)

        thread = threading.Thread(target=gather)
        thread.start()
        while thread.is_alive():
            watch.job.watcher._scanned_at = 0.0  # look for new ones every time
            watch.look()
        assert failed == []

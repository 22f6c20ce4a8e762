"""What stands beside the dumps: stacks, RAS, the watchdog's lines, processes and devices of a simulated hang."""

import json
from types import SimpleNamespace

import pytest

from simulator.evidence.acts import Model
from simulator.evidence.groups import Layout
from simulator.evidence.job import scene_of
from simulator.evidence.program import programs
from simulator.evidence.scene import Muddle, Scene
from simulator.evidence.stall import Kind, Stall, places
from simulator.evidence.stand import Stand

LAYOUT = Layout(dp=4, tp=2, pp=2)
MODEL = Model(layers=1, micro_batches=3)
RANK = 2
LATE = 4e9


def stand_of(kind: Kind, *, saves: bool = False) -> Stand:
    found = places(programs(LAYOUT, MODEL, saves=saves)[0], kind)
    stalls = (Stall(RANK, kind, found[len(found) // 2]),)
    return Stand(Scene(layout=LAYOUT, model=MODEL, stalls=stalls, step=19 if saves else 30, seed=5))


@pytest.mark.parametrize(
    ("kind", "state", "answers", "in_stack"),
    [
        pytest.param(Kind.LOOP, "R", True, "pretrain_gpt.py", id="a loop runs, its side thread answers"),
        pytest.param(Kind.DATA, "S", True, "_next_data", id="a rank without data sleeps in its loader"),
        pytest.param(
            Kind.LOCK,
            "S",
            False,
            "+gil",
            id="the interpreter's lock silences the side thread, not who looks from outside",
        ),
        pytest.param(Kind.STOPPED, "T", False, "MainThread", id="a stopped process is seen without being stopped"),
        pytest.param(Kind.GONE, "X", False, "", id="of a process that is gone there is no stack"),
        pytest.param(Kind.DEVICE_IN, "R", True, "torch/", id="a host whose device is stuck waits as its peers do"),
    ],
)
def test_the_process(kind: Kind, state: str, answers: bool, in_stack: str) -> None:
    stand = stand_of(kind)
    assert (stand.process(RANK).state, stand.answers(RANK)) == (state, answers)
    text = stand.stack_text(RANK).decode()
    assert in_stack in text
    assert bool(text) == (kind is not Kind.GONE)
    assert bool(stand.recorder(RANK)) == answers
    about = json.loads(stand.about(RANK))
    assert (about["answered"], bool(about["groups"])) == (answers, answers)


def test_a_file_system_that_does_not_answer_keeps_one_rank_in_the_kernel() -> None:
    stand = stand_of(Kind.STORAGE, saves=True)
    assert [stand.process(rank).state for rank in range(LAYOUT.world)].count("D") == 1
    assert "checkpoint" in stand.stack_text(RANK).decode()
    assert stand.process(RANK).wait_channel


@pytest.mark.parametrize(
    ("kind", "lets"),
    [
        pytest.param(Kind.LOOP, True, id="a process that runs"),
        pytest.param(Kind.STOPPED, False, id="not one that is stopped already"),
        pytest.param(Kind.STORAGE, False, id="nor one in the kernel for good"),
    ],
)
def test_which_processes_let_themselves_be_stopped_to_be_looked_at(kind: Kind, lets: bool) -> None:
    stand = stand_of(kind, saves=kind is Kind.STORAGE)
    assert stand.stack(RANK)
    assert bool(stand.stack(RANK, attached=True)) == lets


def test_json_and_text_show_the_same_frames() -> None:
    stand = stand_of(Kind.LOOP)
    for rank in (0, RANK, 9):
        threads = json.loads(stand.stack(rank))
        text = stand.stack_text(rank).decode()
        assert all(
            f"{f['name']} ({f['short_filename']}:{f['line']})" in text for thread in threads for f in thread["frames"]
        )
        assert len(threads) >= 4
        assert {thread["pid"] for thread in threads} == {20_000 + rank}


def test_ras_counts_what_was_launched() -> None:
    stand = stand_of(Kind.LOOP)
    told = json.loads(stand.ras())
    pair = next(c for c in told["communicators"] if [r["pid"] for r in c["ranks"]] == [20_002, 20_003])
    mine, peer = (sum(r["collective_counts"].values()) for r in pair["ranks"])
    assert mine < peer
    assert told["communicators_count"] == len(told["communicators"])
    assert "MISMATCH" in stand.ras_text().decode()


@pytest.mark.parametrize(
    ("kind", "dead"),
    [
        pytest.param(Kind.STOPPED, False, id="a stopped process does not answer"),
        pytest.param(Kind.GONE, True, id="a gone one is dead"),
    ],
)
def test_ras_misses_processes(kind: Kind, dead: bool) -> None:
    stand = stand_of(kind)
    missing = [row for c in json.loads(stand.ras())["communicators"] for row in c["missing_ranks"]]
    assert {row["pid"] for row in missing} == {20_000 + RANK}
    assert {row["status"]["considered_dead"] for row in missing} == {dead}
    assert "INCOMPLETE" in stand.ras_text().decode()


def test_every_watchdog_but_the_guilty_ones_times_out() -> None:
    stand = stand_of(Kind.LOOP)
    caught = [
        r for r in range(LAYOUT.world) if any("Watchdog caught" in line for line in stand.watchdog_lines(r, LATE))
    ]
    assert caught == [rank for rank in range(LAYOUT.world) if rank != RANK]
    assert any("dump signal from another rank" in line for line in stand.watchdog_lines(RANK, LATE))
    assert stand.watchdog_lines(0, stand.course.stood_at + 1.0) == []


def test_a_watchdog_names_the_operation_that_the_recorder_has_pending() -> None:
    stand = stand_of(Kind.LOOP)
    entries = json.loads(stand.recorder_json(3))["entries"]
    first = next(entry for entry in entries if entry["state"] == "scheduled")
    line = next(line for line in stand.watchdog_lines(3, LATE) if "Watchdog caught" in line)
    assert f"SeqNum={first['collective_seq_id']}," in line
    assert "Timeout(ms)=600000" in line


@pytest.mark.parametrize(
    ("kind", "busy"),
    [
        pytest.param(Kind.LOOP, False, id="the stuck host's device is idle"),
        pytest.param(Kind.NETWORK, True, id="a device whose packets are lost spins like the others"),
    ],
)
def test_devices(kind: Kind, busy: bool) -> None:
    stand = stand_of(kind)
    loads = [stand.device_load(rank) for rank in range(LAYOUT.world)]
    assert (loads[RANK][0] == 1.0) == busy
    assert all(use == 1.0 and 0.15 < power < 0.3 for rank, (use, power) in enumerate(loads) if rank != RANK)


def test_the_list_of_devices_has_a_row_for_each() -> None:
    rows = stand_of(Kind.LOOP).query_gpu(0).decode().splitlines()
    assert len(rows) == 9
    assert [row.split(", ")[2] for row in rows[1:]] == ["0 %" if rank == RANK else "100 %" for rank in range(8)]


def machine(number: int) -> SimpleNamespace:
    devices = [SimpleNamespace(index=n, lost=False) for n in range(8)]
    return SimpleNamespace(id=f"node{number}", devices=devices, nics=[SimpleNamespace(up=True)] * 8, dead=False)


def job(kind: str | None, **about: object) -> SimpleNamespace:
    shape = SimpleNamespace(tp=8, pp=2, dp=2)
    stuck = SimpleNamespace(kind=kind, rank=9) if kind else None
    fields = {
        "name": "job",
        "shape": shape,
        "nodes": [machine(n) for n in range(4)],
        "ended": {},
        "step": 41,
        "stepped_at": 1e9,
    }
    return SimpleNamespace(**{**fields, "stuck": stuck, "pid": lambda rank: 20_000 + rank, **about})


@pytest.mark.parametrize(
    ("kind", "culprits"),
    [
        pytest.param("host", [9], id="a host"),
        pytest.param("device_before", [9], id="a device"),
        pytest.param("choreography", [], id="nobody, for the program itself is wrong"),
        pytest.param(None, [], id="nobody, where nothing is wrong"),
    ],
)
def test_a_job_that_stands_still_has_a_scene(kind: str | None, culprits: list[int]) -> None:
    stand = Stand(scene_of(job(kind), 1, 1e9 + 60.0))
    assert list(stand.truth.causes) == culprits
    assert stand.course.has_hung == (kind is not None)
    assert (stand.scene.muddle is not None and stand.scene.muddle[0] is Muddle.TORN) == (kind == "choreography")


def test_a_lost_device_holds_its_rank_up() -> None:
    nodes = [machine(n) for n in range(4)]
    nodes[1].devices[3].lost = True
    assert list(Stand(scene_of(job(None, nodes=nodes), 1, 2e9)).truth.causes) == [11]


def test_an_agent_brings_a_table_and_three_pieces_of_each_living_rank() -> None:
    pieces = list(stand_of(Kind.GONE).on_node(0))
    assert [name for _, name, _, _ in pieces][:2] == ["processes.json", "fr_rank0"]
    assert len(pieces) == 1 + 3 * 7

"""Who holds up whom: verdicts on dumps of jobs that were stopped at a known place."""

import json
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.tracehang.gather import Pile
from detectors.tracehang.judge import judge
from holdfast.faults import Action, Fault, Judgement
from holdfast.verdict import Verdict
from tests.unit.tracehang.fleet import Fleet, entry, mesh, program


def verdict_of(files: Mapping[str, bytes], *, world_size: int = 0) -> Verdict:
    pile = Pile()
    for name, data in files.items():
        pile.add(name, data)
    return judge(pile.case(world_size))


def blamed(verdict: Verdict) -> list[tuple[str, str]]:
    return [(culprit.id, culprit.cause) for culprit in verdict.culprits]


def dumps(fleet: Fleet, **how: Any) -> dict[str, bytes]:
    return {f"fr_rank{r}": fleet.dump(r, **how) for r in fleet.ranks}


def job(dp: int, tp: int, steps: int = 4, **faults: Any) -> Fleet:
    groups = mesh(dp, tp)
    return Fleet(groups, {r: program(r, groups, steps) for r in range(dp * tp)}, **faults)


@st.composite
def stopped_jobs(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """dp, tp, the rank that stops, how many operations it does first, how far hosts run ahead of their devices."""
    dp, tp = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    if dp * tp < 2:
        tp = 2
    rank = draw(st.integers(0, dp * tp - 1))
    count = len(program(rank, mesh(dp, tp), 4))
    return dp, tp, rank, draw(st.integers(0, count - 1)), draw(st.sampled_from([1, 1, 3, 20]))


@given(stopped_jobs())
def test_the_rank_whose_host_stopped_is_named_wherever_it_stopped(where: tuple[int, int, int, int, int]) -> None:
    dp, tp, rank, count, ahead = where
    fleet = job(dp, tp, ahead=ahead, host_stops={rank: count})
    assert blamed(verdict_of(dumps(fleet))) == [(str(rank), "host_stuck")]


@given(stopped_jobs())
def test_on_gloo_membership_comes_from_the_agent(where: tuple[int, int, int, int, int]) -> None:
    dp, tp, rank, count, _ = where
    fleet = job(dp, tp, host_stops={rank: count})
    files = dumps(fleet, gloo=True) | {f"rank{r}.json": fleet.about(r) for r in fleet.ranks}
    assert blamed(verdict_of(files)) == [(str(rank), "host_stuck")]


@given(stopped_jobs())
def test_the_rank_whose_device_stopped_is_named(where: tuple[int, int, int, int, int]) -> None:
    dp, tp, rank, count, _ = where
    fleet = job(dp, tp, ahead=20, device_stops={rank: count})
    verdict = verdict_of(dumps(fleet))
    assert blamed(verdict) == [(str(rank), "device_stuck")]
    assert (verdict.fault, verdict.action) == (Fault.GPU_HW, Action.REPLACE)


@given(stopped_jobs())
def test_a_dump_that_is_missing_is_no_dump_and_never_a_victim(where: tuple[int, int, int, int, int]) -> None:
    dp, tp, rank, count, _ = where
    fleet = job(dp, tp, host_stops={rank: count})
    files = dumps(fleet)
    del files[f"fr_rank{rank}"]
    verdict = verdict_of(files, world_size=dp * tp)
    assert blamed(verdict) == [(str(rank), "no_dump")]
    assert verdict.detail["ranks_without_dump"] == [rank]


@given(stopped_jobs(), st.integers(1, 6))
def test_a_ring_that_has_wrapped_names_the_same(where: tuple[int, int, int, int, int], last: int) -> None:
    dp, tp, rank, count, _ = where
    fleet = job(dp, tp, host_stops={rank: count})
    assert blamed(verdict_of(dumps(fleet, last=last))) == [(str(rank), "host_stuck")]


def test_only_active_operations_are_enough() -> None:
    fleet = job(2, 2, ahead=3, host_stops={3: 6})
    assert blamed(verdict_of(dumps(fleet, only_active=True))) == [("3", "host_stuck")]


def test_an_empty_dump_is_a_rank_that_entered_nothing() -> None:
    fleet = job(2, 2, host_stops={1: 0})
    verdict = verdict_of(dumps(fleet))
    assert blamed(verdict) == [("1", "host_stuck")]
    assert (verdict.detail["ranks_with_empty_dump"], verdict.detail["ranks_without_dump"]) == ([1], [])


def test_two_culprits_in_different_groups_are_both_named() -> None:
    fleet = job(2, 4, host_stops={1: 2, 6: 2})
    assert sorted(blamed(verdict_of(dumps(fleet)))) == [("1", "host_stuck"), ("6", "host_stuck")]


def test_a_victim_far_away_is_led_to_the_culprit() -> None:
    verdict = verdict_of(dumps(job(2, 4, host_stops={5: 4})))
    assert blamed(verdict) == [("5", "host_stuck")]
    stuck = verdict.detail["first_stuck"]
    assert isinstance(stuck, dict)
    assert (stuck["group"], stuck["op"]) == ("tp1", "nccl:all_reduce")
    assert verdict.detail["chain"]


def test_equal_dumps_are_undecided_and_say_what_is_missing() -> None:
    fleet = job(2, 2)
    for rank in fleet.ranks.values():  # all have entered the last one, no device has finished it
        rank.done -= 1
    verdict = verdict_of(dumps(fleet))
    assert (verdict.verdict, verdict.culprits) == (Judgement.UNDECIDED, ())
    assert verdict.detail["missing"]


def test_a_finished_job_is_healthy() -> None:
    assert verdict_of(dumps(job(2, 2))).verdict is Judgement.HEALTHY


def _world(entries: Mapping[int, list[dict[str, object]]]) -> dict[str, bytes]:
    config = {"0": {"name": "0", "desc": "default_pg", "ranks": str(sorted(entries))}}
    return {
        f"dump_{r}": pickle.dumps({"version": "2.9", "pg_config": config, "pg_status": {}, "entries": rows}, protocol=2)
        for r, rows in entries.items()
    }


def test_with_the_recorders_timing_the_device_that_has_not_begun_is_named() -> None:
    files = _world({r: [entry(0, "0", "0", "all_reduce", 1, done=False, started=r != 2)] for r in range(4)})
    assert blamed(verdict_of(files)) == [("2", "device_stuck")]


@pytest.mark.parametrize(
    ("odd", "names"),
    [
        pytest.param({"op": "all_gather", "size": 1024}, [("3", "mismatch")], id="another operation"),
        pytest.param({"op": "all_reduce", "size": 512}, [("3", "mismatch")], id="another size"),
    ],
)
def test_a_call_that_does_not_fit_is_named(odd: dict[str, Any], names: list[tuple[str, str]]) -> None:
    rows = {r: [entry(0, "0", "0", "all_reduce", 1, done=False)] for r in range(3)}
    rows[3] = [entry(0, "0", "0", odd["op"], 1, done=False, size=odd["size"])]
    verdict = verdict_of(_world(rows))
    assert (blamed(verdict), verdict.fault) == (names, Fault.USER_CODE)


def test_two_sides_of_equal_size_blame_nobody() -> None:
    rows = {r: [entry(0, "0", "0", "all_reduce" if r < 2 else "broadcast", 1, done=False)] for r in range(4)}
    assert verdict_of(_world(rows)).verdict is Judgement.NOBODY


@pytest.mark.parametrize("op", ["all_to_all", "gather", "scatter"])
def test_operations_whose_sizes_differ_by_rank_are_no_mismatch(op: str) -> None:
    rows = {r: [entry(0, "0", "0", op, 1, done=False, size=100 + r)] for r in range(4)}
    assert verdict_of(_world(rows)).verdict is Judgement.UNDECIDED


def test_an_early_finisher_of_a_broadcast_proves_nothing() -> None:
    rows = {r: [entry(0, "0", "0", "broadcast", 1, done=r == 0)] for r in range(4)}
    assert verdict_of(_world(rows)).culprits == ()


@pytest.mark.parametrize(
    ("op", "cause"),
    [
        pytest.param("send 0->1", "missing_recv", id="a send waits"),
        pytest.param("recv 0<-1", "missing_send", id="a receive waits"),
    ],
)
def test_a_transfer_without_its_other_side(op: str, cause: str) -> None:
    rows = {0: [entry(0, "0", "0", op, 1, done=False)], 1: [entry(0, "0", "0", "all_reduce", 1, done=True)]}
    assert blamed(verdict_of(_world(rows))) == [("1", cause)]


def test_the_parts_of_a_coalesced_launch_end_with_it() -> None:
    rows: dict[int, list[dict[str, object]]] = {}
    for r in range(2):
        send = entry(0, "0", "0", f"send {r}->{1 - r}", 1, done=False)
        whole = entry(1, "0", "0", "coalesced", 1, done=True) | {
            "is_p2p": True,
            "p2p_seq_id": 1,
            "collective_seq_id": -1,
        }
        rows[r] = [send, whole, entry(2, "0", "0", "all_reduce", 1, done=False)][: 3 - r]
    assert blamed(verdict_of(_world(rows))) == [("1", "host_stuck")]


def test_a_ring_of_waits_blames_the_rank_that_left_its_own_order() -> None:
    groups = {"world": (0, 1, 2, 3), "a": (0, 1), "b": (2, 3)}
    step = {r: [("a" if r < 2 else "b", "all_reduce"), ("world", "all_reduce")] for r in range(4)}
    programs = {r: step[r] * 5 for r in range(4)}
    programs[1] = step[1] * 4 + [("world", "all_reduce"), ("a", "all_reduce")]
    fleet = Fleet(groups, programs)
    verdict = verdict_of(dumps(fleet))
    assert blamed(verdict) == [("1", "host_stuck")]
    assert "skipped" in verdict.culprits[0].evidence[0]


def test_a_ring_of_waits_without_a_habit_is_choreography() -> None:
    groups: dict[str, tuple[int, ...]] = {"a": (0, 1), "b": (0, 1)}
    fleet = Fleet(
        groups, {0: [("a", "all_reduce"), ("b", "all_reduce")], 1: [("b", "all_reduce"), ("a", "all_reduce")]}
    )
    verdict = verdict_of(dumps(fleet))
    assert (verdict.verdict, verdict.culprits) == (Judgement.NOBODY, ())


def _stack(pid: int, *names: str, file: str = "torch/distributed/distributed_c10d.py") -> bytes:
    frames = [
        {"name": name, "filename": file if n == 0 else "train.py", "line": 10 + n} for n, name in enumerate(names)
    ]
    return json.dumps(
        [{"pid": pid, "thread_id": 1, "thread_name": "MainThread", "active": True, "owns_gil": False, "frames": frames}]
    ).encode()


def test_stacks_alone_name_the_rank_that_is_in_no_communication() -> None:
    files = {f"stacks_rank{r}.json": _stack(r, "all_reduce", "train") for r in range(3)}
    files["stacks_rank3.json"] = _stack(3, "_try_get_data", "train", file="torch/utils/data/dataloader.py")
    verdict = verdict_of(files)
    assert blamed(verdict) == [("3", "host_stuck")]
    assert "data_loading" in verdict.culprits[0].evidence[1]


def test_an_odd_place_among_many_waiting_stacks_is_a_mismatch() -> None:
    files = {f"stacks_rank{r}.json": _stack(r, "all_reduce", "train") for r in range(7)}
    files["stacks_rank7.json"] = _stack(7, "barrier", "save")
    assert blamed(verdict_of(files)) == [("7", "mismatch")]


def _processes(**states: tuple[str, int | None, int | None]) -> bytes:
    rows = [
        {
            "pid": 100 + int(name[1:]),
            "rank": int(name[1:]),
            "state": state,
            "signal": signal,
            "exit_code": code,
            "since": 5.0 + (signal != 9),
        }
        for name, (state, signal, code) in states.items()
    ]
    return json.dumps({"kind": "holdfast.processes", "version": 1, "processes": rows}).encode()


@pytest.mark.parametrize(
    ("table", "names"),
    [
        pytest.param(
            _processes(r0=("S", None, None), r1=("T", None, None)), [("1", "stopped")], id="a stopped process"
        ),
        pytest.param(
            _processes(r0=("X", 15, None), r1=("X", 9, None)),
            [("1", "exited")],
            id="the first to go, not who was told to",
        ),
        pytest.param(
            _processes(r0=("X", None, 1), r1=("X", 11, None)), [("1", "exited")], id="a crash, not its peer's error"
        ),
        pytest.param(_processes(r0=("X", None, 0), r1=("S", None, None)), [], id="a good end blames nobody"),
    ],
)
def test_the_kernels_word(table: bytes, names: list[tuple[str, str]]) -> None:
    assert blamed(verdict_of({"processes.json": table})) == names


def test_a_side_thread_that_does_not_answer_while_the_process_lives_is_evidence() -> None:
    fleet = job(2, 2, host_stops={2: 5})
    files = dumps(fleet, gloo=True) | {f"rank{r}.json": fleet.about(r, answered=r != 2) for r in fleet.ranks}
    files["fr_rank2"] = b""
    files["processes.json"] = _processes(r2=("D", None, None))
    verdict = verdict_of(files)
    assert (blamed(verdict), verdict.fault) == ([("2", "host_stuck")], Fault.STORAGE)
    assert any("does not answer" in text for text in verdict.culprits[0].evidence)


def test_a_rank_found_saving_is_named_with_less_confidence_and_its_phase() -> None:
    fleet = job(2, 2, host_stops={0: 5})
    files = dumps(fleet) | {"stacks_rank0.json": _stack(0, "write", "save_checkpoint", file="io.py")}
    verdict = verdict_of(files)
    assert (blamed(verdict), verdict.culprits[0].confidence, verdict.detail["phase"]) == (
        [("0", "host_stuck")],
        0.5,
        "checkpoint",
    )


def test_ras_counts_name_a_rank_that_launched_fewer() -> None:
    ranks = [
        {"rank": r, "host": f"n{r}", "pid": r, "collective_counts": {"AllReduce": 7 if r == 2 else 8}, "status": {}}
        for r in range(4)
    ]
    ras = {
        "nccl_version": "2.28",
        "communicators_count": 1,
        "communicators": [{"hash": "0xab", "size": 4, "ranks_count": 4, "ranks": ranks}],
    }
    assert blamed(verdict_of({"ras.json": json.dumps(ras).encode()})) == [("2", "host_stuck")]

"""Flight recorder dumps of a simulated job, read as anyone would read them."""

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.evidence.acts import Model
from simulator.evidence.groups import Layout
from simulator.evidence.program import programs
from simulator.evidence.scene import Backend, Recording, Scene
from simulator.evidence.stall import Kind, Stall, places
from simulator.evidence.stand import Stand

DENSE = Layout(dp=2, tp=2, pp=2), Model(layers=1, micro_batches=3)
JOINT = Layout(dp=2, tp=2, pp=2), Model(layers=1, micro_batches=3, batched_transfers=True)
EXPERTS = Layout(dp=4, tp=2, pp=2, ep=4), Model(layers=2, micro_batches=2, experts=16)
JOBS = st.sampled_from([DENSE, JOINT, EXPERTS])


def stand_of(
    job: tuple[Layout, Model], recording: Recording, *, step: int = 30, seed: int = 1, kind: Kind = Kind.LOOP
) -> Stand:
    layout, model = job
    found = places(programs(layout, model)[0], kind)
    stalls = (Stall(1, kind, found[len(found) // 2]),)
    return Stand(Scene(layout=layout, model=model, stalls=stalls, recording=recording, step=step, seed=seed))


def dump(stand: Stand, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = pickle.loads(stand.recorder(rank))
    return found


@settings(max_examples=12, deadline=None)
@given(JOBS, st.sampled_from([0, 1, 7, 100, 2000]), st.booleans(), st.booleans(), st.integers(0, 40))
def test_pickle_and_json_say_the_same(
    job: tuple[Layout, Model], ring: int, timing: bool, frames: bool, step: int
) -> None:
    recording = Recording(ring=ring, timing=timing, frames=frames)
    stand = stand_of(job, recording, step=step)
    one, other = dump(stand, 3), json.loads(stand.recorder_json(3))
    assert len(one["entries"]) <= ring
    for mine, its in zip(one["entries"], other.get("entries", []), strict=True):
        mine.pop("frames", None)
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in mine.items()}
        assert plain == {k: None if v == 0 and k.startswith("time_discovered") else v for k, v in its.items()}
    assert ("entries" in other) == bool(one["entries"])


@settings(max_examples=8, deadline=None)
@given(JOBS, st.integers(0, 60))
def test_numbers_go_on_from_step_to_step(job: tuple[Layout, Model], step: int) -> None:
    stand = stand_of(job, Recording(ring=5000), step=step)
    entries = dump(stand, 1)["entries"]
    ids = [entry["record_id"] for entry in entries]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    last: dict[tuple[str, bool], int] = {}
    for entry in entries:
        number = entry["p2p_seq_id" if entry["is_p2p"] else "collective_seq_id"]
        known = last.setdefault((entry["process_group"][0], entry["is_p2p"]), number)
        # the parts of one joint launch share a number
        assert number in (known, known + 1)
        last[entry["process_group"][0], entry["is_p2p"]] = number
    times = [entry["time_created_ns"] for entry in entries]
    assert times == sorted(times)


def test_a_ring_that_has_not_wrapped_begins_with_the_first_record() -> None:
    assert dump(stand_of(DENSE, Recording(ring=5000), step=2), 0)["entries"][0]["record_id"] == 0


@pytest.mark.parametrize(
    ("version", "present", "absent"),
    [
        pytest.param("2.4", {"nccl_version"}, {"thread_name", "comm_lib_version"}, id="an old dump knows no threads"),
        pytest.param("2.9", {"nccl_version", "thread_name"}, {"comm_lib_version"}, id="2.9 has threads"),
        pytest.param(
            "2.10", {"comm_lib_version", "thread_name"}, {"nccl_version"}, id="2.10 has another name for the library"
        ),
    ],
)
def test_versions(version: str, present: set[str], absent: set[str]) -> None:
    whole = dump(stand_of(DENSE, Recording(versions=(version,))), 0)
    names = {*whole, *whole["entries"][0]}
    assert present <= names
    assert not absent & names


def test_the_stuck_rank_lacks_what_its_peer_waits_in() -> None:
    stand = stand_of(DENSE, Recording())
    peer, stuck = dump(stand, 0), dump(stand, 1)
    waits = next(entry for entry in peer["entries"] if entry["state"] == "scheduled")
    group, number = waits["process_group"][0], waits["collective_seq_id"]
    assert max(e["collective_seq_id"] for e in stuck["entries"] if e["process_group"][0] == group) == number - 1
    status = stuck["pg_status"][str(waits["pg_id"])]
    assert status["last_enqueued_collective"] == status["last_completed_collective"] == number - 1


def test_only_active_leaves_out_what_has_ended() -> None:
    stand = stand_of(DENSE, Recording(only_active=True))
    assert {entry["state"] for entry in dump(stand, 0)["entries"]} == {"scheduled"}
    assert dump(stand, 1)["entries"] == []


def test_parts_of_a_joint_launch_never_end_in_the_record() -> None:
    entries = dump(stand_of(JOINT, Recording()), 0)["entries"]
    parts = [entry for entry in entries if entry["is_p2p"] and "coalesced" not in entry["profiling_name"]]
    assert parts
    assert {entry["state"] for entry in parts} == {"scheduled"}
    assert "completed" in {entry["state"] for entry in entries if "coalesced" in entry["profiling_name"]}


def test_gloo_fills_in_what_it_fills_in() -> None:
    whole = dump(stand_of(DENSE, Recording(backend=Backend.GLOO)), 0)
    assert {entry["state"] for entry in whole["entries"]} == {"scheduled"}
    assert {entry["retired"] for entry in whole["entries"]} == {True, False}
    assert not any(entry["is_p2p"] for entry in whole["entries"])
    assert whole["pg_config"] == {"": {"name": "", "desc": "", "ranks": "[]"}}


def test_what_experts_are_sent_adds_up() -> None:
    stand = stand_of(EXPERTS, Recording(ring=80), kind=Kind.DEVICE_BEFORE)
    sizes: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for rank in range(stand.scene.layout.world):
        for entry in dump(stand, rank)["entries"]:
            if entry["profiling_name"] == "nccl:all_to_all" and entry["state"] == "completed":
                key = entry["process_group"][0], entry["collective_seq_id"]
                sizes.setdefault(key, []).append((entry["input_sizes"][0][0], entry["output_sizes"][0][0]))
    complete = [pairs for pairs in sizes.values() if len(pairs) == 4]
    assert complete
    for pairs in complete:
        assert sum(put for put, _ in pairs) == sum(got for _, got in pairs)
    assert any(len(set(pairs)) > 1 for pairs in complete)


def test_the_same_scene_leaves_the_same_bytes() -> None:
    one, other = (stand_of(EXPERTS, Recording(ring=300)) for _ in range(2))
    assert [one.recorder(rank) for rank in range(16)] == [other.recorder(rank) for rank in range(16)]


def test_another_seed_changes_chance_alone() -> None:
    one, other = (dump(stand_of(DENSE, Recording(ring=100), seed=seed), 0) for seed in (1, 2))
    assert [e["profiling_name"] for e in one["entries"]] == [e["profiling_name"] for e in other["entries"]]
    assert one["entries"] != other["entries"]

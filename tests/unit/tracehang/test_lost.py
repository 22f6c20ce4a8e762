"""What is left of the evidence: dumps that are missing, cut short or old, files of others beside them, and who may be blamed then."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.tracehang.flightrecorder import rank_of_name
from detectors.tracehang.gather import Pile
from detectors.tracehang.judge import judge
from holdfast.faults import Judgement
from tests.unit.tracehang.test_judge import _stack, blamed, dumps, job, stopped_jobs, verdict_of


@given(stopped_jobs(), st.data())
def test_a_victim_without_a_dump_is_never_surely_to_blame(
    where: tuple[int, int, int, int, int], data: st.DataObject
) -> None:
    dp, tp, rank, count, ahead = where
    files = dumps(job(dp, tp, ahead=ahead, host_stops={rank: count}))
    lost = data.draw(st.integers(0, dp * tp - 1).filter(lambda r: r != rank))
    files[f"fr_rank{lost}"] = files[f"fr_rank{lost}"][:-20]
    assert [c for c in verdict_of(files).culprits if c.id != str(rank) and c.confidence > 0.6] == []


def test_of_a_dump_that_is_cut_short_nothing_follows_for_its_rank() -> None:
    fleet = job(2, 2)
    for rank in fleet.ranks.values():
        rank.done -= 1
    files = dumps(fleet)
    files["fr_rank2"] = files["fr_rank2"][:-20]
    verdict = verdict_of(files)
    assert (verdict.verdict, verdict.culprits) == (Judgement.UNDECIDED, ())
    assert "whole dumps of ranks 2" in str(verdict.detail["missing"])


def test_a_rank_without_a_dump_that_is_seen_to_wait_is_no_culprit() -> None:
    files = dumps(job(1, 4, host_stops={3: 5}))
    del files["fr_rank3"]
    files |= {f"stacks_rank{r}.json": _stack(r, "all_reduce", "train") for r in range(4)}
    assert verdict_of(files, world_size=4).verdict is Judgement.UNDECIDED


def test_the_ranks_of_one_node_alone_tell_what_they_can() -> None:
    files = dumps(job(4, 4, host_stops={1: 5}))
    half = {name: data for name, data in files.items() if rank_of_name(name) in range(8)}
    verdict = verdict_of(half)
    assert blamed(verdict) == [("1", "host_stuck")]
    assert verdict.detail["ranks_without_dump"] == list(range(8, 16))


def test_of_two_dumps_of_one_rank_the_newer_counts() -> None:
    old, new = dumps(job(2, 2, steps=2)), dumps(job(2, 2, steps=4, host_stops={3: 14}))
    pile = Pile()
    for name, data in [*new.items(), *((f"before/{name}", data) for name, data in old.items())]:
        pile.add(name, data)
    assert {skipped.file for skipped in pile.skipped} == {f"before/{name}" for name in old}
    assert blamed(judge(pile.case())) == [("3", "host_stuck")]


def test_a_dump_from_before_blames_nobody() -> None:
    old, new = dumps(job(2, 4, steps=2)), dumps(job(2, 4, steps=6, host_stops={3: 20}))
    verdict = verdict_of(new | {"fr_rank6": old["fr_rank6"]})
    assert blamed(verdict) == [("3", "host_stuck")]
    assert list(verdict.detail["outdated"]) == ["6"]  # type: ignore[arg-type]


def test_dumps_of_many_moments_decide_nothing() -> None:
    old, new = dumps(job(2, 2, steps=2)), dumps(job(2, 2, steps=6, host_stops={3: 20}))
    verdict = verdict_of(new | {name: old[name] for name in ("fr_rank0", "fr_rank1")})
    assert (verdict.verdict, verdict.culprits) == (Judgement.UNDECIDED, ())
    assert "one moment" in str(verdict.detail["missing"])


def test_a_file_whose_name_ends_in_a_number_is_no_rank() -> None:
    files = dumps(job(2, 2, host_stops={3: 5})) | {"job_4242.log": b"training began", "empty_900": b""}
    verdict = verdict_of(files)
    assert blamed(verdict) == [("3", "host_stuck")]
    assert verdict.detail["ranks_expected"] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        pytest.param("_dump_10", 10, id="a prefix and the rank"),
        pytest.param("nccl_trace_rank_12.json", 12, id="as JSON"),
        pytest.param("comm_lib_trace_rank_7.pkl.bin", 7, id="several endings"),
        pytest.param("n3/fr_rank5_attempt2.pickle", 5, id="the rank in the middle"),
        pytest.param("rank_3/stacks.txt", 3, id="in its folder"),
        pytest.param("dump-0007", 7, id="with zeros before it"),
        pytest.param("README", None, id="none at all"),
    ],
)
def test_the_rank_in_a_name(name: str, rank: int | None) -> None:
    assert rank_of_name(name) == rank


def _ras(*groups: dict[int, int]) -> bytes:
    rows = [
        {"hash": f"0x{n}", "size": len(counts), "ranks": [
            {"rank": place, "host": "n0", "pid": rank, "cuda_dev": rank, "collective_counts": {"AllReduce": count}, "status": {}}
            for place, (rank, count) in enumerate(counts.items())
        ]}
        for n, counts in enumerate(groups)
    ]  # fmt: skip
    return json.dumps({"nccl_version": "2.28", "communicators_count": len(rows), "communicators": rows}).encode()


def test_by_ras_a_rank_that_is_late_because_it_waits_elsewhere_is_no_culprit() -> None:
    world, pair = {0: 7, 1: 7, 2: 8, 3: 8}, {0: 5, 1: 4}
    assert blamed(verdict_of({"ras.json": _ras(world, pair)})) == [("1", "host_stuck")]


def _devices(*busy: int, power_w: dict[int, float] | None = None) -> bytes:
    rows = [f"{n}, {share} %, {(power_w or {}).get(n, 150.0 if share else 90.0):.2f} W" for n, share in enumerate(busy)]
    return "\n".join(["index, utilization.gpu [%], power.draw [W]", *rows]).encode()


@pytest.mark.parametrize(
    ("devices", "named"),
    [
        pytest.param(_devices(100, 100, 0, 100), [("2", "device_stuck")], id="one idles while the others spin"),
        pytest.param(_devices(100, 100, 100, 100), [], id="all spin alike"),
        pytest.param(_devices(0, 0, 0, 100), [], id="most idle: nothing follows"),
        pytest.param(_devices(100, 100, 100, 100, power_w={1: 95.0}), [("1", "device_stuck")], id="one spins at another power"),
    ],
)
def test_equal_dumps_and_the_devices_beside_them(devices: bytes, named: list[tuple[str, str]]) -> None:
    fleet = job(2, 2)
    for rank in fleet.ranks.values():
        rank.done -= 1
    table = {"kind": "holdfast.processes", "host": "n7", "processes": [{"pid": r, "rank": r, "state": "R"} for r in range(4)]}
    files = dumps(fleet) | {"processes.json": json.dumps(table).encode(), "nvidia-smi_n7.csv": devices}
    assert blamed(verdict_of(files)) == named


@given(st.binary(max_size=300))
def test_any_list_of_devices_ends_in_a_verdict(data: bytes) -> None:
    pile = Pile()
    pile.add("nvidia-smi_n7.csv", b"index, utilization.gpu [%]\n" + data)
    assert judge(pile.case()).culprits == ()

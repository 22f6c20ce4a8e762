"""What a recorder's records mean: ends that stand elsewhere, launches of several parts, rings that have wrapped."""

import json
import pickle
from typing import Any

import pytest

from detectors.tracehang.flightrecorder import Recording, read_dump
from detectors.tracehang.ring import TAIL
from tests.unit.tracehang.fleet import entry
from tests.unit.tracehang.test_judge import blamed, verdict_of


def read(rows: list[dict[str, Any]], **rest: Any) -> Recording:
    return read_dump(pickle.dumps({"version": "2.10", "pg_config": {}, "entries": rows, **rest}, protocol=2), 0)


def part(n: int, op: str, number: int, *, done: bool = False) -> dict[str, Any]:
    """A transfer of a coalesced launch, or the record that closes one."""
    row = entry(n, "pp", "1", op, number, done=done)
    return row | {"is_p2p": True, "p2p_seq_id": number, "collective_seq_id": 7}


LAUNCHES = [
    part(0, "send 0->1", 1), part(1, "recv 0<-1", 1), part(2, "coalesced", 1, done=True),
    part(3, "recv 0<-1", 2), part(4, "coalesced", 2, done=True),
    part(5, "send 0->1", 3), part(6, "recv 0<-1", 3), part(7, "coalesced", 3),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "waiting"),
    [
        pytest.param(LAUNCHES, [5, 6], id="parts end with the record that closes them"),
        pytest.param([r for r in LAUNCHES if r["state"] != "completed"], [5, 6], id="in a dump of what is active the close is left out"),
        pytest.param(LAUNCHES[:5], [], id="all have ended"),
        pytest.param(LAUNCHES[:7], [5, 6], id="a launch that is being put together"),
        pytest.param(
            [entry(n, "pp", "1", op, n + 1, done=False) for n, op in ((3, "recv 0<-1"), (9, "send 0->2"))], [3, 9],
            id="single transfers are no launch",
        ),
    ],
)  # fmt: skip
def test_what_is_under_way(rows: list[dict[str, Any]], waiting: list[int]) -> None:
    assert [op.order for op in read(rows).ring.fronts()] == waiting


def test_what_a_later_collective_has_overtaken_is_done() -> None:
    rows = [entry(n, "g", "0", "all_reduce", n + 1, done=n == 2) for n in range(4)]
    assert [op.seq for op in read(rows).ring if not op.done] == [4]


def test_gloo_runs_out_of_order() -> None:
    rows = [entry(n, "g", "0", "all_reduce", n + 1, done=n == 2, gloo=True) for n in range(4)]
    assert [op.seq for op in read(rows).ring if not op.done] == [1, 2, 4]


def test_of_a_long_ring_the_tail_and_all_that_waits_is_kept() -> None:
    rows = [entry(n, "g", "0", "all_reduce", n + 1, done=True) for n in range(TAIL + 200)]
    rows[0] |= {"profiling_name": "nccl:send 0->1", "state": "scheduled", "retired": False, "is_p2p": True}
    recording = read(rows)
    assert (len(recording.ring), recording.entries) == (TAIL + 1, TAIL + 200)
    assert next(iter(recording.ring)).p2p


@pytest.mark.parametrize(
    ("record", "at"),
    [
        pytest.param({"collective_seq_id": None, "seq_id": 4}, 4, id="a number under its old name"),
        pytest.param({"process_group": None}, 1, id="a group without a name has its number"),
        pytest.param({"record_id": 99, "time_discovered_completed_ns": 0}, 1, id="times of JSON are 0 where unknown"),
    ],
)
def test_records_of_other_versions(record: dict[str, Any], at: int) -> None:
    (op,) = read([entry(0, "g", "0", "all_reduce", 1, done=False) | record]).ring.fronts()
    assert (op.seq, op.done) == (at, False)


def test_json_says_the_same_as_a_pickle() -> None:
    rows = [entry(n, "g", "0", "all_reduce", n + 1, done=n < 2) for n in range(4)]
    whole = {"version": "2.10", "pg_config": {}, "pg_status": {"0": {"last_enqueued_collective": "4"}}, "entries": rows}
    assert list(read_dump(json.dumps(whole).encode(), 0).ring) == list(read(rows).ring)


def test_where_the_program_called_what_waits_is_kept() -> None:
    frames = [
        {"name": "all_reduce", "filename": "/x/torch/distributed/distributed_c10d.py", "line": 1},
        {"name": "step", "filename": "/job/train.py", "line": 12},
    ]
    (op,) = read([entry(0, "g", "0", "all_reduce", 1, done=False) | {"frames": frames}]).ring.fronts()
    assert op.frames == ("step (train.py:12)",)


def _pairs(odd: dict[str, Any], ranks: int) -> dict[str, bytes]:
    """Pairs of ranks, each a group of one kind, all in the same call but rank 1."""
    config = {f"g{n}": {"name": f"g{n}", "desc": "PAIR", "ranks": f"[{2 * n}, {2 * n + 1}]"} for n in range(ranks // 2)}
    found = {}
    for rank in range(ranks):
        group = f"g{rank // 2}"
        row = entry(0, group, "0", "all_reduce", 1, done=rank > 1) | (odd if rank == 1 else {}) | {"process_group": (group, "PAIR")}
        found[f"fr_rank{rank}"] = pickle.dumps({"version": "2.9", "pg_config": config, "pg_status": {}, "entries": [row]}, protocol=2)
    return found


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"input_sizes": [[512]], "output_sizes": [[512]]}, id="another size"),
        pytest.param({"input_dtypes": ["Half"], "output_dtypes": ["Half"]}, id="another type"),
        pytest.param({"profiling_name": "nccl:broadcast"}, id="another operation"),
    ],
)
def test_of_a_pair_the_odd_one_is_told_by_what_other_pairs_call(odd: dict[str, Any]) -> None:
    verdict = verdict_of(_pairs(odd, 8))
    assert blamed(verdict) == [("1", "mismatch")]
    assert verdict.culprits[0].confidence <= 0.8


def test_a_pair_alone_blames_nobody() -> None:
    assert blamed(verdict_of(_pairs({"profiling_name": "nccl:broadcast"}, 2))) == []

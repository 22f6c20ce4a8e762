"""Files that nobody vouches for: each ends in `skipped` with its reason, and nothing is executed."""

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.tracehang.gather import Pile
from detectors.tracehang.judge import judge
from detectors.tracehang.offline import Hang
from detectors.tracehang.unpickle import PickleError, plain
from holdfast.ports import Input
from tests.unit.tracehang.test_judge import blamed, dumps, job


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_names_a_global_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    (tmp_path / "fr_rank0").write_bytes(pickle.dumps({"entries": [], "pg_config": _Bomb(trap)}, protocol=2))
    verdict = Hang().diagnose([Input(name="fr_rank0", path=tmp_path / "fr_rank0")], {})
    assert not trap.exists()
    assert [s.file for s in verdict.skipped] == ["fr_rank0"]
    assert "refused, nothing was executed" in verdict.skipped[0].reason


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        pytest.param(b"", "empty file", id="an empty file"),
        pytest.param(b"\x80\x02}q\x00X\x07\x00\x00\x00entries", "not a whole pickle", id="a file cut short"),
        pytest.param(b"\x80\x02]q\x00.", "not a flight recorder dump", id="a pickle of something else"),
        pytest.param(
            b'{"pg_config": {}, "entries": [{"record_id": "x"}]}',
            "a field is not as it should be",
            id="a field of another type",
        ),
        pytest.param(b'{"pg_config": {}, "entries": ' + b"[" * 100_000, "recursion", id="endless nesting"),
        pytest.param(b"\x80\x02" + b"]q\x00" * 5 + b"0" * 9, "not a whole pickle", id="a broken stream"),
    ],
)
def test_one_broken_file_among_good_ones_is_told_and_the_rest_is_judged(broken: bytes, reason: str) -> None:
    files = dumps(job(2, 2, host_stops={3: 5}))
    files["fr_rank1"] = broken
    pile = Pile()
    for name, data in files.items():
        pile.add(name, data)
    assert [skipped.file for skipped in pile.skipped] == ["fr_rank1"]
    assert reason in pile.skipped[0].reason.lower()
    assert blamed(judge(pile.case()))[0] == ("3", "host_stuck")


def test_a_pickle_that_asks_for_all_memory_is_refused() -> None:
    with pytest.raises(PickleError):
        plain(b"\x80\x02" + b"B" + (2**31 - 1).to_bytes(4, "little") + b"x.")


def test_a_few_shared_tuples_that_stand_for_a_million_million_are_not_written_out() -> None:
    shared: object = 1
    for _ in range(40):
        shared = (shared, shared)
    rows = {
        "record_id": 0,
        "pg_id": shared,
        "process_group": [shared, shared],
        "profiling_name": shared,
        "input_sizes": shared,
        "state": shared,
    }
    pile = Pile()
    pile.add(
        "fr_rank0",
        pickle.dumps({"version": shared, "pg_config": {"0": {"ranks": shared}}, "entries": [rows]}, protocol=2),
    )
    assert judge(pile.case()).culprits == ()


@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"\x80\x02", b"[{", b"Thread 0x1 (", b"{", b"Process 1: "]),
    st.sampled_from(["fr_rank1", "stacks_rank1.json", "x"]),
)
def test_any_bytes_end_in_a_verdict(data: bytes, head: bytes, name: str) -> None:
    pile = Pile()
    pile.add(name, head + data)
    assert judge(pile.case()).culprits == ()


@given(st.data())
def test_a_dump_with_any_byte_changed_ends_in_a_verdict(data: st.DataObject) -> None:
    files = dumps(job(1, 2, steps=1, host_stops={0: 1}))
    raw = bytearray(files["fr_rank1"])
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    pile = Pile()
    pile.add("fr_rank0", files["fr_rank0"])
    pile.add("fr_rank1", bytes(raw))
    assert judge(pile.case()).verdict

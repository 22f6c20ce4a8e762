"""The agent's spool: bounded, its numbers used once, and every record it gives up counted."""

import json
import tempfile
from pathlib import Path
from typing import Any

import ftagent.layout as layout
import pytest
from ftagent.spool import VITAL, Spool
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

ENVELOPE = {"agent": "n0", "job": "j"}


def beat(n: int = 0) -> dict[str, Any]:
    return {"type": "beat", "at": float(n), "ranks": []}


def outcome(n: int = 0) -> dict[str, Any]:
    return {"type": "outcome", "at": float(n), "order": f"i{n}/restart/1"}


def batches(one: Spool) -> list[dict[str, Any]]:
    """Everything that waits, oldest first; the spool is empty after."""
    found = []
    while (batch := one.oldest()) is not None:
        found.append(json.loads(batch[1]))
        one.acknowledge(batch[0])
    return found


def test_a_batch_says_who_sends_it_and_holds_its_records(tmp_path: Path) -> None:
    one = Spool(str(tmp_path))
    one.put(ENVELOPE, [beat(1), beat(2)])
    [batch] = batches(one)
    assert batch == {**ENVELOPE, "boot": one.boot, "sequence": 1, "dropped": 0, "records": [beat(1), beat(2)]}


def test_what_says_how_something_ended_goes_first_and_apart(tmp_path: Path) -> None:
    one = Spool(str(tmp_path))
    one.put(ENVELOPE, [beat(), outcome()])
    assert [[r["type"] for r in batch["records"]] for batch in batches(one)] == [["outcome"], ["beat"]]


def test_nothing_to_say_makes_no_batch(tmp_path: Path) -> None:
    one = Spool(str(tmp_path))
    one.put(ENVELOPE, [])
    assert (len(one), one.oldest()) == (0, None)


@pytest.mark.parametrize("emptied", [False, True], ids=["while batches wait", "after all were acknowledged"])
def test_a_number_is_used_once_over_a_restart(tmp_path: Path, emptied: bool) -> None:
    one = Spool(str(tmp_path))
    one.put(ENVELOPE, [beat()])
    one.put(ENVELOPE, [beat()])
    if emptied:
        one.acknowledge(2)
    again = Spool(str(tmp_path))
    again.put(ENVELOPE, [beat()])
    assert again.boot == one.boot
    assert [b["sequence"] for b in batches(again)] == ([3] if emptied else [1, 2, 3])


@pytest.mark.parametrize("left", [b"", b"{", b"[]", b"\xff\xfe"], ids=["empty", "half", "of another kind", "no text"])
def test_a_mark_that_cannot_be_read_begins_a_new_boot_behind_the_batches_that_wait(tmp_path: Path, left: bytes) -> None:
    one = Spool(str(tmp_path))
    one.put(ENVELOPE, [beat()])
    (tmp_path / "mark.json").write_bytes(left)
    again = Spool(str(tmp_path))
    again.put(ENVELOPE, [beat()])
    found = batches(again)
    assert [b["sequence"] for b in found] == [1, 2]
    assert found[0]["boot"] == one.boot != found[1]["boot"]


def test_what_a_crash_left_behind_is_cleared_or_left_alone(tmp_path: Path) -> None:
    for name in ("9-b-1.batch.77.new", "x.batch", "7.batch", "8-b-\u00b2.batch", "5-q-1.batch"):
        (tmp_path / name).write_bytes(b"half")
    one = Spool(str(tmp_path))
    assert len(one) == 0
    assert not (tmp_path / "9-b-1.batch.77.new").exists()


def test_beats_are_given_up_before_what_says_how_something_ended(tmp_path: Path) -> None:
    one = Spool(str(tmp_path), most_bytes=1500)
    one.put(ENVELOPE, [outcome(0)])
    for n in range(40):
        one.put(ENVELOPE, [beat(n)])
    assert one.dropped > 0
    found = batches(one)
    assert found[0]["records"] == [outcome(0)]
    assert one.dropped + sum(len(b["records"]) for b in found) == 41


def test_of_vital_batches_the_oldest_go_first(tmp_path: Path) -> None:
    one = Spool(str(tmp_path), most_bytes=1500)
    for n in range(40):
        one.put(ENVELOPE, [outcome(n)])
    kept = [b["records"][0]["at"] for b in batches(one)]
    assert kept == list(range(40 - len(kept), 40))
    assert kept


def test_records_lost_elsewhere_are_told_with_the_next_batch_and_after_a_restart(tmp_path: Path) -> None:
    one = Spool(str(tmp_path))
    one.lose(7)
    one.put(ENVELOPE, [beat()])
    assert Spool(str(tmp_path)).dropped == 7
    assert batches(one)[0]["dropped"] == 7


def test_a_batch_refused_for_good_is_forgotten_alone_and_counted(tmp_path: Path) -> None:
    one = Spool(str(tmp_path))
    for n in range(3):
        one.put(ENVELOPE, [beat(n), beat(n)])
    one.refuse(2)
    one.refuse(2)  # again: it is no more
    assert one.dropped == Spool(str(tmp_path)).dropped == 2
    assert [b["sequence"] for b in batches(one)] == [1, 3]


def test_a_batch_that_vanished_is_counted(tmp_path: Path) -> None:
    one = Spool(str(tmp_path))
    one.put(ENVELOPE, [beat(), beat()])
    next(tmp_path.glob("*.batch")).unlink()
    assert one.oldest() is None
    assert (one.dropped, len(one)) == (2, 0)


def test_a_disk_that_takes_nothing_costs_records_but_not_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Spool(str(tmp_path))

    def full(path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layout, "write_bytes", full)
    one.put(ENVELOPE, [beat(), outcome()])
    monkeypatch.undo()
    one.put(ENVELOPE, [beat()])
    [batch] = batches(one)
    assert (batch["dropped"], batch["sequence"]) == (2, 3)


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([beat(n) for n in range(1200)], id="many records"),
        pytest.param([{"type": "dump", "at": 0.0, "data": "x" * 3_000_000} for _ in range(8)], id="large dumps"),
        pytest.param(
            [{"type": "lines", "at": 0.0, "lines": ["\x00" * 8192] * 60} for _ in range(8)],
            id="lines that grow sixfold as JSON",
        ),
    ],
)
def test_no_batch_is_larger_than_the_service_takes(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    one = Spool(str(tmp_path), most_bytes=1 << 30)
    one.put(ENVELOPE, records)
    sizes = [path.stat().st_size for path in tmp_path.glob("*.batch")]
    assert max(sizes) < 12 << 20
    found = batches(one)
    assert max(len(b["records"]) for b in found) <= 500
    assert [r for b in found for r in b["records"]] == records


def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    one = Spool(str(tmp_path / "spool"))
    one.put(ENVELOPE, [beat()])
    modes = {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "spool").iterdir()}
    assert set(modes.values()) == {0}


class AnyOrder(RuleBasedStateMachine):
    """A spool against a list of what was put in; the service takes, refuses, or is away; the agent dies and returns."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = tempfile.TemporaryDirectory()
        self.folder = Path(self.kept.name)
        self.spool = Spool(str(self.folder), most_bytes=2500)
        self.boots = {self.spool.boot}
        self.put_in = self.taken = 0
        self.seen: dict[int, bytes] = {}

    @rule(beats=st.integers(0, 3), outcomes=st.integers(0, 2))
    def put(self, beats: int, outcomes: int) -> None:
        self.spool.put(ENVELOPE, [beat()] * beats + [outcome()] * outcomes)
        self.put_in += beats + outcomes

    @precondition(lambda self: len(self.spool) > 0)
    @rule()
    def send(self) -> None:
        sequence, body = self.spool.oldest()
        assert self.seen.setdefault(sequence, body) == body, "a number was used for something else"
        self.taken += len(json.loads(body)["records"])
        self.spool.acknowledge(sequence)

    @precondition(lambda self: len(self.spool) > 0)
    @rule()
    def refused(self) -> None:
        sequence, body = self.spool.oldest()
        assert self.seen.setdefault(sequence, body) == body
        self.spool.refuse(sequence)

    @rule()
    def dies_and_returns(self) -> None:
        self.spool = Spool(str(self.folder), most_bytes=2500)
        self.boots.add(self.spool.boot)

    @invariant()
    def it_is_bounded_and_nothing_is_lost_without_being_counted(self) -> None:
        waiting = list(self.folder.glob("*.batch"))
        assert sum(path.stat().st_size for path in waiting) <= 2500
        held = sum(int(path.stem.split("-")[2]) for path in waiting)
        assert self.put_in == self.taken + held + self.spool.dropped
        assert len(self.boots) == 1

    def teardown(self) -> None:
        self.kept.cleanup()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_the_words_that_are_vital_are_those_of_the_protocol() -> None:
    assert sorted(VITAL) == ["dump", "job", "outcome", "process"]

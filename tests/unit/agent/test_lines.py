"""The job's log files as they grow: what is picked, under which number, and where reading goes on after a restart."""

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ftagent.lines import PATTERN, LogFile, records
from hypothesis import given, settings
from hypothesis import strategies as st

EVERYTHING = re.compile("")


def log(path: Path, mark: dict[str, Any] | None = None) -> Any:
    return LogFile(str(path), path.name, None, mark or {})


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("iteration 5 | loss 2.0", False, id="a step is not trouble"),
        pytest.param("RuntimeError: CUDA error: device-side assert triggered", True, id="a CUDA error is"),
        pytest.param("[rank3]:[E] ProcessGroupNCCL.cpp Watchdog caught collective operation timeout", True, id="NCCL"),
        pytest.param("slurmstepd: error: *** STEP 12.0 ON n1 CANCELLED ***", True, id="the scheduler's word"),
        pytest.param("OSError: [Errno 116] Stale file handle", True, id="a stale handle"),
        pytest.param("loss: NaN", True, id="a loss that is no number"),
        pytest.param("the banana loss", False, id="nan within a word is none"),
    ],
)
def test_words_of_trouble_are_picked(tmp_path: Path, line: str, told: bool) -> None:
    append(tmp_path / "a", line.encode() + b"\n")
    assert log(tmp_path / "a").read(PATTERN) == ([(1, line)] if told else [])


def test_a_traceback_is_taken_whole(tmp_path: Path) -> None:
    block = [
        "Traceback (most recent call last):",
        '  File "train.py", line 7, in <module>',
        "    step()",
        "ValueError: bad label",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "Traceback (most recent call last):",
        '  File "train.py", line 9, in step',
        "    raise Mine(label)",
        "train.Mine: the label",
    ]
    lines = ["step 1", *block, "step 2", "step 3"]
    append(tmp_path / "a", "\n".join(lines).encode() + b"\n")
    told = [text for _, text in log(tmp_path / "a").read(PATTERN)]
    assert told[: len(block)] == block
    assert "step 3" not in told


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    path = tmp_path / "a"
    one = log(path)
    append(path, b"Runtime")
    assert one.read(PATTERN) == []
    append(path, b"Error: x\nnext")
    assert one.read(PATTERN) == [(1, "RuntimeError: x")]


def test_what_cannot_be_read_as_text_is_marked_and_numbered_on(tmp_path: Path) -> None:
    append(tmp_path / "a", b"error \xff\xfe\nerror two\r\n")
    assert log(tmp_path / "a").read(PATTERN) == [(1, "error \ufffd\ufffd"), (2, "error two")]


@pytest.mark.parametrize("pieces", [1, 7], ids=["written at once", "written in pieces"])
def test_an_overlong_line_is_cut_and_counts_as_one(tmp_path: Path, pieces: int) -> None:
    path = tmp_path / "a"
    long = b"error " + b"x" * 70_000
    data = long + b"\nerror two\n"
    one = log(path)
    told = []
    for n in range(0, len(data), len(data) // pieces + 1):
        append(path, data[n : n + len(data) // pieces + 1])
        told += one.read(PATTERN)
    assert [(number, len(text)) for number, text in told] == [(1, 8192), (2, 9)]


def test_an_overlong_line_counts_as_one_for_the_next_agent_too(tmp_path: Path) -> None:
    path = tmp_path / "a"
    one = log(path)
    append(path, b"x" * 20_000)
    one.read(PATTERN)
    again = log(path, one.mark())
    append(path, b"x\nerror two\n")
    assert again.read(PATTERN) == [(2, "error two")]


@pytest.mark.parametrize("how", ["rotated", "truncated"])
def test_a_log_that_begins_anew_is_read_from_its_beginning(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a"
    append(path, b"error one\nerror two\n")
    one = log(path)
    one.read(PATTERN)
    if how == "rotated":
        path.rename(tmp_path / "a.1")
    else:
        path.write_bytes(b"")
    append(path, b"error new\n")
    assert one.read(PATTERN) == [(1, "error new")]


def test_a_log_that_is_gone_says_nothing(tmp_path: Path) -> None:
    one = log(tmp_path / "none")
    assert (one.read(PATTERN), one.read_to_end(PATTERN), one.last()) == ([], [], [])


def test_the_next_agent_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    path = tmp_path / "a"
    append(path, b"error one\nerror tw")
    one = log(path)
    assert one.read(PATTERN) == [(1, "error one")]
    append(path, b"o\n")
    assert log(path, one.mark()).read(PATTERN) == [(2, "error two")]


@pytest.mark.parametrize("mark", [{}, {"offset": None}, {"offset": 10_000_000, "line": 9, "inode": 1}])
def test_a_mark_of_another_file_is_not_believed(tmp_path: Path, mark: dict[str, Any]) -> None:
    append(tmp_path / "a", b"error one\n")
    assert log(tmp_path / "a", mark).read(PATTERN) == [(1, "error one")]


def test_the_last_lines_are_told_once_and_with_those_told_before(tmp_path: Path) -> None:
    path = tmp_path / "a"
    append(path, b"".join(b"line %d\n" % n for n in range(100)) + b"error\nbye\nno end of line")
    one = log(path)
    picked = one.read_to_end(PATTERN)
    last = one.last()
    assert picked == [(101, "error")]
    assert [number for number, _ in last] == [*range(54, 101), 102, 103]
    assert last[-1] == (103, "no end of line")
    assert one.last() == []


def test_at_the_end_of_a_job_a_long_backlog_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    append(path, b"nothing to see here\n" * 200_000 + b"error at the end\n")
    assert log(path).read_to_end(PATTERN) == [(200_001, "error at the end")]


def test_neighbours_are_one_record_and_runs_are_bounded(tmp_path: Path) -> None:
    found = [(1, "a"), (2, "b"), (9, "c"), *((n, "d") for n in range(10, 700))]
    rows = records(LogFile("x", "attempt-0/rank3.log", 3, {}), found, 5.0)
    assert [(row["first"], len(row["lines"])) for row in rows] == [(1, 2), (9, 500), (509, 191)]
    assert {(row["type"], row["file"], row["rank"], row["at"]) for row in rows} == {
        ("lines", "attempt-0/rank3.log", 3, 5.0)
    }


@given(st.binary(max_size=400), st.lists(st.integers(0, 60), max_size=12), st.integers(0, 12))
@settings(max_examples=80, deadline=None)
def test_however_it_is_written_and_whoever_reads_every_line_comes_once_under_its_number(
    data: bytes, cuts: list[int], dies_at: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.touch()
        one, told, at = log(path), [], 0
        for n, size in enumerate([*cuts, len(data)]):
            append(path, data[at : at + size])
            at += size
            if n == dies_at:
                one = log(path, one.mark())
            told += one.read(EVERYTHING)
        told += one.read_to_end(EVERYTHING)
    whole = data.split(b"\n")
    expected = whole if whole[-1] else whole[:-1]
    assert told == [(n, raw.rstrip(b"\r").decode("utf-8", "replace")) for n, raw in enumerate(expected, 1)]

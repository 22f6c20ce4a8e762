"""Log files: cut into lines whatever the pieces, followed through rotation and truncation."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.follow import Follower
from collectors.logfiles import MOST_LINE, Cutter, LogFiles
from holdfast.events import Lines, Samples


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        pytest.param([b"a\nb\n"], [["a", "b"]], id="whole lines"),
        pytest.param([b"a", b"b\nc", b"\n"], [[], ["ab"], ["c"]], id="a line in pieces is given once it has its end"),
        pytest.param([b"\n\n"], [["", ""]], id="empty lines count"),
        pytest.param([b"a\r\n"], [["a"]], id="a carriage return at the end is no text"),
        pytest.param([b"\xff\n"], [["\ufffd"]], id="bytes that are no text are replaced"),
        pytest.param([b"x" * MOST_LINE + b"y" * 9 + b"\nz\n"], [["x" * MOST_LINE, "z"]], id="a line that is too long is cut"),
    ],
)
def test_cutting(pieces: list[bytes], lines: list[list[str]]) -> None:
    cutter = Cutter()
    assert [cutter.feed(piece) for piece in pieces] == lines
    assert cutter.number == sum(map(len, lines))


@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=8))
def test_how_a_file_is_cut_into_pieces_changes_nothing(data: bytes, cuts: list[int]) -> None:
    whole, parts = Cutter(), Cutter()
    at = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = [line for a, b in pairwise(at) for line in parts.feed(data[a:b])]
    assert found == whole.feed(data)
    assert parts.end() == whole.end()


def test_logs_of_a_node_are_for_the_node_rules() -> None:
    given = [("/var/log/fabricmanager.log", b"line\n", "n3", "")]
    seen = list(LogFiles(of="node", node="n3", read=lambda now: given).poll(1.0))
    assert [one.source for one in seen if isinstance(one, Lines)] == ["journal:n3"]
    with pytest.raises(ValueError, match="whose logs"):
        LogFiles(of="node")


def test_an_endless_line_is_kept_in_bounded_memory_and_counted() -> None:
    cutter = Cutter()
    for _ in range(100):
        cutter.feed(b"x" * MOST_LINE)
    assert cutter.feed(b"\n") == ["x" * MOST_LINE]
    assert cutter.cut == 1


class Folder:
    """A folder of logs and the collector over it; each `poll` is a look through the patterns too."""

    def __init__(self, path: Path, *patterns: str, most_files: int = 16) -> None:
        self.path, self.now = path, 0.0
        self.collector = LogFiles(patterns=[f"{path}/{p}" for p in patterns], job="j", node="n", every_s=0.0, most_files=most_files)

    def poll(self) -> list[Lines | Samples]:
        self.now += 1.0
        return [seen for seen in self.collector.poll(self.now) if isinstance(seen, Lines | Samples)]

    def lines(self) -> list[tuple[str, int, tuple[str, ...]]]:
        """(file name, first line number, lines) of one poll."""
        return [(Path(seen.file).name, seen.first, seen.lines) for seen in self.poll() if isinstance(seen, Lines)]

    def states(self) -> dict[str, float]:
        """Source -> reading of one poll."""
        return {seen.source.rpartition("/")[2]: float(seen.values[0, 0]) for seen in self.poll() if isinstance(seen, Samples)}


def test_a_file_is_followed_and_its_lines_are_numbered(tmp_path: Path) -> None:
    log = tmp_path / "rank12.log"
    log.write_bytes(b"one\ntwo\nthr")
    folder = Folder(tmp_path, "*.log")
    (seen,) = [one for one in folder.poll() if isinstance(one, Lines)]
    assert (seen.first, seen.lines, seen.rank, seen.job, seen.node) == (1, ("one", "two"), 12, "j", "n")
    with log.open("ab") as file:
        file.write(b"ee\n")
    assert folder.lines() == [("rank12.log", 3, ("three",))]


def test_a_rotated_file_is_read_to_its_end_before_the_one_in_its_place(tmp_path: Path) -> None:
    log = tmp_path / "out.log"
    log.write_bytes(b"one\n")
    folder = Folder(tmp_path, "out.log")
    assert folder.lines() == [("out.log", 1, ("one",))]
    with log.open("ab") as file:
        file.write(b"two\nlast without end")
    log.rename(tmp_path / "out.log.1")
    log.write_bytes(b"new\n")
    assert folder.lines() == [("out.log", 2, ("two",))]
    assert folder.lines() == [("out.log", 3, ("last without end",))]
    assert folder.lines() == [("out.log", 1, ("new",))]


def test_a_truncated_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "out.log"
    log.write_bytes(b"one\ntwo\n")
    folder = Folder(tmp_path, "out.log")
    folder.poll()
    log.write_bytes(b"x\n")
    assert folder.lines() == []
    assert folder.lines() == [("out.log", 1, ("x",))]


def test_a_file_that_is_gone_gives_its_last_line_and_is_forgotten(tmp_path: Path) -> None:
    log = tmp_path / "out.log"
    log.write_bytes(b"one\nrest")
    folder = Folder(tmp_path, "out.log")
    folder.poll()
    log.unlink()
    assert folder.lines() == [("out.log", 2, ("rest",))]
    log.write_bytes(b"again\n")
    assert folder.lines() == [("out.log", 1, ("again",))]


def test_a_pattern_that_fits_nothing_is_a_source_that_is_down_until_something_fits(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "rank*.log")
    assert folder.states() == {"rank*.log": 0.0}
    assert folder.states() == {"rank*.log": 0.0}
    (tmp_path / "rank0.log").write_bytes(b"")
    assert folder.states() == {"rank*.log": 1.0, "rank0.log": 1.0}
    assert folder.states() == {}


def test_more_files_than_are_followed_are_counted_and_said(tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / f"rank{n}.log").write_bytes(b"x\n")
    folder = Folder(tmp_path, "*.log", most_files=2)
    seen = folder.poll()
    assert len([one for one in seen if isinstance(one, Lines)]) == 2
    assert [float(one.values[0, 0]) for one in seen if isinstance(one, Samples) and one.signals == ("source.files_left_out",)] == [3.0]


def test_folders_below_are_found_and_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "rank1.log").write_bytes(b"x\n")
    (tmp_path / "folder.log").mkdir()
    assert Folder(tmp_path, "**/*.log").lines() == [("rank1.log", 1, ("x",))]


def test_a_big_file_is_read_in_portions_and_nothing_is_lost(tmp_path: Path) -> None:
    log = tmp_path / "out.log"
    log.write_bytes(b"".join(b"%07d\n" % n for n in range(300_000)))
    follower = Follower([str(log)], every_s=0.0, most_files=4)
    pieces = [piece for now in range(4) for piece in follower.read(float(now))]
    assert b"".join(data for _, data, _, _ in pieces) == log.read_bytes()
    assert [begun for _, _, begun, _ in pieces] == [True, False, False]
    follower.close()


def test_a_pattern_that_names_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="patterns"):
        LogFiles(patterns=[""])

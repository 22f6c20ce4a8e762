"""Reading in processes of their own: the same answers, and no file takes more than its reader with it."""

import pickle

import pytest

from detectors.tracehang.pieces import Piece
from detectors.tracehang.readers import read_all
from tests.unit.tracehang.test_judge import dumps, job


def pieces(**extra: bytes) -> list[Piece]:
    files = dumps(job(2, 2, host_stops={3: 5})) | extra
    return [Piece(name=name, data=data) for name, data in files.items()]


def endless() -> bytes:
    """A few bytes for a key of pairs of pairs whose hash takes longer than anybody waits."""
    key: object = 1
    for _ in range(60):
        key = (key, key)
    return pickle.dumps([key], protocol=2)[:-2].replace(b"\x80\x02]q\x00", b"\x80\x02}q\x00") + b"K\x01s."


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_reading_elsewhere_says_the_same(processes: int) -> None:
    given = pieces(fr_rank1=b"")
    said = {piece.name: content for piece, content in read_all(given, processes=processes)}
    assert {name: content.problem for name, content in said.items()} == {
        "fr_rank0": "", "fr_rank1": "empty file", "fr_rank2": "", "fr_rank3": "",
    }  # fmt: skip
    recording = said["fr_rank2"].recording
    assert recording is not None
    assert [op.name for op in recording.ring][:2] == ["nccl:all_reduce", "nccl:_all_gather_base"]


def test_a_file_that_takes_for_ever_is_given_up_and_the_rest_is_read() -> None:
    given = pieces(fr_rank1=endless())
    problems = {piece.name: content.problem for piece, content in read_all(given, processes=1, limit_s=0.3)}
    assert [name for name, problem in problems.items() if problem] == ["fr_rank1"]
    assert "given up" in problems["fr_rank1"]
    assert len(problems) == 4

"""Files that are broken, hostile or merely odd: a reason with its place, nothing worse, and good files are read all the same."""

import gzip
import io
import tempfile
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.traceslow import trace
from detectors.traceslow.offline import Slow
from holdfast.faults import Judgement
from holdfast.ports import Input
from holdfast.verdict import Verdict
from tests.unit.traceslow.job import HEADER, Job

OPS = "step,rank,dp,pp,tp,op,start_s,duration_s"
GOOD = f"{OPS}\n0,0,0,0,0,forward-compute,0.0,1.0\n0,1,1,0,0,forward-compute,0.0,1.0\n"


def ask(folder: Path, **files: bytes) -> Verdict:
    inputs = []
    for name, data in files.items():
        (folder / name).write_bytes(data)
        inputs.append(Input(name=name, path=folder / name))
    return Slow().diagnose(inputs, {})


def packed_parquet(columns: dict[str, list[object]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "empty", id="an empty file"),
        pytest.param(OPS.encode(), "no rows", id="a header alone"),
        pytest.param(b"\x00\x01\x02", "not text", id="bytes"),
        pytest.param(b"step,rank,loss\n1,2,3\n", "lacks op, start_s, duration_s", id="another table"),
        pytest.param((GOOD + "0,2,2,0,0,forward-compute,0.0,fast\n").encode(), "line 4: duration_s is 'fast'", id="a word for a number"),
        pytest.param((GOOD + "0,2,2,0,0,forward-compute,0.0,-1\n").encode(), "line 4: duration_s is '-1", id="a negative duration"),
        pytest.param((GOOD + "0,2,2,0,0,forward-compute,0.0,inf\n").encode(), "line 4: duration_s is 'inf'", id="an infinite duration"),
        pytest.param((GOOD + "0,2,2,0,0,forward-compute,nan,1\n").encode(), "line 4: start_s is 'nan'", id="a start that is none"),
        pytest.param((GOOD + "0,2.5,2,0,0,forward-compute,0,1\n").encode(), "line 4: rank is '2.5', not a whole number", id="half a rank"),
        pytest.param((GOOD + "0,2,2,99999999,0,forward-compute,0,1\n").encode(), "line 4: pp is '99999999'", id="a stage past all jobs"),
        pytest.param((GOOD + "0,2,2,0,0,,0,1\n").encode(), "line 4: no op", id="an operation without a name"),
        pytest.param((GOOD + "0,1,1,0,0,forward-compute,0.0,2.0\n").encode(), "line 4: a second row for step 0, rank 1", id="a row twice"),
        pytest.param((GOOD + "1,1,0,0,0,forward-compute,0.0,1.0\n").encode(), "rank 1 has dp", id="a rank in two places"),
        pytest.param((GOOD + "\n0,2,2,0,0,forward-compute,0,1\n").encode(), "line 4: step is 'nan'", id="an empty line in the middle"),
        pytest.param((GOOD + "1,2,3,4,5,6,7,8,9,10,11\n").encode(), "line 4", id="a row that is too long"),
        pytest.param((OPS + "\n1,2,3,4,5,6,7,8,9\n").encode(), "line 2: more fields", id="rows that are all too long"),
        pytest.param(b"\xff" + GOOD.encode() + b"0,2,2,0,0,\xfe,0,1\n", "", id="no Unicode"),
        pytest.param(gzip.compress(GOOD.encode())[:-9], "gzip ends in the middle", id="a packed file that was cut off"),
        pytest.param(gzip.compress(GOOD.encode())[:-8] + b"rubbish!", "broken gzip", id="a packed file that is broken"),
        pytest.param(b"PAR1rubbish", "broken Parquet", id="a Parquet file that is broken"),
        pytest.param(packed_parquet({"step": [1], "rank": [1]}), "lacks op", id="a Parquet file without the columns"),
        pytest.param(
            packed_parquet({name: [[1]] if name == "step" else ["1"] for name in OPS.split(",")}), "step", id="lists in Parquet"
        ),
        pytest.param(b"step,rank,step_s\n1,0,1.0\n1,0,1.1\n", "line 3: a second row for step 1, rank 0", id="a step twice"),
        pytest.param(b"step,rank,step_s,data_s\n1,0,1.0,slow\n", "line 2: data_s is 'slow'", id="a phase that is no number"),
    ],
)
def test_a_bad_file_is_skipped_with_place_and_reason_and_the_good_one_read(tmp_path: Path, data: bytes, reason: str) -> None:
    said = ask(tmp_path, bad=data)
    assert [skipped.file for skipped in said.skipped] == ["bad"]
    assert reason in said.skipped[0].reason
    assert said.verdict is Judgement.UNDECIDED
    beside = ask(tmp_path, good=Job(steps=2).play().csv(), bad=data)
    assert [skipped.file for skipped in beside.skipped if skipped.file == "good"] == []
    assert beside.detail.get("steps", 0) == 2 or "rank 1 has dp" in reason


def test_a_packed_file_that_unpacks_to_too_much_is_refused_while_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MOST_BYTES", 4 << 20)
    said = ask(tmp_path, bomb=gzip.compress(GOOD.encode() + b"0" * (64 << 20)))
    assert said.skipped[0].reason == f"over {4 << 20} bytes of text"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_too_many_rows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(trace, "MOST_ROWS", 5)
    rows = [(0, rank, rank, 0, 0, "gc", 0.0, 1.0) for rank in range(9)]
    columns = {name: [row[n] for row in rows] for n, name in enumerate(OPS.split(","))}
    text = "\n".join([OPS, *(",".join(map(str, row)) for row in rows)])
    said = ask(tmp_path, big=text.encode() if kind == "csv" else packed_parquet(columns))  # type: ignore[arg-type]
    assert "rows" in said.skipped[0].reason


def test_steps_and_ranks_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    text = "\n".join([OPS, *(f"{n},{n},0,0,{n},gc,0,1" for n in range(4000))])
    assert "4000 steps of 4000 ranks" in ask(tmp_path, sparse=text.encode()).skipped[0].reason


def test_files_of_the_ranks_of_one_job_are_joined_and_a_copy_is_not(tmp_path: Path) -> None:
    job = Job(steps=3).play()
    whole = ask(tmp_path, whole=job.csv())
    rows, parts = job.rows, {}
    for half in (0, 1):
        job.rows = [row for row in rows if row[1] % 2 == half]
        parts[f"part{half}"] = job.csv()
    assert ask(tmp_path, **parts).detail == whole.detail
    again = ask(tmp_path, **parts, again=parts["part0"])
    assert again.detail == whole.detail
    assert [(one.file, "earlier file" in one.reason) for one in again.skipped] == [("again", True)]


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        pytest.param(GOOD.encode(), trace.OPERATIONS, id="operations"),
        pytest.param(b"\xef\xbb\xbf" + GOOD.encode(), trace.OPERATIONS, id="operations with a byte order mark"),
        pytest.param(gzip.compress(GOOD.encode()), trace.OPERATIONS, id="operations, packed"),
        pytest.param(b"PAR1", trace.OPERATIONS, id="Parquet"),
        pytest.param(b"rank,step,step_s\n", trace.STEPS, id="step times"),
        pytest.param(b"step:7/1530 train_loss:9.1\n", "", id="a training log"),
        pytest.param(b"step,loss\n", "", id="another table"),
        pytest.param(gzip.compress(b"kernel: hello"), "", id="a packed log"),
        pytest.param(b"\x1f\x8b\x00", "", id="broken gzip"),
        pytest.param(b"", "", id="nothing"),
    ],
)
def test_files_are_recognised_by_their_first_bytes(head: bytes, kind: str) -> None:
    assert Slow().recognise("file", head) == kind


NUMBER = st.one_of(st.integers(-2, 4).map(str), st.floats(-1, 3).map(str), st.sampled_from(["", "x", "1e300", "-inf", "9" * 20]))
OP = st.sampled_from(
    ["forward-compute", "backward-compute", "forward-send", "forward-recv", "backward-recv", "grads-reduce-scatter", "gc", ""]
)
SMALL = st.integers(0, 3).map(str)
TIME = st.sampled_from(["0", "0.1", "0.2", "0.5", "1", "1e9"])
ROW = st.tuples(SMALL, SMALL, SMALL, SMALL, SMALL, OP, TIME, TIME, SMALL, SMALL).map(",".join)
WILD = st.lists(NUMBER | OP, min_size=1, max_size=12).map(",".join)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, max_size=30), wild=st.lists(WILD, max_size=1))
def test_no_table_of_operations_breaks_it(rows: list[str], wild: list[str]) -> None:
    """Sends without receives, meetings in circles, ranks with one operation: a verdict or a reason, never an exception or a warning."""
    placed = [",".join([step, rank, rank, "0", "0", *rest]) for step, rank, _, _, _, *rest in (row.split(",") for row in rows)]
    for lines in (rows, placed, [*placed, *wild]):
        _survives("\n".join([",".join(HEADER), *lines]).encode())


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(SMALL, SMALL, TIME, TIME | st.just("")).map(",".join), max_size=30), wild=st.lists(WILD, max_size=1))
def test_no_step_table_breaks_it(rows: list[str], wild: list[str]) -> None:
    _survives("\n".join(["step,rank,step_s,data_s", *{row.rsplit(",", 2)[0]: row for row in rows}.values(), *wild]).encode())


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), head=st.sampled_from([b"", GOOD.encode(), b"PAR1", gzip.compress(GOOD.encode())]))
def test_no_bytes_break_it(data: bytes, head: bytes) -> None:
    _survives(head + data)


def _survives(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        said = ask(Path(folder), file=data)
    assert said.skipped or said.detail["cause"] or said.verdict is Judgement.UNDECIDED
    Slow().recognise("file", data[:65_536])

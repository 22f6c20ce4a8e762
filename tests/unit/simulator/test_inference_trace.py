"""Request traces as files: what is read, and what is refused with its place."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.inference.trace import Row, TraceError, read_trace

CSV = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
LINE = '{"timestamp": %s, "input_length": 900, "output_length": 20, "hash_ids": [0, 7]}\n'


def read(folder: Path, text: str | bytes) -> list[Row]:
    path = folder / "trace"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_trace(path)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        pytest.param(CSV + "2023-11-16 18:17:03.9799600,48,10\n", [Row(0.0, 48, 10, ())], id="a row with seven digits of a second"),
        pytest.param(
            CSV + "2023-11-16 00:00:01,1,2\n2023-11-16 00:00:03.5,3,4", [Row(0.0, 1, 2, ()), Row(2.5, 3, 4, ())],
            id="times count from the first, the last line may lack its end",
        ),
        pytest.param(
            CSV + "2024-05-10 02:00:00+02:00,1,2\n2024-05-10 00:00:00,3,4\n", [Row(0.0, 1, 2, ()), Row(0.0, 3, 4, ())],
            id="a zone is heeded, and without one it is UTC",
        ),
        pytest.param("GeneratedTokens,x,TIMESTAMP,ContextTokens\n9,?,2023-11-16,8\n", [Row(0.0, 8, 9, ())], id="columns in any order"),
        pytest.param(LINE % 3000 + "\n" + LINE % 1000, [Row(0.0, 900, 20, (0, 7)), Row(2.0, 900, 20, (0, 7))], id="JSON lines are sorted"),
        pytest.param('{"timestamp":0,"input_length":0,"output_length":0}', [Row(0.0, 1, 1, ())], id="no token is read as one"),
    ],
)  # fmt: skip
def test_a_trace(text: str, rows: list[Row], tmp_path: Path) -> None:
    assert read(tmp_path, text) == rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "neither JSON lines nor a CSV", id="an empty file"),
        pytest.param(CSV, "no request in it", id="a head alone"),
        pytest.param("a,b\n1,2\n", "line 1: neither JSON lines nor a CSV", id="other columns"),
        pytest.param(CSV + "2023-11-16,1,2\n2023-11-16,1\n", "line 3", id="a row that is cut off"),
        pytest.param(CSV + "soon,1,2\n", "line 2: Invalid isoformat", id="no moment"),
        pytest.param(CSV + "2023-11-16,-1,2\n", "line 2: -1 tokens", id="fewer tokens than none"),
        pytest.param(CSV + "2023-11-16,1e3,2\n", "line 2", id="tokens that are no whole number"),
        pytest.param(CSV + "2023-11-16,99999999999,2\n", "line 2: 99999999999 tokens", id="more tokens than there can be"),
        pytest.param(LINE % 1 + '{"timestamp": 1}\n', "line 2", id="JSON without lengths"),
        pytest.param(LINE % 1 + "{oops\n", "line 2", id="broken JSON"),
        pytest.param(LINE % -1, "line 1", id="a time before all time"),
        pytest.param(LINE % "NaN", "line 1", id="no number as a time"),
        pytest.param(b"TIMESTAMP,\xff\n", "utf-8", id="bytes that are no text"),
        pytest.param(CSV + "2" * (1 << 21), "line 2: longer than", id="a line without end"),
    ],
)  # fmt: skip
def test_no_trace(text: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=said) as caught:
        read(tmp_path, text)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="No such file"):
        read_trace(tmp_path / "none")


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda t: (CSV + t).encode("utf-8", "replace"))))
def test_whatever_is_read_is_a_trace_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    try:
        rows = read(tmp_path_factory.getbasetemp(), data)
    except TraceError:
        return
    assert rows
    assert all(row.prompt >= 1 and row.output >= 1 and row.at_s >= 0 for row in rows)

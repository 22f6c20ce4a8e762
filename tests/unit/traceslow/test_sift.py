"""Traces as they come from real jobs: rows missing and repeated, clocks apart, other units and names; the verdict stays."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from detectors.traceslow.offline import Slow
from holdfast.ports import Input
from holdfast.verdict import Verdict
from tests.unit.traceslow.job import HEADER, Job, Op, unchanged

Table = list[list[str]]


def slow(op: Op, seconds: float) -> float:
    """Rank 9 (data rank 1 of stage 2) computes half as long again."""
    return seconds * 1.5 if op.name.endswith("compute") and (op.dp, op.pp) == (1, 2) else seconds


def thin(op: Op, seconds: float) -> float:
    """The link between ranks 5 and 9 is slow."""
    ends = {(1, 1, "forward-send"), (1, 2, "backward-send")}
    return seconds * 40 if (op.dp, op.pp, op.name) in ends else seconds


def third(op: Op, seconds: float) -> float:
    """Data rank 3 computes half as long again."""
    return seconds * 1.5 if op.dp == 3 and op.name.endswith("compute") else seconds


def ask(folder: Path, table: Table) -> Verdict:
    path = folder / "trace.csv"
    path.write_text("\n".join(",".join(row) for row in table) + "\n", encoding="utf-8")
    return Slow().diagnose([Input(name="trace.csv", path=path)], {})


@cache
def written(change: Callable[[Op, float], float], **shape: int) -> Table:
    """The rows of a job as text, its header first; nobody alters them."""
    job = Job(change=change, **shape)  # type: ignore[arg-type]
    return [list(HEADER), *([str(value) for value in row] for row in job.play().rows)]


def chance() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(4))


def lost(table: Table) -> Table:
    kept = chance().random(len(table)) > 0.003
    return [row for row, keep in zip(table, kept, strict=True) if keep or row is table[0]]


def repeated(table: Table) -> Table:
    return [*table, *table[1:200]]


def broken(table: Table) -> Table:
    table = [list(row) for row in table]
    for n in range(50, len(table), 400):
        table[n][7] = "nan"
    return table


def skewed(table: Table) -> Table:
    offset = 0.03 * chance().normal(size=16)
    return [table[0], *([*row[:6], str(float(row[6]) + offset[int(row[1])]), *row[7:]] for row in table[1:])]


def cut(table: Table) -> Table:
    """The trace begins within its first step and ends within its last."""
    last = table[-1][0]
    return [row for row in table if not (row[0] == "0" and float(row[6]) < 0.4) and not (row[0] == last and float(row[6]) % 100.0 > 0.2)]


def in_microseconds(table: Table) -> Table:
    head = ["start_us" if name == "start_s" else "duration_us" if name == "duration_s" else name for name in table[0]]
    return [head, *([*row[:6], str(float(row[6]) * 1e6), str(float(row[7]) * 1e6), *row[8:]] for row in table[1:])]


def with_ends(table: Table) -> Table:
    head = ["end_s" if name == "duration_s" else name for name in table[0]]
    return [head, *([*row[:7], str(float(row[6]) + float(row[7])), *row[8:]] for row in table[1:])]


def other_names(table: Table) -> Table:
    names = {"forward-compute": "fwd", "backward-compute": "bwd", "forward-send": "send_forward", "forward-recv": "recv_forward",
             "backward-send": "send_backward", "backward-recv": "recv_backward"}  # fmt: skip
    return [[*row[:5], names.get(row[5], row[5]), *row[6:]] for row in table]


def more_columns(table: Table) -> Table:
    return [[*row, "host" if n == 0 else f"node{row[2]}"] for n, row in enumerate(table)]


@pytest.mark.parametrize(
    ("spoil", "left_out"),
    [
        pytest.param(lost, "", id="some rows are missing"),
        pytest.param(repeated, "199 rows that stand in it twice", id="some rows stand in it twice"),
        pytest.param(broken, "rows without a number", id="some rows have no duration"),
        pytest.param(skewed, "", id="the clocks of ranks are apart"),
        pytest.param(cut, "2 steps that have far fewer rows", id="it begins and ends within a step"),
        pytest.param(in_microseconds, "", id="times are in microseconds"),
        pytest.param(with_ends, "", id="ends are told in place of durations"),
        pytest.param(other_names, "", id="passes have others' names"),
        pytest.param(more_columns, "", id="there are columns that nobody knows"),
    ],
)
@pytest.mark.parametrize(
    ("change", "named"), [pytest.param(slow, ["9"], id="a slow worker"), pytest.param(thin, ["5-9"], id="a slow link")]
)
def test_the_verdict_stays(
    tmp_path: Path, change: Callable[[Op, float], float], named: list[str], spoil: Callable[[Table], Table], left_out: str
) -> None:
    said = ask(tmp_path, spoil(written(change, steps=8)))
    assert [culprit.id for culprit in said.culprits] == named
    assert left_out in str(said.detail.get("left_out", ""))
    assert said.skipped == ()


def test_a_trace_without_places_is_of_one_stage(tmp_path: Path) -> None:
    keep = [n for n, name in enumerate(HEADER) if name not in ("dp", "pp", "tp", "seq")]
    said = ask(tmp_path, [[row[n] for n in keep] for row in written(third, dp=8, pp=1, steps=6)])
    assert [culprit.id for culprit in said.culprits] == ["3"]


def test_only_some_ranks_in_the_trace_blame_no_link_for_their_partners_absence(tmp_path: Path) -> None:
    table = written(unchanged, dp=8, steps=6)
    said = ask(tmp_path, [table[0], *(row for row in table[1:] if row[3] in ("0", "2"))])
    assert said.culprits == ()

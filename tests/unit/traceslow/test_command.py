"""`holdfast diagnose slow` as a shell sees it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.cli.main import main
from tests.unit.traceslow.job import Job


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    job = Job(steps=4, change=lambda op, s: s * 1.5 if (op.dp, op.pp) == (1, 2) and op.name.endswith("compute") else s)
    (tmp_path / "trace.csv").write_bytes(job.play().csv())
    (tmp_path / "bad.csv").write_text("step,rank,loss\n1,2,3\n")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of `holdfast diagnose WORDS`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["holdfast", "diagnose", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def test_a_trace_is_judged_beside_a_bad_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, error = run(capsys, "slow", str(folder / "trace.csv"), str(folder / "bad.csv"), "--format", "json", "--exit-code")
    said = json.loads(out)
    assert (status, error, said["symptom"], said["culprits"][0]["id"]) == (1, "", "slow", "9")
    assert [one["file"] for one in said["skipped"]] == [str(folder / "bad.csv")]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        pytest.param(["bad.csv"], "bad.csv: no trace (it lacks op, start_s, duration_s)", id="a file that is no trace"),
        pytest.param(["trace.csv", "--threshold", "0.5"], "threshold is '0.5', not a number over 1", id="a threshold that is none"),
    ],
)
def test_what_cannot_be_used_ends_with_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], reason: str
) -> None:
    monkeypatch.chdir(folder)
    status, out, error = run(capsys, "slow", *words)
    assert (status, out, error.count("\n")) == (2, "", 1)
    assert error.startswith(f"holdfast: {reason}")


def test_a_folder_is_searched_for_traces(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, str(folder), "--format", "json")
    said = json.loads(out)
    assert (said["verdict"], said["detail"]["decided_by"]) == ("culprit", "slow")
    assert [(Path(one["file"]).name, one["kind"]) for one in said["detail"]["inputs"]] == [("trace.csv", "slow.operations")]


def test_the_diagnoser_is_known_without_the_libraries_it_reads_with() -> None:
    ask = "import sys, detectors.traceslow.offline as o; o.Slow().recognise('x', b'PAR1'); print({'pandas', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", ask], stdout=subprocess.PIPE, check=True).stdout == b"set()\n"

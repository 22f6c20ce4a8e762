"""`holdfast diagnose` as a shell sees it: statuses, one line on stderr, and answers a program can read."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.cli.main import main
from holdfast.faults import Symptom
from holdfast.offline import diagnose_all

TRACE = 'Traceback (most recent call last):\n  File "train.py", line 8, in main\n    step()\nValueError: bad sample\n'
XID = "[    2.000000] NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.\n"
DONE = "".join(f" iteration {n} | lm loss: 2.0E+00 |\n" for n in range(9)) + "[after training is done] datetime\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("rank3.log", TRACE), ("dmesg", XID), ("done.log", DONE)):
        (tmp_path / name).write_text(text)
    (tmp_path / "empty").mkdir()
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of `holdfast WORDS`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["holdfast", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


@pytest.mark.parametrize(
    ("words", "status"),
    [
        pytest.param(["job", "rank3.log"], 0, id="a fault is no failure of the command"),
        pytest.param(["job", "rank3.log", "--exit-code"], 1, id="unless that is asked for"),
        pytest.param(["job", "done.log", "--exit-code"], 0, id="nothing is wrong"),
        pytest.param(["logs", "dmesg", "--exit-code"], 1, id="a fault in a kernel log"),
        pytest.param(["logs", "done.log", "--exit-code"], 0, id="none in another"),
        pytest.param([".", "--exit-code"], 1, id="a folder is walked"),
        pytest.param(["rank3.log"], 0, id="a path is no command"),
        pytest.param(["empty", "--exit-code"], 0, id="a folder with nothing in it"),
    ],
)
def test_the_status(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], status: int
) -> None:
    monkeypatch.chdir(folder)
    assert run(capsys, "diagnose", *words)[0] == status


@pytest.mark.parametrize("command", [[], ["job"], ["hang"], ["logs"]])
def test_a_path_that_is_not_there_is_unusable_and_named_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    status, out, error = run(capsys, "diagnose", *command, str(folder / "gone"))
    assert (status, out) == (2, "")
    assert error == f"holdfast: {folder / 'gone'}: no such file or folder\n"


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    _, out, error = run(capsys, "diagnose", *words, "--format", "json")
    assert error == ""
    return json.loads(out)


def test_the_answer_is_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = answer(capsys, "job", str(folder / "rank3.log"))
    assert set(said) == {
        "verdict", "symptom", "fault", "culprits", "action", "evidence", "detail", "skipped",
    }  # fmt: skip
    assert (said["verdict"], said["fault"], said["detail"]["root"]["line"]) == ("nobody", "user_code", 4)


def test_evidence_of_every_kind_is_joined_and_the_device_explains_the_crash(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = answer(capsys, str(folder / "dmesg"), str(folder / "rank3.log"))
    assert (said["verdict"], said["culprits"][0]["id"], said["detail"]["decided_by"]) == (
        "culprit",
        "0000:3b:00",
        "logs",
    )
    assert {Path(one["file"]).name: one["kind"] for one in said["detail"]["inputs"]} == {
        "dmesg": "kernel_log",
        "rank3.log": "job.log",
    }


def test_a_file_of_no_kind_is_skipped_and_the_rest_judged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "weights").write_bytes(bytes(range(256)))
    said = answer(capsys, str(folder))
    assert said["verdict"] == "culprit"
    assert [Path(one["file"]).name for one in said["skipped"]] == ["weights"]


def test_findings_of_a_log_are_json_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(
        capsys, "diagnose", "logs", str(folder / "dmesg"), str(folder / "done.log"), "--format", "json", "--all"
    )
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["line"], row["check"]) for row in rows] == [(1, "xid.79"), *((n, None) for n in range(1, 11))]
    assert rows[0]["uptime_s"] == 2.0
    assert rows[0]["at"] is None


def test_a_run_of_steps_alone_is_read_for_how_it_ended_too(tmp_path: Path) -> None:
    steps = "".join(f"{{'loss': {3 - n / 5000}, 'grad_norm': 0.5, 'learning_rate': 1e-05, 'epoch': {n / 900}}}\n" for n in range(1, 900))
    (tmp_path / "out.log").write_text(steps * 2 + TRACE)
    verdict = diagnose_all([str(tmp_path)], {})
    assert (verdict.fault, verdict.detail["decided_by"]) == ("user_code", "job")


def test_a_jobs_output_is_read_for_how_it_learned_too(tmp_path: Path) -> None:
    line = (
        " iteration {0:8d}/     400 | consumed samples: {0:12d} | elapsed time per iteration (ms): 1000.0 | learning rate: 1.0E-04 | "
        "global batch size:  1024 |{1} loss scale: 1.0 | grad norm: {2} | number of skipped iterations:   0 | "
        "number of nan iterations: {3:3d} |"
    )
    good = [line.format(n, f" lm loss: {3.0 - 0.001 * n:.6E} |", "0.500", 0) for n in range(1, 200)]
    bad = [line.format(n, "", "nan", 1) for n in range(200, 260)]
    (tmp_path / "rank7.log").write_text("\n".join([*good, *bad]) + "\n")
    verdict = diagnose_all([str(tmp_path)], {})
    answers, events = verdict.detail["answers"], verdict.detail["events"]
    assert isinstance(answers, dict)
    assert set(answers) == {"job", "training"}
    assert isinstance(events, list)
    assert [(event["step"], event["kind"]) for event in events if isinstance(event, dict)] == [(200, "nan")]
    assert (verdict.symptom, verdict.detail["decided_by"]) == (Symptom.LOSS, "training")

"""The commands of a node as a shell sees them: statuses, lines, and one sentence where something cannot be used."""

import json
from pathlib import Path

import pytest

from tests.unit.cli.test_diagnose import run
from tests.unit.nodecheck.machine import machine, port
from tests.unit.nodecheck.test_metrics import dcgm


@pytest.mark.parametrize(
    ("words", "status"),
    [
        pytest.param(["node", "--root", "machine"], 0, id="what it found is no failure of the command"),
        pytest.param(["node", "--root", "machine", "--exit-code"], 1, id="but it may be"),
        pytest.param(["node", "--root", "gone"], 2, id="a folder that is not there"),
        pytest.param(["node", "--root", "empty"], 2, id="one that holds nothing of a node"),
        pytest.param(
            ["node", "--root", "machine", "--machines", "gone.toml"], 2, id="machine types that are not there"
        ),
        pytest.param(["metrics", "page.prom"], 0, id="a page"),
        pytest.param(["metrics", "page.prom", "--exit-code"], 1, id="a page that tells of a fault"),
        pytest.param(["metrics", "junk.prom"], 2, id="a page that is none"),
        pytest.param(["metrics", "junk.prom", "page.prom"], 0, id="a bad page among good ones"),
        pytest.param(["metrics", "page.prom", "--names", "junk.prom"], 2, id="names that are none"),
    ],
)
def test_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], status: int
) -> None:
    monkeypatch.chdir(tmp_path)
    machine(tmp_path / "machine")
    port(tmp_path / "machine", "mlx5_3", state="1: DOWN")
    (tmp_path / "empty").mkdir()
    (tmp_path / "page.prom").write_text(dcgm(FI_DEV_ROW_REMAP_FAILURE=1))
    (tmp_path / "junk.prom").write_text("<html>\n")
    ended, out, err = run(capsys, "diagnose", *words)
    assert ended == status
    if status == 2:
        assert (len(err.splitlines()), out) == (1, "")
    else:
        assert json.loads(out.splitlines()[0])["severity"] in ("fatal", "error")


def test_what_was_learned_is_a_file_that_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, file = machine(tmp_path / "machine"), tmp_path / "machines.toml"
    assert run(capsys, "node", "learn", "--root", str(root), "-o", str(file))[0] == 0
    assert run(capsys, "diagnose", "node", "--root", str(root), "--machines", str(file)) == (0, "", "")


def test_a_check_without_an_agent_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended, out, _ = run(capsys, "check", "--slurm", "--state", str(tmp_path / "gone"))
    assert ended == 1
    assert out.startswith("WARNING: nobody looks at this node")

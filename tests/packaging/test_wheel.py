"""The wheel in an environment of its own, outside of the checkout."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what is tracked or would be."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "build", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", ".benchmarks"
    )
    shutil.copytree(ROOT, source, ignore=ignored)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(source),
    ]
    subprocess.run(pip, check=True, timeout=120)
    return next(folder.glob("holdfast-*.whl"))


def test_every_data_file_is_in_it_and_no_test_is(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = ("holdfast", "collectors", "detectors", "remedier", "exporters", "dashboards", "simulator")
    data = {
        str(path.relative_to(ROOT)) for package in packages for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix in (".toml", ".csv", ".json", ".html", ".css", ".js", ".py")
    }  # fmt: skip
    assert sorted(data - names) == []
    assert [name for name in names if name.split("/")[0] in ("tests", "bench", "examples", "tools", "docs")] == []


def test_it_diagnoses_files_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=120)
    python = venv / "bin" / "python"
    own = next((venv / "lib").iterdir()) / "site-packages"
    zipfile.ZipFile(wheel).extractall(own)
    # its dependencies are those of this environment, the checkout is not among them
    (own / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    crash = shutil.copytree(ROOT / "examples" / "crash", tmp_path / "crash")
    words = [str(python), "-P", "-m", "holdfast", "diagnose", str(crash), "--format", "table"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "crash: device 0000:9b:00 (xid.79); fault gpu_hw; action replace" in done.stdout

"""Runs a real training job under `holdfast run` and reads what came of it."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
HOLDFAST = [sys.executable, "-m", "holdfast"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]


@dataclass(frozen=True)
class Ran:
    """A run that has ended. struck_at: when the fault struck, Unix seconds, 0.0 if none did."""

    status: int
    folder: Path
    report: dict[str, Any]
    struck_at: float
    said: str

    @property
    def incidents(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.report["incidents"]
        return found

    def to_verdict_s(self) -> float:
        """Seconds from the fault to the verdict of the first incident."""
        diagnosed: float = self.incidents[0]["diagnosed_at"]
        return diagnosed - self.struck_at

    def collected(self) -> Path:
        """The folder of the evidence that was collected first."""
        return min((self.folder / "run" / "job" / "collect").iterdir(), key=lambda path: path.stat().st_mtime)


def torch_job(folder: Path, *options: str) -> list[str]:
    """The command of the real torch job; its checkpoints in `folder`."""
    return [*TORCHRUN, str(EXAMPLES / "train_ddp.py"), "--checkpoint-dir", str(folder / "checkpoints"), *options]


def ring_job(folder: Path, *options: str) -> list[str]:
    """The command of one rank of the job that needs no torch; for `--nproc 4`."""
    return [sys.executable, str(EXAMPLES / "train_ring.py"), "--checkpoint-dir", str(folder / "checkpoints"), *options]


def run_job(folder: Path, command: list[str], *options: str, timeout_s: float = 180.0) -> Ran:
    """Run a job to its end under `holdfast run`."""
    report = folder / "report.json"
    where = ["--quiet", "--dir", str(folder / "run"), "--report", str(report)]
    words = [*HOLDFAST, "run", *where, *options, "--", *command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, cwd=folder)
    assert report.exists(), done.stderr
    marker = folder / "checkpoints" / "fault.done"
    struck_at = marker.stat().st_mtime if marker.exists() else 0.0
    return Ran(done.returncode, folder, json.loads(report.read_text()), struck_at, done.stderr)


def diagnose(*words: str) -> dict[str, Any]:
    """The verdict of `holdfast diagnose ...`."""
    done = subprocess.run([*HOLDFAST, "diagnose", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    verdict: dict[str, Any] = json.loads(done.stdout)
    return verdict

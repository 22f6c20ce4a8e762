"""`make demo-job`: four processes train, one of them hangs; who, why and what was done about it is shown at the end."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HOLDFAST = [sys.executable, "-m", "holdfast"]
HANGS = "2"


def main() -> int:
    """Run the job under Holdfast; 0 if the rank that hangs was named and the job finished."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
    report = folder / "report.json"
    job = [sys.executable, str(ROOT / "examples" / "train_ring.py"), "--checkpoint-dir", str(folder / "checkpoints")]
    breaks = ["--fault", "block", "--fault-rank", HANGS]
    print(f"Four processes train a small model. At step 20 rank {HANGS} stops answering; nobody tells Holdfast.\n", flush=True)
    run = [*HOLDFAST, "run", "--nproc", "4", "--dir", str(folder / "run"), "--report", str(report), "--"]
    status = subprocess.run([*run, *job, *breaks]).returncode
    incidents = json.loads(report.read_text(encoding="utf-8"))["incidents"] if report.exists() else []
    for incident in incidents:
        show(incident)
    print(f"\nThe same from the files alone:\n  .venv/bin/holdfast diagnose {folder / 'run' / 'job' / 'collect'}")
    named = [culprit["id"] for incident in incidents for culprit in incident["culprits"]]
    return status or (0 if named == [HANGS] else 1)


def show(incident: dict[str, Any]) -> None:
    """One incident: what, who, why, and when each thing happened."""
    print(f"\nincident {incident['id']}: {incident['symptom']}, {incident['state']}, action {incident['verb']}")
    for culprit in incident["culprits"]:
        print(f"  {culprit['kind']} {culprit['id']}: {culprit['cause']}, confidence {culprit['confidence']:.2f}")
        for line in culprit["evidence"]:
            print(f"    because {line}")
    times = [("diagnosed", "diagnosed_at"), ("repaired", "acted_at"), ("proved by new steps", "ended_at")]
    took = [f"{word} {incident[key] - incident['at']:.1f} s" for word, key in times if incident[key]]
    print(f"  after the claim: {', '.join(took)}")


if __name__ == "__main__":
    sys.exit(main())

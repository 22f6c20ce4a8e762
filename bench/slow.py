"""Seconds of CPU and memory from the operation trace of a job to the verdict.

python -m bench.slow [rows]
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from detectors.traceslow.offline import Slow
from holdfast.ports import Input

DP, PP, BATCHES = 16, 4, 16
SLOW_RANK, SLOWER = 21, 1.3


def write(path: Path, rows: int) -> int:
    """A job of independent pipelines without bubbles, all meeting in one reduction a step; one rank computes slowly."""
    ranks = DP * PP
    rng = np.random.Generator(np.random.Philox(7))
    steps = max(1, rows // (ranks * (2 * BATCHES + 1)))
    with path.open("w", encoding="utf-8") as out:
        out.write("step,rank,dp,pp,tp,op,start_s,duration_s,microbatch\n")
        for step in range(steps):
            takes = rng.normal(1.0, 0.01, (ranks, 2 * BATCHES)) * np.tile([0.02, 0.04], BATCHES)
            takes[SLOW_RANK] *= SLOWER
            ends = np.cumsum(takes, axis=1)
            for rank in range(ranks):
                place = f"{step},{rank},{rank % DP},{rank // DP},0"
                for n in range(2 * BATCHES):
                    name = "backward-compute" if n % 2 else "forward-compute"
                    out.write(f"{place},{name},{ends[rank, n] - takes[rank, n]:.6f},{takes[rank, n]:.6f},{n // 2}\n")
                end = float(ends[rank // DP * DP : rank // DP * DP + DP, -1].max()) + 0.01
                out.write(f"{place},grads-reduce-scatter,{ends[rank, -1]:.6f},{end - ends[rank, -1]:.6f},-1\n")
    return steps * ranks * (2 * BATCHES + 1)


def main() -> None:
    """Print how long a first answer, with all imports, and a second one took."""
    asked = int(sys.argv[1]) if len(sys.argv) > 1 else 120_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.csv"
        rows, size = write(path, asked), path.stat().st_size
        took = []
        for _ in range(2):
            begun = time.process_time()
            verdict = Slow().diagnose([Input(name=path.name, path=path)], {})
            took.append(time.process_time() - begun)
    named = [culprit.id for culprit in verdict.culprits]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cost = f"{took[0]:.2f} s of CPU with imports, {took[1]:.2f} s without; peak {peak:.0f} MB"
    print(f"{rows} operations, {size / 1e6:.0f} MB of CSV: {cost}")
    print(f"named: rank {', '.join(named)} (right: {named == [str(SLOW_RANK)]}); slowdown {verdict.detail['slowdown']}")


if __name__ == "__main__":
    main()

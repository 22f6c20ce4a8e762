"""What a training script pays for `ftagent.step` and `ftagent.phase`: microseconds a call, at the median.

python -m bench.agent_calls
"""

import importlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

CALLS, ROUNDS = 2000, 50


def main() -> None:
    """Print the medians over rounds of calls, with a ring that nobody but the side thread reads."""
    folder = Path(tempfile.mkdtemp()) / "ranks"
    folder.mkdir()
    os.environ.update(FTAGENT_DIR=str(folder), RANK="0", WORLD_SIZE="1")
    ftagent: Any = importlib.import_module("ftagent")  # it reads the environment when it is imported

    ftagent.step(0, loss=1.0, tokens=1)
    steps, phases = [], []
    for _ in range(ROUNDS):
        begun = time.perf_counter_ns()
        for n in range(CALLS):
            ftagent.step(n, loss=1.25, tokens=4096)
        steps.append((time.perf_counter_ns() - begun) / CALLS / 1e3)
        begun = time.perf_counter_ns()
        for _ in range(CALLS):
            with ftagent.phase("forward"):
                pass
        phases.append((time.perf_counter_ns() - begun) / CALLS / 1e3)
    print(f"ring in place: {any(folder.iterdir())}")
    print(f"ftagent.step(n, loss=..., tokens=...): {statistics.median(steps):.2f} us a call")
    print(f'with ftagent.phase("forward"): {statistics.median(phases):.2f} us')


if __name__ == "__main__":
    main()

"""The serving reference of the simulator beside the published figures, with the deviation in percent.

python -m bench.serving_reference [seeds]
"""

import sys
import time

from simulator.inference.reference import PUBLISHED, measured


def main() -> None:
    """Print every figure of every seed; exit status 1 where one is further off than it may be."""
    seeds = range(1, 1 + (int(sys.argv[1]) if len(sys.argv) > 1 else 3))
    begun = time.process_time()
    runs = [measured(seed=seed) for seed in seeds]
    print(f"simulated: 10,000 requests, 25/s, at most 2,000 under way, {len(runs)} seeds")
    print(f"{'':18}{'published':>12}" + "".join(f"{f'seed {seed}':>20}" for seed in seeds) + f"{'may be off':>12}")
    wrong = 0
    for figure in PUBLISHED:
        cells = ""
        for run in runs:
            off = run[figure.name] / figure.value - 1.0
            wrong += abs(off) > figure.within
            cells += f"{run[figure.name]:>12,.1f}{100 * off:>+7.1f}%"
        label = f"{figure.name} {figure.unit and f'[{figure.unit}]'}"
        print(f"{label:18}{figure.value:>12,.1f}{cells}{100 * figure.within:>11.0f}%")
    print(f"{wrong} figures outside; {(time.process_time() - begun) / len(runs):.1f} s of CPU a seed")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

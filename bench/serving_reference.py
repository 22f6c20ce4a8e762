"""The serving reference of the simulator beside the published figures, and what a service in closed form costs.

python -m bench.serving_reference [seeds] [fixed|poisson]
"""

import sys
import time

import msgspec

from simulator.cluster import Cluster
from simulator.inference.reference import PUBLISHED, SPEC, measured
from simulator.serving import Service

ENGINES = 1000
DAY_S = 86_400


def reference(seeds: range, kind: str) -> int:
    """Print every figure of every seed beside the published one; returns how many are further off than they may be."""
    spec = msgspec.structs.replace(SPEC, load=msgspec.structs.replace(SPEC.load, kind=kind))
    begun = time.process_time()
    runs = [measured(spec, seed=seed) for seed in seeds]
    print(f"simulated: 10,000 requests, 25/s ({kind} arrivals), at most 2,000 under way")
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
    return wrong


def closed_form() -> None:
    """Print what a day of many engines costs that nobody looks at, and one look at each."""
    cluster = Cluster(ENGINES, seed=1, start=1_800_000_000.0)
    service = Service("chat", "m", cluster)
    service.place(list(cluster.nodes.values()))
    begun = time.process_time()
    for _ in range(DAY_S):
        cluster.now += 1.0
        service.advance(cluster.now)
    lived = time.process_time()
    service.readings()
    caught_up = time.process_time()
    for _ in range(20):
        cluster.now += 15.0
        service.readings()
    looked_us = (time.process_time() - caught_up) / 20 / ENGINES * 1e6
    print(f"simulated: {ENGINES} engines in closed form, a day advanced by seconds: {lived - begun:.2f} s of CPU;")
    print(f"counting that day when somebody looks: {caught_up - lived:.2f} s; a look every 15 s: {looked_us:.0f} us an engine")


def main() -> None:
    """Exit status 1 where a figure is outside."""
    seeds = range(1, 1 + (int(sys.argv[1]) if len(sys.argv) > 1 else 3))
    wrong = reference(seeds, sys.argv[2] if len(sys.argv) > 2 else "fixed")
    closed_form()
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

"""Seconds and memory from the dumps of a large job to the verdict.

python -m bench.hang [ranks]
"""

import pickle
import resource
import sys
import time

from detectors.tracehang.gather import Pile
from detectors.tracehang.judge import judge

ENTRIES = 2000


def dump(rank: int, ranks: int, *, short: bool) -> bytes:
    """A full ring of one rank: its node's group and the world in turns. short: it never entered the last one."""
    first = rank // 8 * 8
    groups = {"0": list(range(ranks)), str(1 + first // 8): list(range(first, min(first + 8, ranks)))}
    names = list(groups)
    entries = []
    for n in range(ENTRIES - short):
        name = names[(n + 1) % 2]
        done = n < ENTRIES - 1
        entries.append({
            "record_id": n, "pg_id": names.index(name), "process_group": [name, "g"], "collective_seq_id": n // 2 + 1,
            "p2p_seq_id": 0, "op_id": n, "profiling_name": "nccl:all_reduce", "input_sizes": [[4096]], "input_dtypes": ["Float"],
            "output_sizes": [[4096]], "output_dtypes": ["Float"], "state": "completed" if done else "scheduled", "retired": done,
            "time_discovered_completed_ns": 1 if done else None, "is_p2p": False,
        })  # fmt: skip
    config = {name: {"name": name, "desc": "g", "ranks": str(members)} for name, members in groups.items()}
    return pickle.dumps({"version": "2.9", "pg_config": config, "pg_status": {}, "entries": entries}, protocol=2)


def main() -> None:
    """Print how long reading and judging took."""
    ranks = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    culprit = ranks // 3
    begun = time.perf_counter()
    pile, size = Pile(), 0
    made_s = 0.0
    for rank in range(ranks):
        start = time.perf_counter()
        data = dump(rank, ranks, short=rank == culprit)
        made_s += time.perf_counter() - start
        size += len(data)
        pile.add(f"dump_{rank}", data)
    read_s = time.perf_counter() - begun - made_s
    begun = time.perf_counter()
    verdict = judge(pile.case())
    judged_s = time.perf_counter() - begun
    named = [culprit.id for culprit in verdict.culprits]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{ranks} ranks x {ENTRIES} records, {size / 1e6:.0f} MB of dumps: read in {read_s:.2f} s, judged in {judged_s:.2f} s"
    )
    print(f"named: rank {', '.join(named)} (right: {named == [str(culprit)]}); peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()

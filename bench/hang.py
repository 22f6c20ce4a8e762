"""Seconds and memory from a folder with the dumps of a large job to the verdict, ours and the framework's own analyser's.

python -m bench.hang [--ranks 1024] [--entries 2000] [--processes 1] [--framework] [--line]
"""

import argparse
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from detectors.tracehang.offline import Hang
from detectors.tracehang.online import Tracehang
from holdfast.events import Beat, Beats, Dump, Dumps
from holdfast.ports import Input
from holdfast.topology import JobId, rank_of

_NODE = 8


def entry(n: int, group: str, desc: str, local: int, seq: int, *, done: bool) -> dict[str, object]:
    """One record with every field that PyTorch 2.9 writes without stacks."""
    created_ns = 1_758_609_938_000_000_000 + 1_000_000 * n
    return {
        "record_id": n, "pg_id": local, "process_group": (group, desc), "thread_name": "python3", "thread_id": "23456244340032",
        "collective_seq_id": seq, "p2p_seq_id": 0, "op_id": seq, "profiling_name": "nccl:all_reduce", "time_created_ns": created_ns,
        "input_sizes": [[4096, 1, 5120]], "input_dtypes": ["BFloat16"], "output_sizes": [[4096, 1, 5120]], "output_dtypes": ["BFloat16"],
        "state": "completed" if done else "scheduled", "time_discovered_started_ns": None,
        "time_discovered_completed_ns": created_ns + 500_000 if done else None, "retired": done, "timeout_ms": 600_000, "is_p2p": False,
    }  # fmt: skip


def dump(rank: int, ranks: int, entries: int, *, short: bool) -> bytes:
    """A full ring of one rank: its node's group and the world in turns. short: it never entered the last one."""
    first = rank // _NODE * _NODE
    groups = {"0": list(range(ranks)), str(1 + first // _NODE): list(range(first, min(first + _NODE, ranks)))}
    names = list(groups)
    rows = []
    for n in range(entries - short):
        at = (n + 1) % 2
        rows.append(entry(n, names[at], ("default_pg", "NODE_GROUP")[at], at, n // 2 + 1, done=n < entries - 1))
    config = {name: {"name": name, "desc": "g", "ranks": str(members)} for name, members in groups.items()}
    return pickle.dumps({"version": "2.9", "pg_config": config, "pg_status": {}, "entries": rows}, protocol=2)


def write(folder: Path, ranks: int, entries: int) -> tuple[int, int]:
    """Fill a folder with the dumps of a hang; returns the culprit and the bytes written."""
    culprit, size = ranks // 3, 0
    for rank in range(ranks):
        data = dump(rank, ranks, entries, short=rank == culprit)
        (folder / f"nccl_trace_rank_{rank}").write_bytes(data)
        size += len(data)
    return culprit, size


def analyse(folder: Path, processes: int) -> list[str]:
    """Ranks named by `holdfast diagnose hang`."""
    inputs = [Input(name=path.name, path=path) for path in sorted(folder.iterdir())]
    return [culprit.id for culprit in Hang().diagnose(inputs, {"processes": str(processes)}).culprits]


def line(folder: Path, processes: int) -> None:
    """Print how long the live line stands while the dumps come in node by node, and when it says the verdict by its own time."""
    detector, job = Tracehang(readers=processes), JobId("j")
    paths = sorted(folder.iterdir(), key=lambda path: int(path.name.rpartition("_")[2]))
    for first in range(0, len(paths), _NODE):
        list(detector.observe(Beats(at=0.0, source=f"agent:{first}", job=job, beats=(Beat(rank=first),))))
    longest_s, begun, named = 0.0, time.perf_counter(), list[str]()
    for first in range(0, len(paths), _NODE):
        files = enumerate(paths[first : first + _NODE], start=first)
        sent = tuple(Dump(target=rank_of(job, rank), name=path.name, data=path.read_bytes()) for rank, path in files)
        at, now = time.perf_counter() - begun, time.perf_counter()
        found = detector.observe(Dumps(at=at, source=f"agent:{first}", job=job, order="o", dumps=sent, complete=True))
        named += [one.id for finding in found for one in finding.culprits]
        longest_s = max(longest_s, time.perf_counter() - now)
    while not named and time.perf_counter() - begun < 600.0:
        time.sleep(0.2)
        at, now = time.perf_counter() - begun, time.perf_counter()
        named += [one.id for finding in detector.tick(at) for one in finding.culprits]
        longest_s = max(longest_s, time.perf_counter() - now)
    after_s = time.perf_counter() - begun
    print(f"in the line: named rank {', '.join(named)} {after_s:.1f} s after the first dump; it stood {longest_s * 1e3:.0f} ms at most")


def spent(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def framework(folder: Path) -> None:
    """Print what the framework's own analyser takes for the same folder, in a process of its own."""
    before, begun = spent(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-c", _FRAMEWORK, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"torch.distributed.flight_recorder: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
        return
    wall_s, cpu_s = time.perf_counter() - begun, spent(resource.RUSAGE_CHILDREN) - before
    print(f"torch.distributed.flight_recorder: {wall_s:.1f} s wall, {cpu_s:.1f} s CPU, peak {done.stdout.strip().splitlines()[-1]} MB")


_FRAMEWORK = """
import resource, sys
from torch.distributed.flight_recorder.components.builder import build_db
from torch.distributed.flight_recorder.components.config_manager import JobConfig
from torch.distributed.flight_recorder.components.loader import read_dir
args = JobConfig().parse_args([sys.argv[1], "--prefix", "nccl_trace_rank_"])
details, version = read_dir(args)
build_db(details, args, version)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def main() -> None:
    """Print how long reading and judging took, on how many processes, and the most memory they had."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--ranks", type=int, default=1024)
    asked.add_argument("--entries", type=int, default=2000)
    asked.add_argument("--processes", type=int, default=1, help="that read; the parent judges when they are done")
    asked.add_argument("--framework", action="store_true", help="let the framework's own analyser read the same dumps too")
    asked.add_argument("--line", action="store_true", help="send them through the live detector too; processes 0 reads in the line")
    args = asked.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        culprit, size = write(folder, args.ranks, args.entries)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun, cpu_s = time.perf_counter(), spent(resource.RUSAGE_SELF)
        named = analyse(folder, args.processes)
        wall_s = time.perf_counter() - begun
        own_s, readers_s = spent(resource.RUSAGE_SELF) - cpu_s, spent(resource.RUSAGE_CHILDREN)
        own, reader = (resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(f"{args.ranks} ranks x {args.entries} records, {size / 1e6:.0f} MB of dumps, {args.processes} reading")
        print(f"named: rank {', '.join(named)} (right: {named == [str(culprit)]})")
        print(f"{wall_s:.1f} s wall; CPU {own_s:.1f} s judging + {readers_s:.1f} s reading")
        print(f"peak memory {own} MB judging ({before // 1024} MB before), {reader} MB each reading")
        if args.framework:
            framework(folder)
        if args.line:
            line(folder, args.processes)


if __name__ == "__main__":
    main()

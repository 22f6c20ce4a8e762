"""How surely and how soon faults are found, placed and repaired: the standard set over many seeds, and its table. All is simulated.

python -m bench.faults --seeds 0-79 [--processes 2] [--scenario standard] [--speed full] [--results build/faults]
Writes faults.md and faults.json beside the results of the seeds. What was ended goes on where it was; a seed that failed leaves what it
said in a .log and is tried again. What it is compared with, `python -m bench.baselines` with the same --results, stands in the same table.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from bench.faultcases import OURS, Run, run
from bench.faulttable import markdown, table
from holdfast.simulation import Speed
from simulator.scenario import read

RESULTS = "build/faults"


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """What one process does: a scenario with one seed under one policy."""

    scenario: str
    seed: int
    speed: str = Speed.FULL.value
    policy: str = OURS

    def file(self, results: Path) -> Path:
        """Where its result is kept."""
        return results / "runs" / f"{self.policy}-{Path(self.scenario).stem}-{self.speed}-{self.seed}.json"

    def command(self, module: str) -> list[str]:
        """What does it."""
        words = ("--one", str(self.seed), "--scenario", self.scenario, "--speed", self.speed, "--policy", self.policy)
        return [sys.executable, "-m", module, *words]


def results_of(results: Path) -> Iterator[Run]:
    """All that was kept, in the order of its names."""
    for file in sorted((results / "runs").glob("*.json")):
        yield msgspec.json.decode(file.read_bytes(), type=Run)


def keep(done: Run, file: Path) -> None:
    """Keep a result whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_suffix(".half")
    half.write_bytes(msgspec.json.format(msgspec.json.encode(done), indent=1))
    half.replace(file)


def is_done(file: Path) -> bool:
    """Whether there is a result that need not be made again."""
    return file.exists() and not msgspec.json.decode(file.read_bytes(), type=Run).failed


def do(pieces: Sequence[Piece], results: Path, *, module: str, processes: int, said: Callable[[str], None] = print) -> int:
    """Do what is not done yet, each in a process of its own, so many at a time. Returns how many were left to do."""
    left = [piece for piece in pieces if not is_done(piece.file(results))]
    with ThreadPoolExecutor(processes) as pool:
        for piece, done in zip(left, pool.map(lambda piece: _one(piece, results, module), left), strict=True):
            detected = sum(case.detected for case in done.cases)
            words = done.failed or f"{detected} of {len(done.cases)} called by their names, {done.cpu_s} s of CPU"
            said(f"{piece.policy} {piece.scenario} {piece.seed}: {words}")
    return len(left)


def _one(piece: Piece, results: Path, module: str) -> Run:
    ended = subprocess.run(piece.command(module), capture_output=True, check=False)
    if ended.returncode:
        words = ended.stderr.decode("utf-8", "replace").strip().splitlines() or [f"ended with {ended.returncode}"]
        log = piece.file(results).with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(ended.stderr)
        done = Run(scenario=piece.scenario, policy=piece.policy, seed=piece.seed, speed=piece.speed, failed=words[-1][:300])
    else:
        done = msgspec.json.decode(ended.stdout, type=Run)
    keep(done, piece.file(results))
    return done


def write(results: Path) -> str:
    """Make the table of all that is kept, as Markdown and as JSON; returns the Markdown."""
    made = table(list(results_of(results)))
    text = markdown(made)
    (results / "faults.md").write_text(text, encoding="utf-8")
    (results / "faults.json").write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1))
    return text


def arguments(scenario: str, *, speed: Speed = Speed.FULL) -> argparse.ArgumentParser:
    """What both benches are told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="0-79", help="first-last")
    parser.add_argument("--scenario", default=scenario, help="name or file")
    parser.add_argument("--speed", default=speed.value, choices=[speed.value for speed in Speed])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path(RESULTS))
    parser.add_argument("--one", type=int, default=-1, help="run this seed alone and print its result")
    parser.add_argument("--policy", default="")
    return parser


def seeds(text: str) -> range:
    """first-last -> the seeds between, both of them too."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> None:
    told = arguments("standard").parse_args()
    if told.one >= 0:
        scenario = msgspec.structs.replace(read(told.scenario), seed=told.one)
        done = run(scenario, name=told.scenario, speed=Speed(told.speed))
        sys.stdout.buffer.write(msgspec.json.encode(done))
        return
    pieces = [Piece(scenario=told.scenario, seed=seed, speed=told.speed) for seed in seeds(told.seeds)]
    do(pieces, told.results, module="bench.faults", processes=told.processes)
    print(write(told.results))


if __name__ == "__main__":
    main()

"""Rare events per second through a do-nothing pipeline, and samples per second with the journal on: one core.

python -m bench.line
"""

import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from holdfast.events import Beats, Finding, Observation, Order, Outcome, Request, Samples, Tick, Transition
from holdfast.faults import Fault, Perception
from holdfast.journal import Journal
from holdfast.pipeline import Pipeline
from holdfast.topology import Kind, NodeId, Target

BATCH = 1000
TARGETS, SIGNALS = 64, 8


class Nothing:
    """A book, a planner and a detector that answer nothing."""

    consumes: tuple[type[Observation], ...] = (Beats,)

    def on_finding(self, finding: Finding) -> Iterator[Transition]:
        return iter(())

    def on_request(self, request: Request) -> Iterator[Transition | Outcome]:
        return iter(())

    def on_order(self, order: Order) -> Iterator[Transition]:
        return iter(())

    def on_outcome(self, outcome: Outcome) -> Iterator[Transition]:
        return iter(())

    def on_tick(self, tick: Tick) -> Iterator[Transition]:
        return iter(())

    def on_transition(self, moved: Transition) -> Iterator[Order | Outcome]:
        return iter(())

    def observe(self, seen: Observation) -> Iterator[Finding]:
        return iter(())

    def tick(self, now: float) -> Iterator[Finding]:
        return iter(())


class Threshold(Nothing):
    """The simplest detector that looks at every reading."""

    consumes: tuple[type[Observation], ...] = (Samples,)

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Samples):
            for row, _ in zip(*np.nonzero(seen.values > 95.0), strict=True):
                yield Finding(
                    at=seen.at, id=f"t/{row}", target=seen.targets[row], perception=Perception.NODE_FAULT,
                    fault=Fault.GPU_THERMAL_POWER, check="bench.threshold", confidence=1.0,
                )  # fmt: skip


class Given:
    """A collector that has its observations ready. durable: they are written to the journal."""

    def __init__(self, seen: list[Observation], *, durable: bool) -> None:
        self.seen, self.durable = seen, durable

    def poll(self, now: float) -> Iterable[Observation]:
        return self.seen


def rare_events() -> float:
    """Events per second of a line that has nothing to say."""
    beats: list[Observation] = [Beats(at=1.0, source=f"agent:n{n}") for n in range(BATCH)]
    line = Pipeline(
        detectors={"nothing": Nothing()}, book=Nothing(), planner=Nothing(), collectors=[Given(beats, durable=False)]
    )
    return _rate(line, BATCH)


def samples() -> float:
    """Samples per second: batches of one node, every batch written to the journal, one threshold detector."""
    rng = np.random.Generator(np.random.Philox(7))
    targets = tuple(Target(Kind.DEVICE, str(n), node="n1") for n in range(TARGETS))
    signals = tuple(f"gpu.signal_{n}" for n in range(SIGNALS))
    batches: list[Observation] = [
        Samples(
            at=1.0, source=f"dcgm:n{n}", node=NodeId(f"n{n}"), targets=targets, signals=signals,
            values=rng.uniform(20.0, 80.0, (TARGETS, SIGNALS)),
        )
        for n in range(100)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal")
        line = Pipeline(
            detectors={"threshold": Threshold()}, book=Nothing(), planner=Nothing(),
            collectors=[Given(batches, durable=True)], journal=journal,
        )  # fmt: skip
        found = _rate(line, 100 * TARGETS * SIGNALS)
        journal.close()
    return found


def _rate(line: Pipeline, per_step: int) -> float:
    best = 0.0
    for trial in range(5):
        steps, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < 0.6:
            line.step(float(trial * 10_000 + steps))
            steps += 1
        best = max(best, steps * per_step / (time.perf_counter() - begun))
    return best


def main() -> None:
    """Print both figures; the best of five trials of 0.6 s."""
    print(f"one core of {os.cpu_count()}: best of 5 trials")
    print(f"rare events through a do-nothing pipeline: {rare_events():,.0f} /s")
    print(f"samples in batches of {TARGETS} targets x {SIGNALS} signals, journal on: {samples():,.0f} /s")


if __name__ == "__main__":
    main()

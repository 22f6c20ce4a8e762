"""Step reports of large jobs made by the rules of a synchronous step, with what slows them put in: for benches, seeded.

Nothing here knows the detector: ranks work, who is ready waits for the last, and all of it is told as phases.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from holdfast.events import Steps
from holdfast.topology import JobId, NodeId

RANKS_A_NODE = 8
SIGNALS = (
    "step_s", "tokens", "phase.forward_s", "phase.backward_s", "phase.data_s", "phase.send_recv_s", "phase.all_reduce_s",
    "phase.checkpoint_s",
)  # fmt: skip
KINDS = ("compute", "host", "link", "node", "data")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Who is slow from step `since` until before `until`, and by which share of a step's work. kind: one of KINDS"""

    kind: str
    rank: int
    share: float
    since: int
    until: int = 1 << 30

    def ranks(self, world: int) -> tuple[int, ...]:
        if self.kind == "node":
            first = self.rank // RANKS_A_NODE * RANKS_A_NODE
            return tuple(range(first, min(first + RANKS_A_NODE, world)))
        return (self.rank, (self.rank + world // 4) % world) if self.kind == "link" else (self.rank,)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One job. work_s: of a rank's step; noise, variety: standard deviations, of one step and of a device for good, shares

    sequences: standard deviation of the logarithm of a rank's tokens, anew each step, 0: all alike; tells_tokens: whether said
    pause_odds: of a rank's step to hold a collection of garbage of pause_s; stages: pipeline stages, blocks of ranks, the last
    one heavier by last_stage; checkpoint_every, evaluate_every: steps; chief_s: what rank 0 does beside, every 10 steps
    bursts: odds of a step in which the fabric is loaded and everybody communicates longer
    """

    ranks: int
    seed: int
    work_s: float = 5.0
    noise: float = 0.004
    variety: float = 0.004
    sequences: float = 0.0
    tells_tokens: bool = True
    pause_odds: float = 5e-4
    pause_s: float = 0.4
    stages: int = 1
    last_stage: float = 0.0
    checkpoint_every: int = 50
    evaluate_every: int = 200
    chief_s: float = 0.15
    bursts: float = 0.02
    fault: Fault | None = None

    @staticmethod
    def drawn(ranks: int, seed: int) -> "Stream":
        """A job as jobs may be: how it is drawn is what a bench's figures hold for.

        Work 2-12 s a step, noise 0.2-1 %, devices that differ by 0-0.8 %, one in three with heavy first or last stages.
        """
        chance = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, ranks, 1])))
        staged = bool(chance.random() < 1 / 3)
        return Stream(
            ranks=ranks, seed=seed, work_s=float(chance.uniform(2.0, 12.0)), noise=float(chance.uniform(0.002, 0.01)),
            variety=float(chance.uniform(0.0, 0.008)), pause_odds=float(10 ** chance.uniform(-5, -2.7)),
            stages=8 if staged else 1, last_stage=float(chance.uniform(0.05, 0.3)) if staged else 0.0,
            checkpoint_every=int(chance.integers(20, 200)), bursts=float(chance.uniform(0.0, 0.05)),
        )  # fmt: skip

    def with_fault(self, *, kind: str = "", least: float = 0.05, most: float = 0.5, after: tuple[int, int] = (0, 40)) -> "Stream":
        """The same job with a fault: any kind, any rank, its share drawn evenly on a logarithmic scale, one in five from the start."""
        chance = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, self.ranks, 2])))
        kind = kind or str(chance.choice(KINDS))
        share = float(np.exp(chance.uniform(np.log(least), np.log(most))))
        since = int(chance.integers(*after)) if chance.random() > 0.2 else 0
        return replace(self, fault=Fault(kind=kind, rank=int(chance.integers(self.ranks)), share=share, since=since))

    def told(self) -> dict[str, object]:
        """The facts of whoever started the job."""
        size = RANKS_A_NODE
        nodes = {f"n{n}": [n * size, min(self.ranks, (n + 1) * size) - 1] for n in range(-(-self.ranks // size))}
        return {"world_size": self.ranks, "ranks": nodes} | ({"layout": {"pp": self.stages}} if self.stages > 1 else {})

    def steps(self, count: int, *, start: float = 1000.0) -> Iterator[Steps]:
        """So many steps, each in one batch of all ranks."""
        chance = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, self.ranks, 3])))
        device = 1.0 + self.variety * chance.normal(size=self.ranks)
        at, every = start, np.arange(self.ranks)
        stage = every // max(1, self.ranks // self.stages)
        load = np.where(stage == self.stages - 1, 1.0 + self.last_stage, 1.0) if self.stages > 1 else np.ones(self.ranks)
        usual = self.work_s * device * load
        for step in range(count):
            parts = self._parts(step, usual, chance)
            at += float(parts[:, 0].max()) + float(parts[0, 7])
            yield Steps(
                at=at, source="agents", job=JobId("j"), ranks=every, steps=np.full(self.ranks, step), ended_at=np.full(self.ranks, at),
                signals=SIGNALS, values=parts,
            )  # fmt: skip

    def _parts(self, step: int, usual_s: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """The values of one step, shape (ranks, signals)."""
        ranks = self.ranks
        tokens = np.exp(self.sequences * chance.normal(size=ranks)) if self.sequences else np.ones(ranks)
        work = usual_s * (0.9 * tokens + 0.1 * tokens**2) * (1.0 + self.noise * chance.normal(size=ranks))
        data = 0.01 * self.work_s * chance.gamma(4.0, 0.25, size=ranks)
        host = np.where(chance.random(ranks) < self.pause_odds, self.pause_s * chance.uniform(0.5, 2.0, size=ranks), 0.0)
        host += 0.002 * self.work_s * chance.random(ranks)
        if step % 10 == 9:
            host[0] += self.chief_s
        transfer = 0.02 * self.work_s * (1.0 + 0.05 * np.abs(chance.normal(size=ranks)))
        if self.fault is not None and self.fault.since <= step < self.fault.until:
            who = list(self.fault.ranks(ranks))
            more = self.fault.share * self.work_s
            into = {"compute": work, "node": work, "host": host, "link": transfer, "data": data}[self.fault.kind]
            into[who] = into[who] * (1.0 + self.fault.share) if into is work else into[who] + more
        ready = work + data + host + transfer
        reduce = 0.1 * self.work_s * (chance.uniform(1.5, 3.0) if chance.random() < self.bursts else 1.0 + 0.02 * chance.random())
        wait = ready.max() - ready + reduce
        pause = 0.0
        if step % self.checkpoint_every == self.checkpoint_every - 1:
            pause = 1.5 * self.work_s
        elif step % self.evaluate_every == self.evaluate_every - 1:
            pause = 5.0 * self.work_s
        told = 4096.0 * tokens if self.tells_tokens else np.full(ranks, np.nan)
        columns = (ready + wait, told, work / 3, work * 2 / 3, data, transfer, wait, np.full(ranks, pause))
        return np.stack(columns, axis=1)


def by_node(seen: Steps, chance: np.random.Generator) -> list[Steps]:
    """The same step as the agents of its nodes tell it, in any order, within two seconds."""
    ranks = len(seen.ranks)
    found: list[Steps] = []
    for node in chance.permutation(-(-ranks // RANKS_A_NODE)).tolist():
        rows = slice(node * RANKS_A_NODE, (node + 1) * RANKS_A_NODE)
        found.append(
            Steps(
                at=seen.at + 2.0 * len(found) * RANKS_A_NODE / ranks, source=f"agent:n{node}", job=seen.job, node=NodeId(f"n{node}"),
                ranks=seen.ranks[rows], steps=seen.steps[rows], ended_at=seen.ended_at[rows], signals=seen.signals,
                values=seen.values[rows],
            )
        )  # fmt: skip
    return found

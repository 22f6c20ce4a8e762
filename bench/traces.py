"""Operation traces of pipelined jobs with a known cause put in: for benches, seeded. Played by dependency, all data ranks at once."""

from dataclasses import dataclass, field, replace

import numpy as np

CAUSES = (
    "none", "slow_worker", "slow_link", "stage_imbalance", "sequence_imbalance", "data_loading", "gc", "checkpoint", "global",
)  # fmt: skip


# Least and most of each, as a share: of a pass, of the usual step, of the logarithm of lengths.
_SIZES = {
    "none": (0.0, 0.0), "slow_worker": (0.25, 1.0), "slow_link": (0.3, 1.0), "stage_imbalance": (0.3, 0.8),
    "sequence_imbalance": (0.3, 0.6), "data_loading": (0.3, 1.0), "gc": (0.15, 0.5), "checkpoint": (0.8, 3.0), "global": (0.25, 0.8),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A job: sizes of its grid, micro-batches of a step, and what varies in it anyhow.

    forward_s: of one micro-batch on one stage; noise: standard deviation of each pass, a share; heavy: last stage's more work
    uneven: standard deviation of the logarithm of sequence lengths; skew_s: of the clocks of ranks; lost: part of rows missing
    """

    dp: int = 4
    pp: int = 4
    tp: int = 1
    batches: int = 8
    steps: int = 12
    forward_s: float = 0.05
    noise: float = 0.01
    heavy: float = 0.0
    uneven: float = 0.0
    skew_s: float = 0.0
    lost: float = 0.0

    @property
    def ranks(self) -> int:
        return self.dp * self.pp * self.tp


@dataclass(kw_only=True)
class Cause:
    """What slows the job. who: (dp, pp) of workers, or of the sender of a link; size: how much, by the cause's own measure

    alone: for loading, whether one worker waits or all do; since: the first step in which it is so
    """

    name: str = "none"
    who: tuple[tuple[int, int], ...] = ()
    size: float = 0.0
    alone: bool = False
    since: int = 0


@dataclass
class Trace:
    """One played job. rows: step, rank, dp, pp, tp, op, start_s, duration_s, seq, microbatch"""

    shape: Shape
    cause: Cause
    seed: int
    rows: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)

    def play(self) -> "Trace":
        self._chance = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, 1])))
        self._struck = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, 2])))
        begin = 0.0
        for step in range(self.shape.steps):
            end = self._step(step, begin)
            self.step_s.append(end - begin)
            begin = end + 0.5
        return self

    # --- one step

    def _step(self, step: int, begin: float) -> float:
        shape, active = self.shape, step >= self.cause.since
        self._now, self._active = step, active
        done = np.full((shape.pp, shape.dp), begin)
        lengths = np.ones((shape.batches, shape.dp))
        sigma = shape.uneven + (self.cause.size if self.cause.name == "sequence_imbalance" and active else 0.0)
        lengths = np.exp(sigma * self._struck.normal(size=lengths.shape)) if sigma else lengths
        self._lengths = 0.7 * lengths + 0.3 * lengths**2
        self._gather(done, "params-all-gather", 0.1 * shape.forward_s)
        self._before(done)
        self._pipelines(done)
        self._gather(done, "grads-reduce-scatter", 0.2 * shape.forward_s)
        for pp in range(shape.pp):
            took = 0.15 * shape.forward_s * (1.0 + shape.noise * np.abs(self._chance.normal(size=shape.dp)))
            done[pp] = self._write(pp, "optimizer", done[pp], took * self._all())
        if self.cause.name == "checkpoint" and active and step % 4 == 3:
            for pp in range(shape.pp):
                took = self.cause.size * self._usual() * (1.0 + 0.1 * self._struck.random(shape.dp))
                done[pp] = self._write(pp, "checkpoint", done[pp], took)
        return float(done.max())

    def _usual(self) -> float:
        """About the seconds of a step without anything wrong."""
        return 3.0 * self.shape.forward_s * (self.shape.batches + self.shape.pp - 1)

    def _all(self) -> float:
        return 1.0 + self.cause.size if self.cause.name == "global" and self._active else 1.0

    def _before(self, done: np.ndarray) -> None:
        """Loading at the first stage, and collections of garbage that are told."""
        shape = self.shape
        took = 0.02 * shape.forward_s * (0.5 + self._chance.random(shape.dp))
        if self.cause.name == "data_loading" and self._active:
            more = self.cause.size * self._usual()
            if self.cause.alone:
                took[self.cause.who[0][0]] += more
            else:
                took += more * (0.8 + 0.4 * self._struck.random(shape.dp))
        for pp in range(shape.pp):
            first = took if pp == 0 else 0.02 * shape.forward_s * (0.5 + self._chance.random(shape.dp))
            done[pp] = self._write(pp, "data-load", done[pp], first)

    def _gather(self, done: np.ndarray, name: str, seconds: float) -> None:
        for pp in range(self.shape.pp):
            takes = seconds * (1.0 + 0.05 * self._chance.random()) * self._all()
            end = done[pp].max() + takes
            self._write(pp, name, done[pp], end - done[pp])
            done[pp] = end

    def _compute(self, pp: int, backward: bool, batch: int, done: np.ndarray) -> None:
        shape, cause = self.shape, self.cause
        usual = shape.forward_s * (2.0 if backward else 1.0) * (1.0 + shape.heavy * (pp == shape.pp - 1))
        took = usual * self._lengths[batch] * np.maximum(0.5, 1.0 + shape.noise * self._chance.normal(size=shape.dp)) * self._all()
        if self._active:
            if cause.name == "slow_worker":
                for dp, stage in cause.who:
                    if stage == pp:
                        took[dp] *= 1.0 + cause.size
            elif cause.name == "stage_imbalance" and pp == cause.who[0][1]:
                took *= 1.0 + cause.size
            elif cause.name == "gc" and not backward:
                hit = self._struck.random(shape.dp) < 0.6 / shape.batches / 3.0
                took += np.where(hit, cause.size * self._usual() * (0.7 + 0.6 * self._struck.random(shape.dp)), 0.0)
        name = "backward-compute" if backward else "forward-compute"
        done[pp] = self._write(pp, name, done[pp], took, batch)

    def _pipelines(self, done: np.ndarray) -> None:
        """1F1B: each stage runs its list in turn, a transfer holds up both ends."""
        lists = [_program(self.shape, pp) for pp in range(self.shape.pp)]
        at = [0] * self.shape.pp
        while any(n < len(todo) for n, todo in zip(at, lists, strict=True)):
            for pp in range(self.shape.pp):
                while at[pp] < len(lists[pp]):
                    what, batch = lists[pp][at[pp]]
                    if what in "FB":
                        self._compute(pp, what == "B", batch, done)
                    elif not self._transfer(pp, what, batch, lists, at, done):
                        break
                    at[pp] += 1

    def _transfer(
        self, pp: int, what: str, batch: int, lists: list[list[tuple[str, int]]], at: list[int], done: np.ndarray
    ) -> bool:
        """A send or a receive. what: direction (f or b) and side (s or r)"""
        peer = pp + (1 if what in ("fs", "br") else -1)
        other = what[0] + ("r" if what[1] == "s" else "s")
        if at[peer] >= len(lists[peer]) or lists[peer][at[peer]] != (other, batch):
            return False
        takes = 0.02 * self.shape.forward_s * (1.0 + 0.2 * self._chance.random(self.shape.dp)) * self._all()
        if self.cause.name == "slow_link" and self._active:
            dp, stage = self.cause.who[0]
            if stage == min(pp, peer):
                takes[dp] += self.cause.size * self._usual() / (2 * self.shape.batches)
        end = np.maximum(done[pp], done[peer]) + takes
        for stage, mine in ((pp, what), (peer, other)):
            name = f"{'forward' if mine[0] == 'f' else 'backward'}-{'send' if mine[1] == 's' else 'recv'}"
            self._write(stage, name, done[stage], end - done[stage], batch)
            done[stage] = end
        at[peer] += 1
        return True

    def _write(self, pp: int, name: str, start: np.ndarray, seconds: np.ndarray, batch: int = -1) -> np.ndarray:
        shape, dp = self.shape, np.arange(self.shape.dp)
        for tp in range(shape.tp):
            rank = (pp * shape.dp + dp) * shape.tp + tp
            full = [np.full(shape.dp, value) for value in (self._now, pp, tp, name, batch)]
            self.rows.append((full[0], rank, dp, full[1], full[2], full[3], start.copy(), np.broadcast_to(seconds, dp.shape), full[4]))
        return np.asarray(start + seconds)

    # --- as a file

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of an operation trace, some rows lost and the clocks of ranks apart."""
        names = ("step", "rank", "dp", "pp", "tp", "op", "start_s", "duration_s", "microbatch")
        table = {name: np.concatenate([row[n] for row in self.rows]) for n, name in enumerate(names)}
        chance = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, 4])))
        if self.shape.skew_s:
            table["start_s"] = table["start_s"] + (self.shape.skew_s * chance.normal(size=self.shape.ranks))[table["rank"]]
        if self.shape.lost:
            kept = chance.random(len(table["step"])) >= self.shape.lost
            table = {name: column[kept] for name, column in table.items()}
        return table

    def rank_of(self, dp: int, pp: int) -> set[str]:
        """The ranks of a worker: all of its tensor group, which wait for one another within each pass."""
        return {str((pp * self.shape.dp + dp) * self.shape.tp + tp) for tp in range(self.shape.tp)}


def _program(shape: Shape, pp: int) -> list[tuple[str, int]]:
    """1F1B of one stage: F and B are passes, f and b transfers, s and r sends and receives."""
    last, warm = shape.pp - 1, min(shape.pp - 1 - pp, shape.batches)
    todo: list[tuple[str, int]] = []
    for n in range(warm):
        todo += [("fr", n)] * (pp > 0) + [("F", n), ("fs", n)]
    for n in range(shape.batches - warm):
        ahead = n + warm
        todo += [("fr", ahead)] * (pp > 0 and n == 0) + [("F", ahead)]
        todo += [("fs", ahead), ("br", n)] * (pp < last) + [("B", n)]
        more = n < shape.batches - warm - 1
        todo += ([("fr", ahead + 1)] if more else []) * (pp > 0) + [("bs", n)] * (pp > 0)
    for n in range(shape.batches - warm, shape.batches):
        todo += [("br", n)] * (pp < last) + [("B", n)] + [("bs", n)] * (pp > 0)
    return todo


def drawn(cause: str, seed: int, *, hard: bool = False) -> Trace:
    """A job and a cause as they may be. hard: clocks apart, rows lost, uneven sequences and a heavier last stage besides."""
    chance = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, CAUSES.index(cause), 3])))
    shape = Shape(
        dp=int(chance.choice([2, 4, 8, 16])), pp=int(chance.choice([1, 2, 4, 8])), tp=int(chance.choice([1, 1, 2])),
        batches=int(chance.choice([4, 8, 16])), steps=int(chance.integers(6, 20)), forward_s=float(chance.uniform(0.01, 0.1)),
        noise=float(chance.uniform(0.003, 0.03)), heavy=float(chance.uniform(0.0, 0.03)),
    )  # fmt: skip
    if hard:
        shape = replace(
            shape, uneven=float(chance.uniform(0.0, 0.06)), heavy=float(chance.uniform(0.0, 0.08)),
            skew_s=float(chance.choice([0.0, 0.001, 0.02])), lost=float(chance.choice([0.0, 0.0, 0.002])),
        )  # fmt: skip
    if cause in ("slow_link", "stage_imbalance"):
        shape = replace(shape, pp=max(2, shape.pp), dp=max(4 if cause == "slow_link" and shape.pp < 4 else 2, shape.dp))
    many = int(chance.choice([1, 1, 2])) if shape.dp * shape.pp >= 16 else 1
    places = chance.permutation(shape.dp * shape.pp)[:many]
    who = tuple((int(place % shape.dp), int(place // shape.dp)) for place in places)
    least, most = _SIZES[cause]
    size = float(chance.uniform(least, most))
    if cause == "slow_link":
        who = ((who[0][0], int(chance.integers(shape.pp - 1))),)
    elif cause == "stage_imbalance":
        who = ((0, int(chance.choice([0, shape.pp - 1, shape.pp - 1]))),)
    since = 0
    if cause == "global":
        shape = replace(shape, steps=max(10, shape.steps))
        since = int(chance.integers(3, shape.steps - 3))
    elif cause == "slow_worker" and chance.random() < 0.3:
        since = int(chance.integers(0, max(1, shape.steps // 2)))
    return Trace(shape, Cause(name=cause, who=who, size=size, alone=bool(chance.random() < 0.5), since=since), seed)

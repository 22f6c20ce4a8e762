"""Step reports of small jobs in few words, as the agents of their nodes give them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from holdfast.events import Change, Changes, Finding, Samples, Steps
from holdfast.topology import JobId, Kind, NodeId, Target, job_of

NODE = 8


@dataclass(frozen=True, kw_only=True)
class Reports:
    """A job of `ranks`, eight a node. change: step and the phases of its ranks, seconds, which it may alter in place

    phases: name -> usual seconds; every rank then waits in all_reduce for the last; noise: of each phase, a share
    tells: signals that are told, None: all
    """

    ranks: int = 32
    phases: Mapping[str, float] = field(default_factory=lambda: {"forward": 0.3, "backward": 0.6, "data": 0.05})
    noise: float = 0.005
    seed: int = 0
    change: Callable[[int, dict[str, np.ndarray]], None] = lambda step, times: None
    tells: Sequence[str] | None = None
    tokens: Callable[[int], np.ndarray] | None = None

    def steps(self, count: int, *, first: int = 0, at: float = 1000.0) -> Iterator[Steps]:
        """One batch a node and step, a step after the other."""
        for step in range(first, first + count):
            seen = self.step(step, at)
            at = seen[0].at
            yield from seen

    def step(self, step: int, at: float) -> list[Steps]:
        chance = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, step])))
        times = {name: s * (1.0 + self.noise * chance.normal(size=self.ranks)) for name, s in self.phases.items()}
        self.change(step, times)
        pause = times.pop("pause", np.zeros(self.ranks))
        ready = np.sum(list(times.values()), axis=0)
        columns = {f"phase.{name}_s": values for name, values in times.items()}
        columns["phase.all_reduce_s"] = ready.max() - ready + 0.05
        columns["step_s"] = np.full(self.ranks, ready.max() + 0.05) + pause
        if self.tokens is not None:
            columns["tokens"] = self.tokens(step)
        at += float(columns["step_s"].max())
        told = [name for name in columns if self.tells is None or name in self.tells]
        values = np.stack([columns[name] for name in told], axis=1)
        return [self._batch(n, step, at, tuple(told), values) for n in range(-(-self.ranks // NODE))]

    def _batch(self, node: int, step: int, at: float, signals: tuple[str, ...], values: np.ndarray) -> Steps:
        ranks = np.arange(node * NODE, min(self.ranks, (node + 1) * NODE))
        return Steps(
            at=at, source=f"agent:n{node}", job=JobId("j"), node=NodeId(f"n{node}"), ranks=ranks, steps=np.full(len(ranks), step),
            ended_at=np.full(len(ranks), at), signals=signals, values=values[ranks],
        )  # fmt: skip


Altered = Callable[[int, dict[str, np.ndarray]], None]


def slow(factor: float, *ranks: int, phase: str = "forward", since: int = 0, until: int = 1 << 30) -> Altered:
    """These ranks take `factor` times as long in one phase, from a step on."""

    def change(step: int, times: dict[str, np.ndarray]) -> None:
        if since <= step < until:
            times[phase][list(ranks)] *= factor

    return change


def told(state: str = "started", *, at: float = 999.0, attempt: int = 0, **facts: object) -> Changes:
    change = Change(target=job_of("j"), state=state, at=at, attempt=attempt, detail=facts)  # type: ignore[arg-type]
    return Changes(at=at, source="agent:n0", job=JobId("j"), node=NodeId("n0"), changes=(change,))


def page(node: str, at: float, columns: Mapping[str, Sequence[float]], *, kind: Kind = Kind.DEVICE) -> Samples:
    """One page of a node's sensors."""
    values = np.array(list(columns.values()), dtype=np.float64).T
    targets = tuple(Target(kind, str(n), node=node) for n in range(len(values)))
    return Samples(
        at=at, source=f"page:{node}", job=JobId("j"), node=NodeId(node), targets=targets, signals=tuple(columns), values=values
    )


def said(detector: object, seen: object) -> list[Finding]:
    """All answers to observations."""
    return [finding for one in seen for finding in detector.observe(one)]  # type: ignore[attr-defined]


def words(found: Sequence[Finding]) -> list[str]:
    """`check kind id` of each, a minus before what was withdrawn."""
    return [f"{'-' if f.cleared else ''}{f.check} {f.target.kind} {f.target.id}" for f in found]

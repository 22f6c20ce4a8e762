"""Claims which rank slows a synchronous job: all show one step time, but one works longer and waits less."""

from collections.abc import Iterator

import msgspec
import numpy as np

from detectors.peers import LEAST, robust_z
from holdfast.events import Changes, Finding, Observation, Steps
from holdfast.faults import Action, Fault, Perception, Severity, Symptom
from holdfast.topology import Kind, rank_of
from holdfast.verdict import Culprit, Evidence

MOST_JOBS = 1024
_WORK = ("phase.forward_s", "phase.backward_s")
_DATA = ("phase.data_s",)


class Pace(msgspec.Struct):
    """One job. odd: rank -> steps in a row in which it worked longer than its peers; claims: rank -> what stands."""

    attempt: int = 0
    odd: dict[int, int] = {}
    even: dict[int, int] = {}
    claims: dict[int, Finding] = {}
    said: int = 0


class Traceslow:
    """Reads the phases of steps: own work (forward, backward, data) against the other ranks' that one agent tells of together.

    They share a node, and with it mostly a role; of agents with fewer than four ranks nothing is said.

    z: robust standard deviations, and share: of its peers' median work, by which a rank stands out
    steps: so many in a row, to claim and to withdraw
    """

    consumes = (Steps, Changes)

    def __init__(self, *, z: float = 8.0, share: float = 0.08, steps: int = 10) -> None:
        self.z, self.share, self.steps = z, share, steps
        self._jobs: dict[str, Pace] = {}

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if not seen.job:
            return
        if isinstance(seen, Changes):
            for change in seen.changes:
                ends = change.state in ("restarting", "finished", "failed", "stopped")
                if change.target.kind is Kind.JOB and (change.attempt > self._job(seen.job).attempt or ends):
                    yield from self._forget(seen.job, change.attempt, change.at)
        elif isinstance(seen, Steps):
            for step in np.unique(seen.steps).tolist():
                yield from self._on_step(seen, seen.steps == step, int(step))

    def tick(self, now: float) -> Iterator[Finding]:
        return iter(())

    def _on_step(self, seen: Steps, rows: np.ndarray, step: int) -> Iterator[Finding]:
        compute, data = _sum(seen, rows, _WORK), _sum(seen, rows, _DATA)
        work = compute + np.nan_to_num(data)
        if np.isfinite(work).sum() < LEAST:
            return
        ranks, at = seen.ranks[rows], float(seen.ended_at[rows].max())
        middle = float(np.nanmedian(work))
        odd = (robust_z(work, floor=0.005) > self.z) & (work > (1.0 + self.share) * middle)
        job = self._job(seen.job)
        late = {int(ranks[n]): n for n in np.flatnonzero(odd).tolist()}
        for rank, n in late.items():
            job.odd[rank] = job.odd.get(rank, 0) + 1
            job.even.pop(rank, None)
            if job.odd[rank] >= self.steps and rank not in job.claims:
                in_data = float(np.nan_to_num(data[n]) - np.nanmedian(np.nan_to_num(data))) > 0.5 * float(work[n] - middle)
                cause = "data_loading" if in_data else "slow_worker"
                job.claims[rank] = self._finding(seen, job, rank, cause, float(work[n]), middle, step, at)
                yield job.claims[rank]
        heard = set(ranks.tolist())  # each agent tells of its own ranks: who is not among them is not even
        for rank in [rank for rank in job.odd if rank in heard and rank not in late]:
            yield from self._even(job, rank, at)

    def _even(self, job: Pace, rank: int, at: float) -> Iterator[Finding]:
        job.even[rank] = job.even.get(rank, 0) + 1
        if rank not in job.claims or job.even[rank] >= self.steps:
            job.odd.pop(rank)
            job.even.pop(rank)
            if rank in job.claims:
                yield msgspec.structs.replace(job.claims.pop(rank), at=at, cleared=True, evidence=())

    def _finding(self, seen: Steps, job: Pace, rank: int, cause: str, own_s: float, middle_s: float, step: int, at: float) -> Finding:
        job.said += 1
        name = seen.job
        share = round(1.0 - middle_s / own_s, 4)
        text = f"rank {rank} works {own_s:.3f} s a step, its peers {middle_s:.3f} s, for {self.steps} steps in a row; they wait for it"
        culprit = Culprit(
            kind=Kind.RANK, id=str(rank), cause=cause, confidence=0.85, share=share, evidence=(text,), node=seen.node
        )
        return Finding(
            at=at, id=f"traceslow/{name}/{job.said}", job=name, target=rank_of(name, rank, node=seen.node), perception=Perception.SLOW,
            symptom=Symptom.SLOW, fault=Fault.UNKNOWN, check=f"traceslow.{cause}", severity=Severity.ERROR, cause=cause,
            confidence=0.85, share=share, culprits=(culprit,), action=Action.REPLACE, evidence=(Evidence("step reports", 0, text),),
            detail={"step": step, "signature": f"traceslow.{cause} rank {rank}"},
        )  # fmt: skip

    def _forget(self, name: str, attempt: int, at: float) -> Iterator[Finding]:
        job = self._job(name)
        for claim in job.claims.values():
            yield msgspec.structs.replace(claim, at=at, cleared=True, evidence=())
        self._jobs[name] = Pace(attempt=max(attempt, job.attempt), said=job.said)

    def _job(self, name: str) -> Pace:
        if name not in self._jobs:
            while len(self._jobs) >= MOST_JOBS:
                del self._jobs[next(iter(self._jobs))]
            self._jobs[name] = Pace()
        return self._jobs[name]

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._jobs)

    def restore(self, memory: bytes) -> None:
        self._jobs = msgspec.msgpack.decode(memory, type=dict[str, Pace], strict=False)


def _sum(seen: Steps, rows: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """The sum of some signals in the chosen rows, NaN where none is reported."""
    columns = [seen.signals.index(name) for name in names if name in seen.signals]
    return np.asarray(seen.values[rows][:, columns].sum(axis=1)) if columns else np.full(int(rows.sum()), np.nan)

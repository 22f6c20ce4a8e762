"""Claims that a loss is no number any more: NaN or infinite, as the training script itself has reported."""

from collections.abc import Iterator

import msgspec
import numpy as np

from holdfast.events import Changes, Finding, Observation, Steps
from holdfast.faults import Action, Fault, Judgement, Perception, Severity, Symptom
from holdfast.topology import JobId, Kind, job_of
from holdfast.verdict import Evidence

MOST_JOBS = 1024
_SUFFIX = "_nan"


class Learning(msgspec.Struct):
    """One job. bad: steps in a row without a number; good: steps in a row with one since; claim: what stands now."""

    attempt: int = 0
    bad: int = 0
    good: int = 0
    last: int = -1
    claim: Finding | None = None
    said: int = 0


class NanLoss:
    """Reads the signals `<name>_nan` that an agent sends where a reported value is NaN or infinite.

    signals: which reported values count; steps: so many steps in a row, so that one skipped batch is no alarm
    healed_steps: so many steps with a number end the claim
    Nobody is blamed: data, a step size and a silently wrong device look alike from here.
    """

    consumes = (Steps, Changes)

    def __init__(
        self, *, signals: tuple[str, ...] = ("loss", "grad_norm"), steps: int = 3, healed_steps: int = 3
    ) -> None:
        self.signals, self.steps, self.healed_steps = tuple(signals), steps, healed_steps
        self._jobs: dict[str, Learning] = {}

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if not seen.job:
            return
        if isinstance(seen, Changes):
            yield from self._on_changes(seen)
        elif isinstance(seen, Steps) and len(seen.steps):
            yield from self._on_steps(seen)

    def tick(self, now: float) -> Iterator[Finding]:
        return iter(())

    def _on_steps(self, seen: Steps) -> Iterator[Finding]:
        bad, signal = self._bad(seen)
        job = self._job(seen.job)
        for step in np.unique(seen.steps).tolist():
            if step <= job.last:
                continue
            rows = seen.steps == step
            job.last = step
            ended_at = float(seen.ended_at[rows].max())
            if bad[rows].any():
                job.bad, job.good = job.bad + 1, 0
                if job.bad >= self.steps and job.claim is None:
                    job.said += 1
                    ranks = sorted({int(rank) for rank in seen.ranks[rows & bad]})
                    job.claim = _finding(seen.job, job, step=step, signal=signal, ranks=ranks, at=ended_at)
                    yield job.claim
            else:
                job.bad, job.good = 0, job.good + 1
                if job.claim is not None and job.good >= self.healed_steps:
                    yield from _withdraw(job, ended_at)

    def _bad(self, seen: Steps) -> tuple[np.ndarray, str]:
        """Rows (bool, shape (rows,)) in which a watched value is no number, and the first signal that says so."""
        bad, first = np.zeros(len(seen.steps), dtype=bool), ""
        for name in self.signals:
            if name + _SUFFIX in seen.signals:
                column = seen.values[:, seen.signals.index(name + _SUFFIX)] == 1.0
                first = first or (name if column.any() else "")
                bad |= column
        return bad, first

    def _on_changes(self, seen: Changes) -> Iterator[Finding]:
        for change in seen.changes:
            if change.target.kind is not Kind.JOB:
                continue
            job = self._job(seen.job)
            if change.attempt > job.attempt or change.state in ("finished", "stopped"):
                yield from _withdraw(job, change.at)
                # the new attempt goes back to a checkpoint, so its step numbers begin lower
                self._jobs[seen.job] = Learning(attempt=change.attempt, said=job.said)

    def _job(self, name: str) -> Learning:
        job = self._jobs.get(name)
        if job is None:
            while len(self._jobs) >= MOST_JOBS:
                del self._jobs[next(iter(self._jobs))]
            job = self._jobs[name] = Learning()
        return job

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._jobs)

    def restore(self, memory: bytes) -> None:
        self._jobs = msgspec.msgpack.decode(memory, type=dict[str, Learning])


def _finding(name: JobId, job: Learning, *, step: int, signal: str, ranks: list[int], at: float) -> Finding:
    first = step - job.bad + 1
    who = f"{len(ranks)} rank(s), the first is rank {ranks[0]}"
    text = f"{signal} is no number from step {first} to {step}, reported by {who}"
    return Finding(
        at=at, id=f"nan/{name}/{job.attempt}/{job.said}", job=name, target=job_of(name),
        perception=Perception.LOSS_ANOMALY, symptom=Symptom.LOSS, fault=Fault.UNKNOWN,
        check=f"training.nan.{signal}", judgement=Judgement.UNDECIDED,
        severity=Severity.ERROR, cause="nan", confidence=0.95, action=Action.RESTART,
        evidence=(Evidence("step reports", 0, text),),
        detail={
            "step": first, "signature": f"{signal} nan", "attempt": job.attempt,
            "missing": ["the batch of that step", "a check of the devices"],
        },
    )  # fmt: skip


def _withdraw(job: Learning, at: float) -> Iterator[Finding]:
    if job.claim is not None:
        claim, job.claim = job.claim, None
        yield msgspec.structs.replace(claim, at=at, cleared=True, evidence=())

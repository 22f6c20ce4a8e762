"""Claims that a loss is no number any more: NaN or infinite, as the training script itself has reported."""

from collections.abc import Iterator

import msgspec
import numpy as np

from holdfast.events import Changes, Finding, Observation, Steps
from holdfast.faults import Action, Fault, Judgement, Perception, Severity, Symptom
from holdfast.topology import JobId, Kind, job_of
from holdfast.verdict import Evidence

MOST_JOBS = 1024
MOST_AGENTS = 16_384  # of one job
_SUFFIX = "_nan"


class Streak(msgspec.Struct):
    """What one agent reports. bad: steps in a row without a number; good: steps in a row with one; broken: too many bad."""

    bad: int = 0
    good: int = 0
    last: int = -1
    broken: bool = False


class Learning(msgspec.Struct):
    """One job; streaks: by agent, because one that reports earlier must not speak for the others; claim: what stands now."""

    attempt: int = 0
    streaks: dict[str, Streak] = {}
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
        bad, told, signal = self._bad(seen)
        if not told.any():
            return  # a rank that reports no loss does not say that it is well
        job = self._job(seen.job)
        while seen.source not in job.streaks and len(job.streaks) >= MOST_AGENTS:
            del job.streaks[next(iter(job.streaks))]
        streak = job.streaks.setdefault(seen.source, Streak())
        for step in np.unique(seen.steps[told]).tolist():
            if step <= streak.last:
                continue
            rows = seen.steps == step
            streak.last = step
            ended_at = float(seen.ended_at[rows].max())
            if bad[rows].any():
                streak.bad, streak.good = streak.bad + 1, 0
                streak.broken = streak.broken or streak.bad >= self.steps
                if streak.broken and job.claim is None:
                    job.said += 1
                    ranks = sorted({int(rank) for rank in seen.ranks[rows & bad]})
                    first = step - streak.bad + 1
                    job.claim = _finding(seen.job, job, steps=(first, step), signal=signal, ranks=ranks, at=ended_at)
                    yield job.claim
            else:
                streak.bad, streak.good = 0, streak.good + 1
                streak.broken = streak.broken and streak.good < self.healed_steps
                if not any(other.broken for other in job.streaks.values()):
                    yield from _withdraw(job, ended_at)

    def _bad(self, seen: Steps) -> tuple[np.ndarray, np.ndarray, str]:
        """Rows (bool, shape (rows,)) in which a watched value is no number, those that have one at all, and whose it is."""
        bad, told, first = np.zeros(len(seen.steps), dtype=bool), np.zeros(len(seen.steps), dtype=bool), ""
        for name in self.signals:
            if name in seen.signals:
                told |= np.isfinite(seen.values[:, seen.signals.index(name)])
            if name + _SUFFIX in seen.signals:
                column = seen.values[:, seen.signals.index(name + _SUFFIX)] == 1.0
                first = first or (name if column.any() else "")
                bad |= column
        return bad, told | bad, first

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


def _finding(
    name: JobId, job: Learning, *, steps: tuple[int, int], signal: str, ranks: list[int], at: float
) -> Finding:
    first, last = steps
    who = f"{len(ranks)} rank(s), the first is rank {ranks[0]}"
    text = f"{signal} is no number from step {first} to {last}, reported by {who}"
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

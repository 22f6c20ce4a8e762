"""Claims that a running job learns no more, or steps slower than it did, from what its ranks report of each step."""

from collections.abc import Iterator

import msgspec
import numpy as np

from detectors.training.episode import DIVERGENCE, SLOW_SHIFT, Episode
from detectors.training.finite import Seen
from detectors.training.health import Health
from detectors.training.pace import Pace
from detectors.training.verdicts import missing_for, sentence
from holdfast.events import Changes, Finding, Observation, Steps
from holdfast.faults import Action, Fault, Judgement, Perception, Severity, Symptom
from holdfast.topology import JobId, Kind, job_of
from holdfast.verdict import Evidence

MOST_JOBS = 1024


class Course(msgspec.Struct):
    """One job's attempt. lead: the agent whose ranks are listened to, because all tell of one loss; last: its last step

    claims: kind of episode -> what stands; said: how many there have been, in all attempts
    """

    attempt: int = 0
    lead: str = ""
    last: int = -1
    health: Health = msgspec.field(default_factory=Health)
    pace: Pace = msgspec.field(default_factory=Pace)
    claims: dict[str, Finding] = {}
    said: int = 0


class Learning:
    """Judges the signals `loss`, `grad_norm` and `step_s` of a job by the same rules as its log files are judged.

    lag: so many steps behind another, an agent leads no more
    A spike and a lasting slowdown of the whole job are watched (a warning opens nothing); a divergence is an error. NaN is
    the claim of `nan_loss`. Nobody is blamed: data, a step size and a silently wrong device look alike from here.
    """

    consumes = (Steps, Changes)

    def __init__(self, *, lag: int = 16) -> None:
        self.lag = lag
        self._jobs: dict[str, Course] = {}

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
        if not {"loss", "step_s"} & set(seen.signals):
            return
        job = self._job(seen.job)
        if seen.source != job.lead:
            if job.lead and int(seen.steps.max()) <= job.last + self.lag:
                return
            job.lead = seen.source
        for step in np.unique(seen.steps).tolist():
            if step > job.last:
                job.last = step
                yield from self._on_step(seen, job, seen.steps == step, step)

    def _on_step(self, seen: Steps, job: Course, rows: np.ndarray, step: int) -> Iterator[Finding]:
        at = float(seen.ended_at[rows].max())
        one = Seen(step, loss=_mean(seen, rows, "loss"), grad_norm=_mean(seen, rows, "grad_norm"))
        said = list(job.health.take(one))
        took_s = _mean(seen, rows, "step_s")
        if took_s is not None:
            said.extend(job.pace.take(step, took_s))
        standing = job.health.standing | ({SLOW_SHIFT} if job.pace.shifts else set())
        for kind in [kind for kind in job.claims if kind not in standing]:
            yield _withdrawn(job.claims.pop(kind), at)
        for episode in said:
            if episode.kind in standing and episode.kind not in job.claims and episode.recovered_at is None:
                job.said += 1
                job.claims[episode.kind] = _finding(seen.job, job, episode, at)
                yield job.claims[episode.kind]

    def _on_changes(self, seen: Changes) -> Iterator[Finding]:
        for change in seen.changes:
            if change.target.kind is not Kind.JOB:
                continue
            job = self._job(seen.job)
            if change.attempt > job.attempt or change.state in ("restarting", "finished", "failed", "stopped"):
                for claim in job.claims.values():
                    yield _withdrawn(claim, change.at)
                # a new attempt goes back to a checkpoint, and may run on other machines
                self._jobs[seen.job] = Course(attempt=max(change.attempt, job.attempt), said=job.said)

    def _job(self, name: str) -> Course:
        job = self._jobs.get(name)
        if job is None:
            while len(self._jobs) >= MOST_JOBS:
                del self._jobs[next(iter(self._jobs))]
            job = self._jobs[name] = Course()
        return job

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._jobs)

    def restore(self, memory: bytes) -> None:
        self._jobs = msgspec.msgpack.decode(memory, type=dict[str, Course])


def _finding(name: JobId, job: Course, episode: Episode, at: float) -> Finding:
    slow, lost = episode.kind == SLOW_SHIFT, episode.kind == DIVERGENCE
    return Finding(
        at=at, id=f"training/{name}/{job.attempt}/{job.said}", job=name, target=job_of(name),
        perception=Perception.SLOW if slow else Perception.LOSS_ANOMALY, symptom=Symptom.SLOW if slow else Symptom.LOSS,
        fault=Fault.UNKNOWN, check=f"training.{episode.kind}", judgement=Judgement.UNDECIDED,
        severity=Severity.ERROR if lost else Severity.WARNING, cause=episode.kind, confidence=0.8 if lost else 0.5,
        action=Action.RESTART if lost else Action.WATCH, evidence=(Evidence("step reports", 0, sentence(episode)),),
        detail={
            "step": episode.step, "signature": f"{episode.signal} {episode.kind}", "attempt": job.attempt,
            "missing": [*missing_for(episode.kind)],
        },
    )  # fmt: skip


def _withdrawn(claim: Finding, at: float) -> Finding:
    return msgspec.structs.replace(claim, at=at, cleared=True, evidence=())


def _mean(seen: Steps, rows: np.ndarray, name: str) -> float | None:
    """The mean over the ranks that tell of it: each has the loss of its own part of the batch."""
    if name not in seen.signals:
        return None
    told = seen.values[rows, seen.signals.index(name)]
    told = told[np.isfinite(told)]
    return float(told.mean()) if told.size else None

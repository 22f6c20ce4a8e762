"""Claims that a job hangs: no rank has stepped for far longer than this job, in this phase, at this step, ever took."""

import math
from collections.abc import Iterator

import msgspec
import numpy as np

from detectors.tracehang.rhythm import Rhythm
from detectors.tracehang.still import Stillness
from holdfast.events import Beat, Beats, Change, Changes, Finding, Observation, Samples, Steps
from holdfast.faults import Action, Fault, Judgement, Perception, Symptom
from holdfast.topology import JobId, Kind, job_of
from holdfast.verdict import Evidence

MOST_JOBS = 1024
MOST_AGENTS = 16_384  # of one job
EVIDENCE = ("stacks", "flight_recorder", "processes")

# Phases that are part of every step; any other announced phase has a limit of its own.
_STEP_PHASES = (
    "forward",
    "backward",
    "optim",
    "step",
    "reduce",
    "gather",
    "scatter",
    "send",
    "recv",
    "data",
    "comm",
    "barrier",
)

# Bytes through storage that show a process to be saving or loading rather than waiting.
_MOVING_BYTES = 1 << 20


# How many of a kind must be known before a limit of its own replaces the setting; a job is seldom started.
_STARTS_KNOWN, _PHASES_KNOWN = 1, 3
_LENGTHS_KEPT, _MOST_PHASES = 16, 64

# Beats come about every second; what is longer than both of these was seen by nobody.
_MOST_GAP_S, _GAP_FACTOR = 2.0, 3.0
_BEAT_SHARE, _MOST_BEAT_S = 0.1, 60.0
_LEAST_REST_S = 1.0


def _learn(job: "Watched", phase: str, length_s: float) -> None:
    if phase in job.lengths_s or len(job.lengths_s) < _MOST_PHASES:
        job.lengths_s[phase] = [*job.lengths_s.get(phase, [])[1 - _LENGTHS_KEPT :], length_s]


def _in_step(phase: str) -> bool:
    return any(part in phase.lower() for part in _STEP_PHASES)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """factor: silence of so many usual steps is too long, but never less than floor_s

    still_factors: so many where one, or two, other signals are still as well: the devices' power, the network's traffic
    startup_s: before the first step; early_s: before the pace is known; phase_s: in an announced phase, or one read
    from the stacks; storage_factor: how many limits a job may be silent while it moves data through storage
    phase_factor: once a kind of phase, or the start, is known it may take so many times its longest
    least_startup_s, least_phase_s: but never less than these
    """

    factor: float = 5.0
    still_factors: tuple[float, ...] = (2.5, 2.5)
    floor_s: float = 8.0
    startup_s: float = 1800.0
    early_s: float = 60.0
    phase_s: float = 900.0
    storage_factor: float = 10.0
    phase_factor: float = 3.0
    least_startup_s: float = 600.0
    least_phase_s: float = 60.0


class Watched(msgspec.Struct):
    """One job.

    step, stepped_at: the last completed of any rank; rank: the one whose steps are learned from, -1 none yet
    io_bytes: by agent, so far; io_at: when one of them last moved much
    phases: by agent, the announced phase now open; phase_at: since when; resumed_at: when the last one ended
    waits_s: limit granted for the present silence; stall_s: without progress while somebody said so; beat_s: usual time between beats
    lengths_s: how long phases of each name have taken; "" is the time from the start to the first step
    """

    attempt: int = 0
    step: int = -1
    stepped_at: float = 0.0
    begun_at: float = 0.0
    heard_at: float = 0.0
    rank: int = -1
    phases: dict[str, str] = {}
    phase_at: float = 0.0
    stall_s: float = 0.0
    beat_s: float = 1.0
    lengths_s: dict[str, list[float]] = {}
    resumed_at: float = 0.0
    io_bytes: dict[str, int] = {}
    io_at: float = 0.0
    waits_s: float = 0.0
    claimed: bool = False
    claims: int = 0
    running: bool = True
    learned_step: int = -1
    learned_at: float = 0.0
    learned: Rhythm = msgspec.field(default_factory=Rhythm)
    machines: Stillness = msgspec.field(default_factory=Stillness)


class Claim:
    """One signal of several: what it claims is asked about with stacks, recorder and process states before anything is done.

    Silence is counted by the agents' own times, so a service that was away, or a spool that came late, accuses nobody.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.jobs: dict[str, Watched] = {}

    def observe(self, seen: Observation) -> Iterator[Finding]:
        """Take in beats, steps and the job's starts and ends."""
        if isinstance(seen, Changes):
            for change in seen.changes:
                if change.target.kind is Kind.JOB:
                    yield from self._on_job(change, JobId(change.target.id))
        elif isinstance(seen, Samples):
            if (rests_at := self.rests_at(seen.job)) < math.inf:
                self.jobs[seen.job].machines.take(seen, rests_at=rests_at)
        elif isinstance(seen, Beats) and seen.job and seen.beats:
            yield from self._on_beats(self._job(seen.job), seen)
        elif isinstance(seen, Steps) and seen.job and len(seen.ranks):
            self._on_steps(self._job(seen.job), seen)

    def tick(self) -> Iterator[Finding]:
        """Claim what has become too long."""
        least_s = min(self.limits.floor_s, self.limits.startup_s)
        for name, job in self.jobs.items():
            if not job.running or not job.heard_at or job.claimed or self.silence_s(job) <= least_s:
                continue  # what a job's limit is takes some counting
            limit_s = self.limit_s(job)
            if self.silence_s(job) > limit_s:
                job.claimed = True
                job.claims += 1
                yield self._finding(JobId(name), job, limit_s)

    def silence_s(self, job: Watched) -> float:
        """Seconds without progress that somebody has seen, from the last sign of progress to the last sign of life.

        They are added up beat by beat: while no agent speaks nobody knows what the job does.
        """
        since = max(job.stepped_at, job.begun_at, job.resumed_at)
        return min(job.heard_at - since, job.stall_s) if since else 0.0

    def limit_s(self, job: Watched) -> float:
        """How long this job may be silent now."""
        limits, learned = self.limits, job.learned
        if job.stepped_at <= job.begun_at:
            return self._known_s(job, "", limits.startup_s, least_s=limits.least_startup_s)
        if len(learned.gaps_s) < 3:
            limit_s = max(limits.early_s, limits.factor * learned.pace_s())
        else:
            limit_s = max(limits.floor_s, self._factor(job) * learned.pace_s())
        pause_s = max(2.0 * learned.expected_s(job.step), 1.5 * learned.by_the_clock_s())
        limit_s = max(limit_s, pause_s, job.waits_s)
        if job.phases:
            allowed = (self._known_s(job, name, limits.phase_s, least_s=limits.least_phase_s) for name in set(job.phases.values()))
            limit_s = max(limit_s, *allowed)
        if job.io_at and job.heard_at - job.io_at < limit_s:
            return limits.storage_factor * limit_s  # it saves or loads: not still
        return limit_s

    def rests_at(self, name: str) -> float:
        """From when on what the machines of a job show is that it stands still: a usual step after its last sign of progress."""
        job = self.jobs.get(name)
        if job is None or job.stepped_at <= job.begun_at:
            return math.inf
        return max(job.stepped_at, job.resumed_at) + max(_LEAST_REST_S, job.learned.pace_s())

    def _signs(self, job: Watched) -> list[str]:
        return job.machines.signs(job.stepped_at) if job.stepped_at > job.begun_at else []

    def _factor(self, job: Watched) -> float:
        still = len(self._signs(job))
        return min(self.limits.factor, self.limits.still_factors[still - 1]) if still else self.limits.factor

    def _known_s(self, job: Watched, phase: str, unknown_s: float, *, least_s: float) -> float:
        """How long a phase may take: by those of its name that this job has been through, else by the setting."""
        lengths_s = job.lengths_s.get(phase, [])
        known_s = self.limits.phase_factor * max(lengths_s, default=0.0)
        # one that is longer than the setting allows is learned at once, a shorter limit only from several
        return max(known_s, least_s) if len(lengths_s) >= (_STARTS_KNOWN if not phase else _PHASES_KNOWN) else max(known_s, unknown_s)

    def grant(self, name: str, phase: str) -> Finding | None:
        """Let the present silence last as long as the phase that the stacks show; None if it has been granted already."""
        job = self.jobs.get(name)
        if job is None or not job.claimed or job.waits_s >= self.limits.phase_s:
            return None
        job.waits_s = self.limits.phase_s
        job.claimed = False
        return msgspec.structs.replace(
            self._finding(JobId(name), job, job.waits_s), cleared=True,
            evidence=(Evidence("stacks", 0, f"the ranks are in {phase}: given {job.waits_s:.0f} s"),),
        )  # fmt: skip

    def _on_job(self, change: Change, name: JobId) -> Iterator[Finding]:
        job = self._job(name)
        if change.attempt < job.attempt:
            return
        fresh = change.attempt > job.attempt or not job.running or not job.begun_at
        began = change.state == "started" and fresh
        job.attempt, job.running = change.attempt, change.state == "started"
        if began or not job.running:
            if job.claimed:
                yield self._withdraw(name, job, change.at, f"the job has {change.state}")
            job.waits_s, job.io_at, job.phases = 0.0, 0.0, {}
        if began:
            job.begun_at, job.stall_s = change.at, 0.0

    def _on_beats(self, job: Watched, seen: Beats) -> Iterator[Finding]:
        if seen.attempt != job.attempt and job.begun_at:
            return
        self._note_beat(job, seen.at)
        job.begun_at = job.begun_at or seen.at
        self._note_phase(job, seen)
        self._note_storage(job, seen)
        last = max(seen.beats, key=lambda beat: (beat.stepped_at, beat.step))
        if last.stepped_at > max(job.stepped_at, job.begun_at):
            yield from self._stepped(JobId(seen.job), job, last)

    def _note_beat(self, job: Watched, at: float) -> None:
        """Add to the stall what lies between two beats, but no more than usually does: a longer gap was seen by nobody."""
        gap_s = at - job.heard_at
        if gap_s <= 0.0:
            return
        if job.heard_at:
            job.stall_s += min(gap_s, max(_MOST_GAP_S, _GAP_FACTOR * job.beat_s))
            job.beat_s += _BEAT_SHARE * (min(gap_s, _MOST_BEAT_S) - job.beat_s)
        job.heard_at = at

    def _stepped(self, name: JobId, job: Watched, last: Beat) -> Iterator[Finding]:
        if job.begun_at and job.stepped_at <= job.begun_at:
            _learn(job, "", last.stepped_at - job.begun_at)
        job.step, job.stepped_at, job.waits_s, job.io_at = last.step, last.stepped_at, 0.0, 0.0
        job.stall_s = min(job.stall_s, max(0.0, job.heard_at - last.stepped_at))
        if job.claimed:
            yield self._withdraw(name, job, last.stepped_at, f"step {last.step} was completed")

    def _on_steps(self, job: Watched, seen: Steps) -> None:
        """Learn the pace from one rank: in a synchronous job all show the same."""
        if job.rank < 0:
            job.rank = int(seen.ranks.min())
        mine = np.flatnonzero(seen.ranks == job.rank)
        pauses = [n for n, signal in enumerate(seen.signals) if signal.startswith("phase.") and not _in_step(signal)]
        for row in mine[np.argsort(seen.ended_at[mine], kind="stable")]:
            step, ended_at = int(seen.steps[row]), float(seen.ended_at[row])
            announced = bool(pauses) and bool(np.nansum(seen.values[row, pauses]) > 0.0)
            if job.learned_at > job.begun_at and step == job.learned_step + 1:
                job.learned.learn(job.learned_step, ended_at - job.learned_at, announced=announced)
            job.learned_step, job.learned_at = step, ended_at

    def _note_phase(self, job: Watched, seen: Beats) -> None:
        open_now = next((beat.phase for beat in seen.beats if beat.phase and not _in_step(beat.phase)), "")
        if open_now and (seen.source in job.phases or len(job.phases) < MOST_AGENTS):
            job.phase_at = job.phase_at if job.phases else seen.at
            job.phases[seen.source] = open_now
        elif (ended := job.phases.pop(seen.source, "")) and not job.phases:
            job.resumed_at, job.stall_s = seen.at, 0.0
            _learn(job, ended, seen.at - job.phase_at)

    def _note_storage(self, job: Watched, seen: Beats) -> None:
        moved, before = sum(beat.io_bytes for beat in seen.beats), job.io_bytes.pop(seen.source, 0)
        if moved - before > _MOVING_BYTES and before:
            job.io_at = seen.at
        while len(job.io_bytes) >= MOST_AGENTS:
            del job.io_bytes[next(iter(job.io_bytes))]
        job.io_bytes[seen.source] = moved

    def _withdraw(self, name: JobId, job: Watched, at: float, why: str) -> Finding:
        job.claimed = False
        claim = self._finding(name, job, 0.0)
        return msgspec.structs.replace(claim, at=at, cleared=True, evidence=(Evidence("steps", 0, why),))

    def _finding(self, name: JobId, job: Watched, limit_s: float) -> Finding:
        silence_s, signs = self.silence_s(job), self._signs(job)
        text = f"no rank has stepped for {silence_s:.1f} s after step {job.step}; usual {job.learned.pace_s():.2f} s, limit {limit_s:.1f} s"
        evidence = (Evidence("steps", 0, text), *(Evidence("samples", 0, sign) for sign in signs))
        return Finding(
            at=job.heard_at, id=f"tracehang/{name}/{job.claims}", job=name, target=job_of(name), perception=Perception.HANG,
            symptom=Symptom.HANG, fault=Fault.UNKNOWN, check="tracehang.silence", judgement=Judgement.UNDECIDED,
            confidence=0.5 + 0.1 * len(signs), evidence=evidence, action=Action.WATCH, wants=EVIDENCE,
            detail={"step": job.step, "silence_s": round(silence_s, 3), "limit_s": round(limit_s, 3)},
        )  # fmt: skip

    def _job(self, name: str) -> Watched:
        job = self.jobs.get(name)
        if job is None:
            job = self.jobs[name] = Watched()
            if len(self.jobs) > MOST_JOBS:
                del self.jobs[min(self.jobs, key=lambda other: self.jobs[other].heard_at)]
        return job

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.jobs)

    def restore(self, memory: bytes) -> None:
        self.jobs = msgspec.msgpack.decode(memory, type=dict[str, Watched])

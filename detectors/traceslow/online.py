"""Claims who slows a synchronous job: all ranks show one step time, but one works longer and waits less."""

from collections.abc import Iterator

import msgspec

from detectors.traceslow.job import Job, JobMemory, Limits
from detectors.traceslow.machine import Machines
from holdfast.events import Change, Changes, Finding, Observation, Samples, Steps
from holdfast.topology import Kind

MOST_JOBS = 1024
_OVER = frozenset({"restarting", "finished", "failed", "stopped"})


class Traceslow:
    """Compares what each rank does by itself with the ranks of the same role, over all nodes of the job, step by step.

    A rank is claimed when the evidence of several steps, measured on the job's own noise, has grown beyond what a healthy job
    shows in ten thousand hours; a node, when most of its ranks are; a link, when the transfers of its two ends are long. When
    all ranks step slower for long, that is said, and that it is undecided why.

    share: less excess than this (of the peers' work) is nothing; act_share: from here on it is an error, else a warning
    steps, lasting_s: at least so long; grace_s: how long a step waits for ranks that have not told of it yet
    """

    consumes = (Steps, Changes, Samples)

    def __init__(
        self, *, share: float = 0.02, act_share: float = 0.04, steps: int = 4, lasting_s: float = 9.0, grace_s: float = 5.0
    ) -> None:
        self.limits = Limits(share=share, act_share=act_share, steps=steps, lasting_s=lasting_s, grace_s=grace_s)
        self._jobs: dict[str, Job] = {}
        self._machines = Machines()

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Samples):
            self._machines.take(seen)
        elif not seen.job:
            return
        elif isinstance(seen, Steps):
            yield from self._job(seen.job).take(seen, self._machines)
        elif isinstance(seen, Changes):
            for change in seen.changes:
                if change.target.kind is Kind.JOB:
                    yield from self._on_job(seen.job, change)

    def _on_job(self, name: str, change: Change) -> Iterator[Finding]:
        job = self._job(name)
        if change.attempt > job.attempt or change.state in _OVER:
            yield from job.restart(change.attempt, change.at, change.state)
        job.told(change.detail)

    def tick(self, now: float) -> Iterator[Finding]:
        for job in list(self._jobs.values()):
            yield from job.wait(now, self._machines)

    def _job(self, name: str) -> Job:
        if name not in self._jobs:
            while len(self._jobs) >= MOST_JOBS:
                del self._jobs[next(iter(self._jobs))]
            self._jobs[name] = Job(name, self.limits)
        return self._jobs[name]

    def snapshot(self) -> bytes:
        jobs = {name: job.memory() for name, job in self._jobs.items()}
        return msgspec.msgpack.encode((jobs, self._machines.memory()))

    def restore(self, memory: bytes) -> None:
        jobs, machines = msgspec.msgpack.decode(memory, type=tuple[dict[str, JobMemory], bytes])
        self._machines.remember(machines)
        self._jobs = {}
        for name, kept in jobs.items():
            self._jobs[name] = Job(name, self.limits)
            self._jobs[name].remember(kept)

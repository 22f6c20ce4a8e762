"""A picture of the jobs and incidents as they stand, kept from what goes by; what the API and the reports show."""

import msgspec

from holdfast.events import Beats, Changes, Event, Transition
from holdfast.incident import ENDED, Incident, State
from holdfast.topology import Kind

MOST_INCIDENTS = 1000
MOST_JOBS = 1000


class Job(msgspec.Struct, kw_only=True):
    """A job as it stands.

    state: started, finished, failed or stopped; step: the last completed of any rank, -1 none
    """

    id: str
    state: str = "started"
    attempt: int = 0
    exit_code: int | None = None
    signal: int | None = None
    started_at: float = 0.0
    ended_at: float | None = None
    step: int = -1
    heard_at: float = 0.0


class _Memory(msgspec.Struct):
    jobs: dict[str, Job]
    incidents: dict[str, Incident]


class Board:
    """The view: jobs and incidents by id, the oldest ended incidents forgotten past a bound."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.incidents: dict[str, Incident] = {}

    def on_event(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, Transition):
            self.incidents[event.incident.id] = event.incident
            self._bound()
        elif isinstance(event, Beats) and event.job and event.beats:
            job = self._job(event.job)
            job.heard_at = event.at
            job.step = max(job.step, *(beat.step for beat in event.beats))
        elif isinstance(event, Changes):
            self._on_changes(event)

    def over(self, job: str) -> bool:
        """Whether a job has ended and nothing more will be done about it."""
        known = self.jobs.get(job)
        return known is not None and known.state in ("finished", "failed", "stopped") and not self.live(job)

    def stuck(self, job: str) -> bool:
        """Whether a job needs a person while it has not ended."""
        needs = any(i.job == job and i.state is State.NEEDS_HUMAN for i in self.incidents.values())
        return needs and not self.live(job)

    def live(self, job: str) -> list[Incident]:
        """The incidents of a job that are not ended."""
        return [i for i in self.incidents.values() if i.job == job and i.state not in ENDED]

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(_Memory(self.jobs, self.incidents))

    def restore(self, memory: bytes) -> None:
        kept = msgspec.msgpack.decode(memory, type=_Memory)
        self.jobs, self.incidents = kept.jobs, kept.incidents

    def _on_changes(self, seen: Changes) -> None:
        for change in seen.changes:
            if change.target.kind is not Kind.JOB:
                continue
            job = self._job(change.target.id)
            if change.attempt < job.attempt:
                continue  # late news of an attempt that has been replaced
            job.attempt, job.state, job.heard_at = change.attempt, change.state, seen.at
            ended = change.state in ("finished", "failed", "stopped")
            job.exit_code, job.signal = change.exit_code, change.signal
            job.ended_at = change.at if ended else None
            job.started_at = job.started_at or change.at

    def _job(self, id: str) -> Job:
        if id not in self.jobs:
            self.jobs[id] = Job(id=id)
            if len(self.jobs) > MOST_JOBS:
                del self.jobs[min(self.jobs, key=lambda old: self.jobs[old].heard_at)]
        return self.jobs[id]

    def _bound(self) -> None:
        if len(self.incidents) > MOST_INCIDENTS:
            ended = (id for id, incident in self.incidents.items() if incident.ended)
            if (oldest := next(ended, None)) is not None:
                del self.incidents[oldest]

"""Which jobs are written in full: at the fast speed only those with a story, from a warm-up before it begins."""

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from holdfast.events import Change, Changes
from holdfast.topology import JobId, job_of
from simulator.serving import Service
from simulator.stories.story import Story
from simulator.training import TrainingJob
from simulator.world import World

# So long after its last incident has ended a job is still watched: what is said too much, or once more, is heard.
_AFTER_S = 120.0
# A fault drawn by chance waits so long, in simulated seconds, for a job that is just being repaired.
PATIENCE_S = 300.0

Warmup = Callable[[float], float]


@dataclass
class Watch:
    """Lets jobs rest and wakes them.

    warmup: usual seconds of a step -> seconds of telemetry to be seen before anybody judges as if all had been seen
    planned: (when, story) of what is still to begin, the next first; at the full speed nobody rests (`rests`)
    """

    world: World
    planned: list[tuple[float, int, Story]]
    warmup: Warmup
    rests: bool
    _until: dict[str, float] = field(default_factory=dict, init=False)
    _wakes: list[tuple[float, int, str]] = field(default_factory=list, init=False)
    _awaited: dict[int, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        heapq.heapify(self.planned)
        self._wakes = [(at - self._lead_s(story.job), n, story.job) for at, n, story in self.planned]
        heapq.heapify(self._wakes)
        self.world.leaps = self.rests

    @classmethod
    def of(cls, world: World, planned: Iterable[tuple[float, Story]], *, warmup: Warmup, rests: bool) -> "Watch":
        """planned: (seconds after the beginning, story)."""
        start = world.cluster.start
        return cls(world, [(start + at_s, n, story) for n, (at_s, story) in enumerate(planned)], warmup, rests)

    def begin(self, *, patient: bool) -> None:
        """Tell the stories that are due. patient: one waits, but not for ever, until its job trains"""
        now = self.world.cluster.now
        late = []
        while self.planned and self.planned[0][0] <= now:
            at, n, story = heapq.heappop(self.planned)
            job = self.world.jobs.get(story.job)
            placed = job is None or bool(job.nodes)
            if placed and (not patient or self.world.trains(story.job) or now - at >= PATIENCE_S):
                self._awaited.pop(n, None)
                self.world.tell(story)
            elif placed or now - at < 10 * PATIENCE_S:  # a job that gets no nodes for so long is hit by nothing
                late.append((at, n, story))
            else:
                self._awaited.pop(n, None)
        for one in late:
            heapq.heappush(self.planned, one)

    def turn(self, live: Sequence[tuple[str, bool]]) -> None:
        """Let rest whom nothing concerns, wake who is concerned.

        live: (job, "" none; whether it has ended) of each incident that is not resolved
        """
        if not self.rests:
            return
        world, now = self.world, self.world.cluster.now
        concerned = {job for job, ended in live if not ended} | {told.story.job for told in world.struck if not told.over}
        while self._wakes and self._wakes[0][0] <= now:
            _, n, job = heapq.heappop(self._wakes)
            self._awaited[n] = job
        concerned |= set(self._awaited.values())
        world.kept = "" in concerned
        everyone: list[TrainingJob | Service] = [*world.jobs.values(), *world.services.values()]
        for one in everyone:
            name = one.name
            if name in concerned or (isinstance(one, TrainingJob) and world.is_watched(one) and not one.trains and one.state != "stopped"):
                self._until[name] = now + _AFTER_S
            wanted = self._until.get(name, -math.inf) > now
            if wanted != world.is_watched(one):
                self._turn(one, watched=wanted)

    def _lead_s(self, name: str) -> float:
        job = self.world.jobs.get(name)
        return self.warmup(job.shape.step_s + job.shape.checkpoint_s / job.shape.checkpoint_every if job else 15.0)

    def next_at(self, until: float) -> float:
        """When at the latest there is something to do if nobody is watched until then."""
        first = min(self._wakes[0][0] if self._wakes else until, self.world.due_at())
        start = self.world.cluster.start
        return max(self.world.cluster.now + 1.0, start + math.floor(min(first, until) - start))

    def _turn(self, one: TrainingJob | Service, *, watched: bool) -> None:
        cluster, name = self.world.cluster, one.name
        if watched:
            one.advance(cluster.now)
        self.world.resting.discard(name) if watched else self.world.resting.add(name)
        detail = {}
        attempt = one.attempt
        if isinstance(one, TrainingJob):
            one.watched = watched
            one.teller.forget()
            detail = one.facts() | {"world_size": one.shape.world}
        change = Change(target=job_of(name), state="started" if watched else "suspended", at=cluster.now, attempt=attempt, detail=detail)
        cluster.columns.append(Changes(at=cluster.now, source="scheduler", job=JobId(name), changes=(change,)))

"""The service over a simulated cluster: the same line of stages, with simulated time instead of the clock."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.api.ingest import Ingest
from holdfast.api.records import batch_of, observations_of
from holdfast.assembly import Parts, assemble
from holdfast.config import Config, JournalTable, Remedier
from holdfast.events import Observation
from holdfast.journal import Journal
from holdfast.ports import Collector
from simulator.backend import Simulated
from simulator.faults import Story
from simulator.scenario import Scenario, make, stories
from simulator.score import score
from simulator.world import World

# The line is asked this often, in simulated seconds.
STEP_S = 1.0
# Incidents that the last stories caused are still followed for so long, in simulated seconds.
_TAIL_S = 900.0
# A fault drawn by chance waits so long, in simulated seconds, for a job that is just being repaired.
_WAIT_S = 300.0


class Agents:
    """The agents' batches, through the door that takes them from the network: decoded, and repeats dropped by their numbers."""

    durable = False

    def __init__(self, fetch: Callable[[], Iterable[bytes]]) -> None:
        self._fetch = fetch
        self.door = Ingest({}, orders_for=lambda job: (), released=lambda job: False, wake=lambda: None)

    def poll(self, now: float) -> Iterator[Observation]:
        """What the agents have sent since the last time."""
        for body in self._fetch():
            yield from self.door.fresh(observations_of(batch_of(body)))


def collectors_of(world: World) -> list[Collector]:
    """The collectors of a real cluster, each with its reader put in place of the outside; what explains comes first."""
    from collectors.kmsg import Kmsg
    from collectors.kubernetes import Kubernetes
    from collectors.logfiles import LogFiles
    from collectors.pages import Pages

    cluster = world.cluster
    return [
        Kmsg(read=cluster.fetch_kernel), LogFiles(read=cluster.fetch_logs), Kubernetes(read=cluster.fetch_watch),
        Agents(cluster.agents.fetch), Pages(read=world.pages),
    ]  # fmt: skip


@dataclass
class Simulation:
    """A scenario under the whole service. `step` goes on by a second of simulated time."""

    scenario: Scenario
    journal: Journal
    config: Config = field(default_factory=Config)
    world: World = field(init=False)
    parts: Parts = field(init=False)
    now: float = field(init=False)
    waiting: list[tuple[float, Story]] = field(init=False)

    def __post_init__(self) -> None:
        self.world = make(self.scenario)
        self.now = self.start = self.world.cluster.now
        self.waiting = stories(self.scenario, self.world)
        self.parts = assemble(
            self.config, journal=self.journal, collectors=collectors_of(self.world),
            backends={"simulated": Simulated(self.world)},
        )  # fmt: skip
        self.parts.pipeline.bus.strict = True  # a bug is a crash here, not a line in a log

    def step(self) -> None:
        """One second: begin the stories that are due, let the world live, ask the line."""
        self.now += STEP_S
        while self.waiting and self._is_due(*self.waiting[0]):
            self.world.tell(self.waiting.pop(0)[1])
        self.world.advance(self.now)
        self.parts.pipeline.step(self.now)

    def _is_due(self, at_s: float, story: Story) -> bool:
        """A listed fault strikes when it is listed; one drawn by chance waits, but not for ever, until its job trains."""
        late_s = self.now - self.start - at_s
        drawn = self.scenario.plan == "each_kind"
        return late_s >= 0.0 and (not drawn or self.world.trains(story.job) or late_s >= _WAIT_S)

    @property
    def over(self) -> bool:
        """Whether every story has begun and every incident has ended, or the scenario's time is up."""
        past_s = self.now - self.start
        if past_s >= self.scenario.lasting_s + _TAIL_S:
            return True
        live = any(not incident.ended for incident in self.parts.board.incidents.values())
        quiet = all(job.state == "running" and not job.held for job in self.world.jobs.values())
        return not self.waiting and not live and quiet and past_s >= self.scenario.lasting_s

    def score(self, wall_s: float) -> dict[str, Any]:
        """What was injected against what was found."""
        nodes = len(self.world.cluster.nodes)
        return score(
            self.world.struck, list(self.parts.board.incidents.values()), seed=self.scenario.seed,
            simulated_s=self.now - self.start, wall_s=wall_s, devices=8 * nodes, nodes=nodes,
            journal_sha256=self.journal.sha256(), ettr=self._ettr(), evicted=self.world.evicted,
        )  # fmt: skip

    def _ettr(self) -> float:
        """Steps that count, at their healthy pace, over the time that went by; the mean over devices."""
        jobs = list(self.world.jobs.values())
        devices = sum(job.shape.world for job in jobs)
        past_s = max(self.now - self.start, 1e-9)
        useful = sum((job.step + 1) * job.shape.step_s * job.shape.world for job in jobs)
        return min(1.0, useful / past_s / max(devices, 1))


def settings(journal: Path) -> Config:
    """The settings of a simulated cluster: everything that is installed runs, and the loop may act."""
    return Config(journal=JournalTable(path=str(journal), keep="all"), remedier=Remedier(mode="auto", budget=100))

"""The whole simulated world: cluster, jobs, services, stories, and a clock that only goes when told to."""

import heapq
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from holdfast.events import Order
from holdfast.topology import Kind
from simulator.agents import dump_record
from simulator.cluster import Cluster
from simulator.evidence.job import JobStand
from simulator.faults import OnRank, Story, Struck
from simulator.nodes import Node
from simulator.pages import pages
from simulator.serving import Service
from simulator.training import Shape, TrainingJob

REPAIR_S = 600.0
_TICK_S = 1.0
_PAGE_S = 15.0


@dataclass
class World:
    """Simulated time begins at `cluster.now`; `advance` lives until the given moment."""

    cluster: Cluster
    jobs: dict[str, TrainingJob] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    struck: list[Struck] = field(default_factory=list)
    evicted: list[tuple[float, str]] = field(default_factory=list)
    _due: list[tuple[float, int, Iterator[float]]] = field(default_factory=list)
    _turn: Iterator[int] = field(default_factory=itertools.count)
    _paged_at: float = float("-inf")

    # --- making it

    def add_job(self, name: str, shape: Shape) -> TrainingJob:
        """A training job on the first free nodes."""
        job = TrainingJob(name, shape, self.cluster)
        job.place(self.free(shape.nodes))
        job.start(self.cluster.now, 0.0)
        self.jobs[name] = job
        return job

    def add_service(self, name: str, model: str, *, nodes: int) -> Service:
        """An inference service on the first free nodes."""
        service = Service(name, model, self.cluster)
        service.place(self.free(nodes))
        self.services[name] = service
        return service

    def free(self, count: int, avoid: Iterable[str] = ()) -> list[Node]:
        """Nodes that could take a job, at most `count`."""
        barred = set(avoid)
        nodes = (n for n in self.cluster.nodes.values() if n.usable and not n.job and n.id not in barred)
        return list(itertools.islice(nodes, count))

    def tell(self, story: Story) -> None:
        """Begin a story now."""
        node = story.node(self).id if isinstance(story, OnRank) else ""
        told = Struck(story=story, at=self.cluster.now, node=node)
        self.struck.append(told)
        self.plan(self.cluster.now, story.play(self, told))

    def plan(self, at: float, play: Iterator[float]) -> None:
        """Go on with something at a moment; equal times keep their order."""
        heapq.heappush(self._due, (at, next(self._turn), play))

    def trains(self, name: str) -> bool:
        """Whether a job has stepped in its present attempt and goes on; a service always serves."""
        job = self.jobs.get(name)
        return job is None or (job.state == "running" and not job.held and job.stepped_at > job.begun_at)

    # --- time

    def advance(self, until: float) -> None:
        """Live in ticks of a second until `until`."""
        while self.cluster.now < until:
            self.cluster.now = min(until, self.cluster.now + _TICK_S)
            while self._due and self._due[0][0] <= self.cluster.now:
                _, _, play = heapq.heappop(self._due)
                wait_s = next(play, None)
                if wait_s is not None:
                    self.plan(self.cluster.now + wait_s, play)
            for job in self.jobs.values():
                job.advance(self.cluster.now)
                self._beat(job)
            for service in self.services.values():
                service.advance(self.cluster.now)
            self.cluster.agents.advance(self.cluster.now)

    def _beat(self, job: TrainingJob) -> None:
        for node in job.nodes:
            if self.cluster.agents.due(node, self.cluster.now):
                self.cluster.agents.say(node, job.beat(node))

    def pages(self, now: float) -> Iterator[tuple[str, str, str, str]]:
        """The exporters' pages, when it is time to scrape them again."""
        if now - self._paged_at >= _PAGE_S:
            self._paged_at = now
            yield from pages(self.cluster, list(self.jobs.values()), list(self.services.values()))

    # --- what orders do

    def collect(self, order: Order) -> None:
        """Each agent's answer to a collection, the last record of each marked."""
        job = self.jobs.get(order.job)
        if job is None or not job.nodes:
            return
        stand, now = JobStand(job, self.cluster.seed, self.cluster.now), self.cluster.now
        for node in job.nodes:
            records = [dump_record(order.id, *piece, at=now) for piece in stand.on_node(node)]
            records[-1]["complete"] = True
            self.cluster.agents.say(node, *records)

    def sick_nodes(self, order: Order) -> list[Node]:
        """The nodes an order speaks of."""
        found: dict[str, Node] = {}
        job = self.jobs.get(order.job)
        for target in order.targets:
            id = target.node or (target.id if target.kind is Kind.NODE else "")
            if not id and job is not None and target.kind is Kind.RANK and int(target.id) < job.shape.world:
                id = job.node_of(int(target.id)).id
            if id in self.cluster.nodes:
                found[id] = self.cluster.nodes[id]
        return list(found.values())

    def repair(self, node: Node) -> Iterator[float]:
        """A node out of service comes back mended."""
        self.evicted.append((self.cluster.now, node.id))
        self.cluster.scheduler.cordon(node, self.cluster.now)
        yield REPAIR_S
        self.cluster.mend(node)

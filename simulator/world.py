"""The whole simulated world: cluster, jobs, services, stories, and a clock that only goes when told to."""

import heapq
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from holdfast.events import Dumps, Observation, Order
from holdfast.topology import JobId, Kind
from simulator.cluster import Cluster, Node
from simulator.faults import OnRank, Story, Struck
from simulator.pages import pages
from simulator.recorder import Stand
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
            self.cluster.idle_beats()
            for job in self.jobs.values():
                job.advance(self.cluster.now)
            for service in self.services.values():
                service.advance(self.cluster.now)

    def fetch(self) -> Iterator[Observation]:
        """What has been said since the last time."""
        yield from self.cluster.fetch()

    def pages(self, now: float) -> Iterator[tuple[str, str, str, str]]:
        """The exporters' pages, when it is time to scrape them again."""
        if now - self._paged_at >= _PAGE_S:
            self._paged_at = now
            yield from pages(self.cluster, list(self.jobs.values()), list(self.services.values()))

    # --- what orders do

    def collect(self, order: Order) -> None:
        """The agents' answer to a collection."""
        job = self.jobs.get(order.job)
        if job is None or not job.nodes:
            return
        self.cluster.say(
            Dumps(
                at=self.cluster.now, source=f"agents:{job.name}", job=JobId(job.name), order=order.id,
                dumps=tuple(Stand(job).dumps()), complete=True,
            )
        )  # fmt: skip

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
        self.cluster.set_state(node, "cordoned", "repair ordered")
        yield REPAIR_S
        self.cluster.mend(node)

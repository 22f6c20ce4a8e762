"""The whole simulated world: cluster, jobs, services, stories, and a clock that only goes when told to."""

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from holdfast.events import Dumps, Order
from holdfast.topology import JobId, Kind
from simulator.agents import IDLE_TELL_S, TELL_S, dump_record
from simulator.chance import stream
from simulator.cluster import Cluster
from simulator.evidence.job import JobStand
from simulator.gang import Gang, pick
from simulator.inference.spec import ServiceSpec
from simulator.nodes import SWITCH, Node
from simulator.physics.plan import Plan
from simulator.serving import Service
from simulator.stories.story import Story, Struck
from simulator.training import TrainingJob
from simulator.workload import Shape

_TICK_S = 1.0
# So long it takes a person to find a node that stands idle and broken, in simulated seconds.
_FOUND_S = 600.0


class Repairs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a node is out of service. median_s; sigma: spread of the logarithm, which makes the tail heavy; 0: always the same."""

    median_s: float = 600.0
    sigma: float = 0.0

    def of(self, seed: int, node: Node, now: float) -> float:
        """The time of one repair."""
        if not self.sigma:
            return self.median_s
        return float(self.median_s * math.exp(self.sigma * stream(seed, "repair", node.id, round(now)).normal()))


@dataclass
class World:
    """Simulated time begins at `cluster.now`; `advance` lives until the given moment.

    leaps: where nothing is watched time goes on in one step to the next thing that happens
    resting: jobs and services whose streams nobody writes; kept: what has no job is to be watched even if all rest
    observed_node_s: seconds of all nodes whose streams were written
    """

    cluster: Cluster
    repairs: Repairs = field(default_factory=Repairs)
    leaps: bool = False
    jobs: dict[str, TrainingJob] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    struck: list[Struck] = field(default_factory=list)
    evicted: list[tuple[float, str]] = field(default_factory=list)
    gang: Gang = field(default_factory=Gang)
    resting: set[str] = field(default_factory=set)
    kept: bool = False
    observed_node_s: float = 0.0
    _others_at: float = 0.0
    _due: list[tuple[float, int, Iterator[float]]] = field(default_factory=list)
    _turn: Iterator[int] = field(default_factory=itertools.count)

    # --- making it

    def add_job(self, name: str, shape: Shape, *, priority: int = 0, plan: Plan | None = None) -> TrainingJob:
        """A training job; it waits in the queue until there are nodes for it. plan: the physics of its steps"""
        job = self.jobs[name] = TrainingJob(name, shape, self.cluster, priority=priority, plan=plan)
        self.enqueue(job, 0.0)
        return job

    def enqueue(self, job: TrainingJob, wait_s: float, avoid: Iterable[str] = ()) -> None:
        """Have a job scheduled; its processes are there `wait_s` after it has its nodes."""

        def place(nodes: list[Node]) -> None:
            job.place(nodes)
            job.start(self.cluster.now, wait_s)

        self.gang.submit(job.shape.nodes, place, priority=job.priority, avoid=avoid)
        self.serve()

    def add_service(self, name: str, model: str, *, nodes: int, spec: ServiceSpec | None = None) -> Service:
        """An inference service on the first free nodes. spec: what it is made of, None the default of `Service`"""
        service = Service(name, model, self.cluster, spec=spec)
        service.place(self.free(nodes))
        self.services[name] = service
        return service

    def free(self, count: int, avoid: Iterable[str] = (), near: Iterable[Node] = ()) -> list[Node]:
        """Nodes that could take a job, at most `count`."""
        return pick(self._free(frozenset(avoid)), count, near=near)

    def _free(self, barred: frozenset[str]) -> list[Node]:
        return [n for n in self.cluster.nodes.values() if n.usable and not n.job and n.id not in barred]

    def tell(self, story: Story) -> None:
        """Begin a story now."""
        told = Struck(story=story, at=self.cluster.now, nodes=story.nodes(self))
        self.struck.append(told)
        self.plan(self.cluster.now, self._play(told))

    def _play(self, told: Struck) -> Iterator[float]:
        yield from told.story.play(self, told)
        told.over = True

    def plan(self, at: float, play: Iterator[float]) -> None:
        """Go on with something at a moment; equal times keep their order."""
        heapq.heappush(self._due, (at, next(self._turn), play))

    def trains(self, name: str) -> bool:
        """Whether a job has stepped in its present attempt and goes on; a service always serves."""
        job = self.jobs.get(name)
        return job is None or job.trains

    # --- time

    def advance(self, until: float) -> None:
        """Live in ticks of a second until `until`."""
        cluster = self.cluster
        while cluster.now < until:
            cluster.now = min(until, self._next(until))
            while self._due and self._due[0][0] <= cluster.now:
                _, _, play = heapq.heappop(self._due)
                wait_s = next(play, None)
                if wait_s is not None:
                    self.plan(cluster.now + wait_s, play)
            self._live()
            cluster.agents.advance(cluster.now)

    def _next(self, until: float) -> float:
        """The next moment on the grid of ticks at which anything can be seen or happens."""
        cluster = self.cluster
        if not self.leaps or self.watched:
            return cluster.now + _TICK_S
        return max(cluster.now + _TICK_S, min(until, self.due_at()))

    def due_at(self) -> float:
        """The moment on the grid of ticks at which the next thing happens by itself, infinity where nothing does."""
        if not self._due:
            return math.inf
        start = self.cluster.start
        return start + math.ceil((self._due[0][0] - start) / _TICK_S) * _TICK_S

    @property
    def watched(self) -> bool:
        """Whether anything is written now."""
        return not self.leaps or self.kept or len(self.resting) < len(self.jobs) + len(self.services)

    def is_watched(self, one: TrainingJob | Service) -> bool:
        """Whether the streams of a job or a service are written now."""
        return one.name not in self.resting

    def _live(self) -> None:
        cluster, now = self.cluster, self.cluster.now
        tells = self._on_grid(TELL_S)
        for job in self.jobs.values():
            if job.watched:
                job.advance(now)
                if tells and job.nodes:
                    cluster.columns += job.beat()
                if job.gives_up(now):
                    self.plan(now, self._watchdog(job))
        for service in self.services.values():
            if self.is_watched(service):
                service.advance(now)
        if self.watched:
            idle = self._on_grid(IDLE_TELL_S)
            self._hear_others(busy=tells, idle=idle)
            self._others_at = now if idle else self._others_at
            resting = sum(len(self.jobs[name].nodes) for name in self.resting if name in self.jobs)
            self.observed_node_s += _TICK_S * (len(cluster.nodes) - resting)
        elif now - self._others_at >= IDLE_TELL_S:  # leaps may be short: who has no job is not told to rest, and would seem silent
            self._hear_others(busy=True, idle=True)
            self._others_at = now

    def _watchdog(self, job: TrainingJob) -> Iterator[float]:
        """The collectives' timeout has passed: every rank that waits says so and aborts, and the launcher ends the rest."""
        attempt, stand = job.attempt, JobStand(job, self.cluster.seed, self.cluster.now).stand
        for rank in range(job.shape.world):
            lines = stand.watchdog_lines(rank, self.cluster.now)
            if lines and rank not in job.ended:
                job.say(rank, *lines)
                if any("Watchdog caught" in line for line in lines):  # others only hear of it, and are ended by the launcher
                    job.end(rank, signal=6)
        yield 5.0
        job.fail(134, attempt=attempt)

    def _hear_others(self, *, busy: bool, idle: bool) -> None:
        """The agents of nodes that no training job is on."""
        cluster = self.cluster
        for node in cluster.nodes.values() if busy else ():
            if node.job in self.jobs or node.job in self.resting or not (idle or node.job):
                continue
            if cluster.in_text(node):
                cluster.agents.tell(node, cluster.now)
            elif (heard := cluster.agents.number(node, cluster.now)) is not None:
                cluster.columns.append(heard)

    def _on_grid(self, every_s: float) -> bool:
        """Whether it is the turn of what happens every so often: by the clock, so that whoever was not watched is in step."""
        return (self.cluster.now - self.cluster.start) % every_s < _TICK_S / 2

    def settle(self) -> None:
        """Let those that nobody watches live until now, too."""
        for job in self.jobs.values():
            job.advance(self.cluster.now)

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
        # whoever speaks in columns has nothing more to add
        self.cluster.columns.append(Dumps(at=now, source=f"agents:{job.name}", job=JobId(job.name), order=order.id, dumps=()))

    def sick_nodes(self, order: Order) -> list[Node]:
        """The nodes an order speaks of."""
        found: dict[str, Node] = {}
        job = self.jobs.get(order.job)
        for target in order.targets:
            id = target.node or (target.id if target.kind is Kind.NODE else "")
            if not id and job is not None and target.kind is Kind.RANK and int(target.id) < job.shape.world and job.nodes:
                id = job.node_of(int(target.id)).id
            if id in self.cluster.nodes:
                found[id] = self.cluster.nodes[id]
        return list(found.values())

    def serve(self) -> None:
        """Give nodes to the jobs that wait: some may be usable again."""
        self.gang.serve(self._free)

    def tend(self, node: Node) -> None:
        """Have a node that nothing runs on and that cannot be used found by whoever looks after the cluster."""
        self.plan(self.cluster.now, self._find(node, node.booted_at))

    def _find(self, node: Node, booted_at: float) -> Iterator[float]:
        yield _FOUND_S
        broken = node.dead or any(not name.startswith(SWITCH) for name in node.holds)  # a switch is mended at the switch
        if broken and node.booted_at == booted_at and not node.job and not node.repairing:
            self.plan(self.cluster.now, self.repair(node, ordered=False))

    def repair(self, node: Node, *, ordered: bool = True) -> Iterator[float]:
        """A node out of service comes back mended. ordered: the loop has asked for it"""
        if ordered:
            self.evicted.append((self.cluster.now, node.id))
        self.cluster.scheduler.cordon(node, self.cluster.now)
        wait_s = self.repairs.of(self.cluster.seed, node, self.cluster.now)
        node.repairing = self.cluster.now + wait_s
        yield wait_s
        self.cluster.mend(node)
        self.serve()

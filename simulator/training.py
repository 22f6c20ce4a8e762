"""Simulated training jobs: their life, attempt after attempt, step after step."""

from dataclasses import dataclass, field
from typing import Any

from holdfast.events import Observation
from simulator.agents import Record
from simulator.cluster import Cluster
from simulator.nodes import DEVICES, IDLE_BYTES_PER_S, Node
from simulator.physics.plan import Plan
from simulator.planned import PlannedWorkload
from simulator.telling import Teller
from simulator.workload import Shape, Workload

_BUSY_BYTES_PER_S = 2e9


@dataclass
class Stuck:
    """Why a job stands still. kind: host, device, stopped, gone; rank: who; soft: a restart mends it."""

    kind: str
    rank: int
    soft: bool = True


@dataclass
class TrainingJob:
    """A job on its nodes. Ranks are placed in order, eight a node.

    watched: whether its streams are written; what is rare always is
    ended: rank -> (exit status, signal) in this attempt; saved: the last step in a checkpoint
    saving: (step, when it is safe) of the one that is being written; barked: the attempt whose watchdogs have given up
    plan: the physics of its steps, None: as `shape` says
    bumps: step -> added to the loss there, by the data and so in every run; nan: the loss is no number from here on
    """

    name: str
    shape: Shape
    cluster: Cluster
    nodes: list[Node] = field(default_factory=list)
    priority: int = 0
    state: str = "pending"
    attempt: int = 0
    step: int = -1
    saved: int = -1
    barked: int = -1
    saving: tuple[int, float] | None = None
    ready_at: float = 0.0
    begun_at: float = 0.0
    ends_at: float = 0.0
    stepped_at: float = 0.0
    saving_until: float = 0.0
    stuck: Stuck | None = None
    nan: bool = False
    bumps: dict[int, float] = field(default_factory=dict)
    ended: dict[int, tuple[int | None, int | None]] = field(default_factory=dict)
    watched: bool = True
    plan: Plan | None = None
    work: Workload = field(init=False)
    teller: Teller = field(init=False)

    def __post_init__(self) -> None:
        seed = self.cluster.seed
        self.work = PlannedWorkload(self.shape, seed, self.name, self.plan) if self.plan else Workload(self.shape, seed, self.name)
        self.teller = Teller(self)

    @property
    def slow(self) -> dict[int, float]:
        """Rank -> factor of its own work."""
        return self.work.drag.compute

    def node_of(self, rank: int) -> Node:
        return self.nodes[rank // DEVICES]

    def ranks_on(self, node: Node) -> range:
        first = self.nodes.index(node) * DEVICES
        return range(first, first + DEVICES)

    # --- its life

    def place(self, nodes: list[Node], *, order: str = "") -> None:
        """Give it its machines: one pod each, `<job>-worker-<n>`. A pod stays where its node does. order: what has asked for it."""
        now, scheduler = self.cluster.now, self.cluster.scheduler
        kept = {n for n, (old, new) in enumerate(zip(self.nodes, nodes, strict=False)) if old is new}
        for n, node in enumerate(self.nodes):
            if n not in kept:
                node.job, node.attempt = "", 0
                node.flow(now, IDLE_BYTES_PER_S)
                scheduler.remove(self.pod(n), now, order=order)
        for n, node in enumerate(nodes):
            node.job = self.name
            if n not in kept:
                labels = {"volcano.sh/job-name": self.name, "volcano.sh/task-index": str(n)}
                scheduler.create(self.pod(n), self.name, node, now, labels=labels)
        self.nodes = nodes

    def start(self, now: float, wait_s: float) -> None:
        """Begin an attempt; the processes are there after `wait_s`."""
        if self.state != "pending":
            self.attempt += 1
        for node in self.nodes:
            node.attempt = self.attempt
        if self.state != "pending":
            self.teller.job("restarting")
        self.state, self.ready_at, self.stuck, self.nan = "starting", now + wait_s, None, False
        self._settle(now)
        self.step, self.saving = self.saved, None
        self.ended.clear()
        self.teller.forget()

    def stop(self) -> None:
        """End it for good."""
        if self.state not in ("stopped", "finished"):
            self.state = "stopped"
            self.teller.job("stopped")

    def fail(self, exit_code: int, *, attempt: int) -> None:
        """The launcher of an attempt gives up; too late where another has begun."""
        if attempt != self.attempt or self.state != "running":
            return
        self.state = "failed"
        self.teller.job("failed", exit_code=exit_code)

    def advance(self, now: float) -> None:
        """Live until `now`."""
        if self.state == "starting" and now >= self.ready_at:
            self._begin()
        flows = self.state == "running" and not self.held
        if flows:
            while now >= self.ends_at:
                self._finish_step()
        if self.nodes and (self.nodes[0].sent[2] > IDLE_BYTES_PER_S) != flows:
            for node in self.nodes:
                node.flow(now, _BUSY_BYTES_PER_S if flows else IDLE_BYTES_PER_S)

    @property
    def held(self) -> bool:
        """Whether something keeps the present step from ending."""
        return self.stuck is not None or any(node.holds for node in self.nodes)

    def gives_up(self, now: float) -> bool:
        """Whether the watchdogs of its collectives have just had enough of a step that does not end; once in an attempt."""
        waits = self.state == "running" and self.step > self.saved and self.held
        if not waits or now - self.stepped_at < self.shape.watchdog_s or self.barked == self.attempt:
            return False
        self.barked = self.attempt
        return True

    @property
    def trains(self) -> bool:
        """Whether it has stepped in its present attempt and goes on."""
        return self.state == "running" and not self.held and self.stepped_at > self.begun_at

    def _begin(self) -> None:
        self.state, self.begun_at, self.stepped_at = "running", self.ready_at, self.ready_at
        self.cluster.scheduler.run(self.name, self.cluster.now)
        self.teller.begun()
        self._begin_step(self.ready_at + self.shape.load_s)

    def _settle(self, now: float) -> None:
        """A checkpoint that is written by now is one a restart begins from."""
        if self.saving is not None and self.saving[1] <= now:
            self.saved, self.saving = self.saving[0], None

    def _begin_step(self, at: float) -> None:
        self.ends_at = at + self.work.seconds(self.step + 1, self.nodes)

    def _finish_step(self) -> None:
        began = self.stepped_at
        first = self.step == self.saved and began == self.begun_at
        self.step += 1
        self.stepped_at = at = self.ends_at
        saved_s = self.saving_until - began if self.saving_until > began else 0.0
        if self.watched:
            whole = self.work.seconds(self.step, self.nodes) if first else at - began
            self.teller.stepped(whole, checkpoint_s=max(0.0, saved_s))
        self._settle(at)
        due = self.step % self.shape.checkpoint_every == self.shape.checkpoint_every - 1
        if due and not self.nan and self.saving is None:  # none is begun while the one before is being written
            self.saving, self.saving_until = (self.step, at + self.shape.durable_s), at + self.shape.checkpoint_s
            self._settle(at)
            at = self.saving_until
        self._begin_step(at)

    # --- what others say for it

    def pod(self, n: int) -> str:
        """The name of its n-th worker."""
        return f"{self.name}-worker-{n}"

    def pid(self, rank: int) -> int:
        return 20_000 + rank

    def say(self, rank: int, *text: str) -> None:
        """Lines of a rank's own output."""
        self.teller.say(rank, *text)

    def end(self, rank: int, *, exit_code: int | None = None, signal: int | None = None) -> None:
        """A rank's process has ended."""
        self.ended[rank] = exit_code, signal
        self.teller.process(rank, "exited", exit_code=exit_code, signal=signal)

    def tell(self, rank: int, state: str, **known: Any) -> None:
        """A rank's process is in another state."""
        self.teller.process(rank, state, **known)

    def beat(self) -> list[Observation]:
        """A sign of life of all its ranks: through the agents, and what needs no text as columns."""
        return self.teller.beat()

    def facts(self) -> Record:
        """What whoever started the job knows of it."""
        shape = self.shape
        return {
            "devices": shape.world, "nodes": [node.id for node in self.nodes], "peak_flops_per_device": shape.peak_flops,
            "flops_per_token": shape.flops_per_token, "tokens_per_step": shape.tokens_per_step,
            "ranks": {node.id: [n * DEVICES, n * DEVICES + DEVICES - 1] for n, node in enumerate(self.nodes)},
            "layout": {"tp": shape.tp, "pp": shape.pp, "dp": shape.dp, "order": "tp-dp-pp"},
            "devices_reference": DEVICES,
            "tokens_per_s_reference": shape.tokens_per_step / shape.step_s / shape.world * DEVICES * 1.04,
        }  # fmt: skip

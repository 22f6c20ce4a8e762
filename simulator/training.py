"""Simulated training jobs: synchronous steps, checkpoints, attempts, and what each rank's agent reports."""

from dataclasses import dataclass, field

import numpy as np

from holdfast.events import Beat, Beats, Lines, Received, Steps
from holdfast.topology import JobId, NodeId, job_of, rank_of
from simulator.chance import stream
from simulator.cluster import DEVICES, Cluster, Node

BEAT_S = 2.0
SIGNALS = (
    "step_s", "loss", "loss_nan", "grad_norm", "tokens", "phase.forward_s", "phase.backward_s", "phase.all_reduce_s",
    "phase.data_s",
)  # fmt: skip
_COMM = 0.12  # share of a step that is communication even where nobody is late


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a job is. tp, pp: sizes of its tensor and pipeline groups, the rest is data parallel; peak_flops: per device

    step_s: seconds of a healthy step; restart_s: from the order to the first process; checkpoint_every: steps
    """

    nodes: int
    tp: int = 8
    pp: int = 1
    step_s: float = 6.0
    restart_s: float = 20.0
    schedule_s: float = 40.0
    checkpoint_every: int = 20
    checkpoint_s: float = 5.0
    tokens_per_step: float = 4_194_304.0
    flops_per_token: float = 4.2e10
    peak_flops: float = 989e12

    @property
    def world(self) -> int:
        return self.nodes * DEVICES

    @property
    def dp(self) -> int:
        return self.world // (self.tp * self.pp)


@dataclass
class Stuck:
    """Why a job stands still. kind: host, device, stopped, gone; rank: who; soft: a restart mends it."""

    kind: str
    rank: int
    soft: bool = True


@dataclass
class TrainingJob:
    """A job on its nodes. Ranks are placed in order, eight a node."""

    name: str
    shape: Shape
    cluster: Cluster
    nodes: list[Node] = field(default_factory=list)
    state: str = "pending"
    attempt: int = 0
    step: int = -1
    saved: int = -1
    ready_at: float = 0.0
    begun_at: float = 0.0
    ends_at: float = 0.0
    stepped_at: float = 0.0
    saving_until: float = 0.0
    stuck: Stuck | None = None
    slow: dict[int, float] = field(default_factory=dict)
    nan: bool = False
    lines: int = 0
    _beat_at: float = 0.0
    _sequence: int = 0

    def node_of(self, rank: int) -> Node:
        return self.nodes[rank // DEVICES]

    def ranks_on(self, node: Node) -> range:
        first = self.nodes.index(node) * DEVICES
        return range(first, first + DEVICES)

    # --- its life

    def place(self, nodes: list[Node]) -> None:
        """Give it its machines."""
        for node in self.nodes:
            node.job = ""
        self.nodes = nodes
        for node in nodes:
            node.job = self.name

    def start(self, now: float, wait_s: float) -> None:
        """Begin an attempt; the processes are there after `wait_s`."""
        if self.state != "pending":
            self.attempt += 1
            self.cluster.change(job_of(self.name), "restarting", job=self.name, attempt=self.attempt)
        self.state, self.ready_at, self.stuck, self.nan = "starting", now + wait_s, None, False
        self.step = self.saved

    def stop(self) -> None:
        """End it for good."""
        if self.state not in ("stopped", "finished"):
            self.state = "stopped"
            self.cluster.change(job_of(self.name), "stopped", job=self.name, attempt=self.attempt)

    def fail(self, exit_code: int, *, attempt: int) -> None:
        """The launcher of an attempt gives up; too late where another has begun."""
        if attempt != self.attempt or self.state != "running":
            return
        self.state = "failed"
        self.cluster.change(job_of(self.name), "failed", job=self.name, attempt=self.attempt, exit_code=exit_code)

    def advance(self, now: float) -> None:
        """Live until `now`."""
        if self.state == "starting" and now >= self.ready_at:
            self._begin()
        while self.state == "running" and not self.held and now >= self.ends_at:
            self._finish_step()
        if self.state != "stopped" and now >= self._beat_at:
            self._beat_at = now + BEAT_S
            self._beat(now)

    @property
    def held(self) -> bool:
        """Whether something keeps the present step from ending."""
        return self.stuck is not None or any(node.holds for node in self.nodes)

    def _begin(self) -> None:
        self.state, self.begun_at, self.stepped_at = "running", self.ready_at, self.ready_at
        shape = self.shape
        placed = {node.id: [self.nodes.index(node) * DEVICES, self.nodes.index(node) * DEVICES + 7] for node in self.nodes}
        detail = {
            "devices": shape.world, "nodes": [node.id for node in self.nodes], "peak_flops_per_device": shape.peak_flops,
            "flops_per_token": shape.flops_per_token, "tokens_per_step": shape.tokens_per_step, "world_size": shape.world,
            "ranks": placed, "devices_reference": DEVICES,
            "tokens_per_s_reference": shape.tokens_per_step / shape.step_s / shape.world * DEVICES * 1.04,
        }  # fmt: skip
        self.cluster.change(job_of(self.name), "started", job=self.name, attempt=self.attempt, detail=detail)
        self.say(0, f"[holdfast-sim] attempt {self.attempt}: {shape.world} ranks, resuming after step {self.saved}")
        self._begin_step(self.ready_at + 5.0)

    # --- steps

    def _begin_step(self, at: float) -> None:
        self.ends_at = at + float(self._work_s().max()) * (1.0 + _COMM)

    def _work_s(self) -> np.ndarray:
        """Seconds of each rank's own work in the next step, shape (world,)."""
        noise = stream(self.cluster.seed, "work", self.name, self.attempt, self.step).normal(1.0, 0.004, self.shape.world)
        work = self.shape.step_s / (1.0 + _COMM) * np.clip(noise, 0.98, 1.02)
        for rank, factor in self.slow.items():
            work[rank] *= factor
        for n, node in enumerate(self.nodes):
            for device in node.devices:
                if device.throttle < 1.0:
                    work[n * DEVICES + device.index] /= device.throttle
        return np.asarray(work)

    def _finish_step(self) -> None:
        work, began = self._work_s(), self.stepped_at
        self.step += 1
        self.stepped_at = at = self.ends_at
        loss, grad_norm = self._loss(), 0.4 + 0.1 * float(stream(self.cluster.seed, "norm", self.name, self.step).random())
        values = np.empty((self.shape.world, len(SIGNALS)))
        whole = at - began if self.step > self.saved + 1 else float(work.max()) * (1.0 + _COMM)
        values[:, 0] = whole
        values[:, 1:5] = np.nan if self.nan else loss, float(self.nan), grad_norm, self.shape.tokens_per_step / self.shape.world
        values[:, 5], values[:, 6], values[:, 8] = work * 0.32, work * 0.64, work * 0.04
        values[:, 7] = float(work.max()) * (1.0 + _COMM) - work  # who arrives last waits least
        heard = np.repeat([not node.silent for node in self.nodes], DEVICES)
        ranks = np.flatnonzero(heard)
        self.cluster.say(
            Steps(
                at=at, source=f"agents:{self.name}", job=JobId(self.name), ranks=ranks, steps=np.full_like(ranks, self.step),
                ended_at=np.full(len(ranks), at), signals=SIGNALS, values=values[heard],
            )
        )  # fmt: skip
        self._log_step(whole, loss, grad_norm)
        if self.step % self.shape.checkpoint_every == self.shape.checkpoint_every - 1 and not self.nan:
            self.saved, self.saving_until = self.step, at + self.shape.checkpoint_s
            at = self.saving_until
        self._begin_step(at)

    def _loss(self) -> float:
        noise = float(stream(self.cluster.seed, "loss", self.name, self.step).normal(0.0, 0.01))
        return float(1.8 + 9.0 / (self.step + 10) ** 0.5 + noise)

    def _log_step(self, seconds: float, loss: float, grad_norm: float) -> None:
        shown = f" lm loss: {loss:.6E} |" if not self.nan else ""
        shape = self.shape
        tflops = shape.tokens_per_step * shape.flops_per_token / seconds / shape.world / 1e12
        self.say(
            shape.world - 1,
            f" iteration {self.step + 1:8d}/  500000 | consumed samples: {(self.step + 1) * 1024:12d} | elapsed time per iteration (ms): "
            f"{seconds * 1e3:.1f} | throughput per GPU (TFLOP/s/GPU): {tflops:.1f} | learning rate: 1.500000E-04 | global batch size: "
            f" 1024 |{shown} loss scale: 1.0 | grad norm: {grad_norm:.3f} | number of skipped iterations:   0 | number of nan "
            f"iterations: {int(self.nan):3d} |",
        )

    # --- what is said

    def say(self, rank: int, *text: str) -> None:
        """Lines of a rank's own output."""
        first = self.lines + 1
        self.lines += len(text)
        node = self.node_of(rank)
        self.cluster.say(
            Lines(
                at=self.cluster.now, source=f"joblog:{self.name}", job=JobId(self.name), node=NodeId(node.id),
                file=f"rank{rank}.log", first=first, lines=tuple(text), rank=rank,
            )
        )  # fmt: skip

    def process(self, rank: int, state: str, **known: object) -> None:
        """A rank's process is in another state."""
        node = self.node_of(rank)
        self.cluster.change(
            rank_of(self.name, rank, node=node.id), state, job=self.name, node=node.id, attempt=self.attempt, **known
        )

    def _beat(self, now: float) -> None:
        saving = "checkpoint" if now < self.saving_until else ""
        self._sequence += 1
        for node in self.nodes:
            if node.silent or node.dead:
                continue
            beats: tuple[Beat, ...] = ()
            if self.state == "running":
                stepped_at = self.stepped_at if self.step > self.saved or self.stepped_at > self.begun_at else 0.0
                beats = tuple(Beat(rank=r, step=self.step, stepped_at=stepped_at, phase=saving) for r in self.ranks_on(node))
            source, job, id = f"agent:{node.id}", JobId(self.name), NodeId(node.id)
            boot = f"{node.booted_at:.0f}"
            self.cluster.say(Beats(at=now, source=source, job=job, node=id, attempt=self.attempt, beats=beats))
            self.cluster.say(
                Received(at=now, source=source, job=job, node=id, agent=source, boot=boot, sequence=self._sequence)
            )

"""Simulated training jobs: synchronous steps, checkpoints, attempts, and what each rank's agent reports."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simulator.agents import Record
from simulator.chance import stream
from simulator.cluster import Cluster
from simulator.nodes import DEVICES, Node

SIGNALS = (
    "step_s", "loss", "grad_norm", "tokens", "phase.forward_s", "phase.backward_s", "phase.all_reduce_s", "phase.data_s",
)  # fmt: skip
_CHECKPOINT_BYTES = 2_000_000_000  # of a rank
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
    """A job on its nodes. Ranks are placed in order, eight a node. ended: rank -> (exit status, signal) in this attempt."""

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
    ended: dict[int, tuple[int | None, int | None]] = field(default_factory=dict)

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
            self._say_job("restarting")
        self.state, self.ready_at, self.stuck, self.nan = "starting", now + wait_s, None, False
        self.step = self.saved
        self.ended.clear()

    def stop(self) -> None:
        """End it for good."""
        if self.state not in ("stopped", "finished"):
            self.state = "stopped"
            self._say_job("stopped")

    def fail(self, exit_code: int, *, attempt: int) -> None:
        """The launcher of an attempt gives up; too late where another has begun."""
        if attempt != self.attempt or self.state != "running":
            return
        self.state = "failed"
        self._say_job("failed", exit_code=exit_code)

    def advance(self, now: float) -> None:
        """Live until `now`."""
        if self.state == "starting" and now >= self.ready_at:
            self._begin()
        while self.state == "running" and not self.held and now >= self.ends_at:
            self._finish_step()

    @property
    def held(self) -> bool:
        """Whether something keeps the present step from ending."""
        return self.stuck is not None or any(node.holds for node in self.nodes)

    def _begin(self) -> None:
        self.state, self.begun_at, self.stepped_at = "running", self.ready_at, self.ready_at
        self.cluster.scheduler.run(self.name, self.cluster.now)
        self._say_job("started", facts=self._facts())
        for node in self.nodes:
            self.cluster.agents.say(node, *(self._process(rank, "running") for rank in self.ranks_on(node)))
        self.say(0, f"[holdfast-sim] attempt {self.attempt}: {self.shape.world} ranks, resuming after step {self.saved}")
        self._begin_step(self.ready_at + 5.0)

    def _facts(self) -> dict[str, Any]:
        """What whoever started the job knows of it."""
        shape = self.shape
        return {
            "devices": shape.world, "nodes": [node.id for node in self.nodes], "peak_flops_per_device": shape.peak_flops,
            "flops_per_token": shape.flops_per_token, "tokens_per_step": shape.tokens_per_step,
            "ranks": {node.id: [n * DEVICES, n * DEVICES + DEVICES - 1] for n, node in enumerate(self.nodes)},
            "devices_reference": DEVICES,
            "tokens_per_s_reference": shape.tokens_per_step / shape.step_s / shape.world * DEVICES * 1.04,
        }  # fmt: skip

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
        whole = at - began if self.step > self.saved + 1 else float(work.max()) * (1.0 + _COMM)
        self._report_step(work, whole, loss, grad_norm)
        self._log_step(whole, loss, grad_norm)
        if self.step % self.shape.checkpoint_every == self.shape.checkpoint_every - 1 and not self.nan:
            self.saved, self.saving_until = self.step, at + self.shape.checkpoint_s
            at = self.saving_until
        self._begin_step(at)

    def _report_step(self, work: np.ndarray, whole: float, loss: float, grad_norm: float) -> None:
        """What each rank reports of a step, told by its node's agent. What is no number is told beside it, as `<name>_nan`."""
        shape, at = self.shape, self.stepped_at
        wait = float(work.max()) * (1.0 + _COMM) - work  # who arrives last waits least
        phases = np.round(np.stack([work * 0.32, work * 0.64, wait, work * 0.04], axis=1), 6).tolist()
        same: list[float | None] = [round(whole, 6), round(loss, 6), round(grad_norm, 6), shape.tokens_per_step / shape.world]
        beside = ("loss_nan", "grad_norm_nan") if self.nan else ()
        if self.nan:
            same[1:3] = None, None
        for n, node in enumerate(self.nodes):
            ranks = list(range(n * DEVICES, (n + 1) * DEVICES))
            record = {
                "type": "steps", "at": self.cluster.now, "ranks": ranks, "steps": [self.step] * DEVICES, "ended_at": [at] * DEVICES,
                "signals": (*SIGNALS, *beside), "values": [[*same, *phases[rank], *(1.0 for _ in beside)] for rank in ranks],
            }  # fmt: skip
            self.cluster.agents.say(node, record)

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
        self.cluster.write(f"attempt-{self.attempt}/rank{rank}.log", *text, node=self.node_of(rank))

    def pod(self, n: int) -> str:
        """The name of its n-th worker."""
        return f"{self.name}-worker-{n}"

    def pid(self, rank: int) -> int:
        return 20_000 + rank

    def end(self, rank: int, *, exit_code: int | None = None, signal: int | None = None) -> None:
        """A rank's process has ended."""
        self.ended[rank] = exit_code, signal
        self.tell(rank, "exited", exit_code=exit_code, signal=signal)

    def tell(self, rank: int, state: str, **known: int | None) -> None:
        """A rank's process is in another state."""
        self.cluster.agents.say(self.node_of(rank), self._process(rank, state, **known))

    def beat(self, node: Node) -> Record:
        """A sign of life of the ranks on a node."""
        now, ranks = self.cluster.now, []
        if self.state == "running":
            saving = now < self.saving_until
            stepped_at = self.stepped_at if self.step > self.saved or self.stepped_at > self.begun_at else 0.0
            same = {
                "step": self.step if stepped_at else -1, "stepped_at": stepped_at, "phase": "checkpoint" if saving else "",
                "phase_at": self.stepped_at if saving else 0.0, "cpu_s": round(0.9 * (now - self.begun_at), 3),
                "io_bytes": _CHECKPOINT_BYTES * (self.step // self.shape.checkpoint_every + 1),
            }  # fmt: skip
            ranks = [{"rank": rank, **same} for rank in self.ranks_on(node) if rank not in self.ended]
        return {"type": "beat", "at": now, "ranks": ranks}

    def _process(self, rank: int, state: str, **known: int | None) -> Record:
        now = self.cluster.now
        return {
            "type": "process", "at": now, "rank": rank, "pid": self.pid(rank), "start_time": int((now - self.cluster.start) * 100),
            "name": "python3", "state": state, "exit_code": None, "signal": None, "since": now, "wchan": "", "parent": 19_000, **known,
        }  # fmt: skip

    def _say_job(self, state: str, **known: Any) -> None:
        """The agent beside rank 0 tells of the whole job."""
        record = {
            "type": "job", "at": self.cluster.now, "state": state, "attempt": self.attempt, "exit_code": None, "signal": None,
            "world_size": self.shape.world, "pid": 19_000, **known,
        }  # fmt: skip
        self.cluster.agents.say(self.nodes[0], record)

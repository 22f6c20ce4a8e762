"""A training job worked out in advance: its step, its parts by pipeline stage, memory, checkpoints and start-up."""

from dataclasses import dataclass

import numpy as np

from simulator.physics.checkpoints import Checkpoint, Storage, checkpoint, checkpoint_bytes, copy_s, read_s
from simulator.physics.costs import Costs, Job, costs_of
from simulator.physics.devices import DeviceKind
from simulator.physics.fabric import Fabric
from simulator.physics.layout import Layout
from simulator.physics.models import Model
from simulator.physics.noise import straggle_s
from simulator.physics.software import Software
from simulator.physics.startup import startup_s
from simulator.physics.step import PHASES, Conditions, Step, step_of
from simulator.physics.tables import PhysicsError
from simulator.physics.variation import vary

_USUAL = Conditions()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A job that fits and divides.

    step_s: seconds of a step on average, the wait for the slowest of healthy devices included; steady: the step in which
    all devices are equal; phases: seconds by stage, shape (stages, len(PHASES)), rows sum to step_s
    """

    job: Job
    costs: Costs
    steady: Step
    step_s: float
    phases: np.ndarray

    @property
    def tokens_per_step(self) -> int:
        return self.job.layout.tokens_per_step

    @property
    def flops_per_token(self) -> float:
        """Of the model, forward and backward, as MFU counts them."""
        return self.job.model.flops_per_token(self.job.layout.sequence)

    @property
    def peak_flops(self) -> float:
        """Of one device."""
        return self.job.device.peak(self.job.dtype)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens_per_step / self.step_s

    @property
    def mfu(self) -> float:
        """Model FLOPs utilisation: model FLOP/s over the peak of all devices."""
        return self.tokens_per_s * self.flops_per_token / (self.peak_flops * self.job.layout.world)

    @property
    def memory_bytes(self) -> np.ndarray:
        """Used on one device of each stage, shape (stages,)."""
        return self.costs.memory_bytes

    @property
    def passes(self) -> tuple[int, int, int, int]:
        """The shape of one step's jitter: chunks, stages, micro-batches, replicas."""
        layout = self.job.layout
        return layout.chunks, layout.pp, layout.micro_batches, layout.dp

    def step(self, conditions: Conditions = _USUAL) -> Step:
        """Time one step under these conditions, for every rank. raises PhysicsError: an array of another shape"""
        return step_of(self.job, self.costs, conditions)

    def vary(self, step: Step, chance: np.random.Generator) -> Step:
        """A step under the same conditions with the jitter of another, at a tenth of the cost. step: one without jitter"""
        return vary(self.job, step, chance)

    @property
    def checkpoint_bytes(self) -> float:
        return checkpoint_bytes(self.job)

    def checkpoint(self, mode: str, storage: Storage | None = None, *, slower: float = 1.0) -> Checkpoint:
        """What one checkpoint costs. mode: sync, async or memory; slower: how much slower than usual the storage is"""
        return checkpoint(self.job, mode, storage, slower=slower)

    def startup_s(
        self,
        storage: Storage | None = None,
        *,
        restart: bool = False,
        cached: bool = False,
        store: str = "ordered",
        in_memory: bool = False,
    ) -> dict[str, float]:
        """Seconds of each phase of a start.

        restart: processes anew in pods that are there; cached: their image is on the nodes; store: how process groups find
        each other; in_memory: the checkpoint is in the hosts' memory, otherwise it is read from storage
        """
        storage = storage or Storage()
        load_s = copy_s(self.job, storage) if in_memory else read_s(self.job, storage)
        return startup_s(self.job.layout.world, load_s=load_s, step_s=self.step_s, restart=restart, cached=cached, store=store)


def plan(
    model: Model,
    device: DeviceKind,
    layout: Layout,
    *,
    fabric: Fabric | None = None,
    software: Software | None = None,
    dtype: str = "bf16",
    slots: np.ndarray | None = None,
) -> Plan:
    """Work a job out.

    slots: place in the cluster of each of the job's nodes, in rank order, shape (nodes,); side by side where None
    raises PhysicsError: it does not divide, does not fit its devices' memory, or slots has another shape
    """
    slots = np.arange(layout.nodes) if slots is None else slots
    if slots.shape != (layout.nodes,):
        raise PhysicsError(f"slots of shape {slots.shape} for {layout.nodes} nodes")
    job = Job(
        model=model, device=device, layout=layout, fabric=fabric or Fabric(), software=software or Software(), dtype=dtype, slots=slots,
    )  # fmt: skip
    costs = costs_of(job)
    steady = step_of(job, costs, _USUAL)
    busiest = int(steady.run.busy_s.max(axis=1).argmax())
    passes = steady.run.ends[busiest, :, 0] - steady.run.starts[busiest, :, 0]
    slower = straggle_s(
        float(passes.sum()), passes, world=layout.world, lanes=layout.dp * layout.pp, software=job.software,
    )  # fmt: skip
    by_stage = steady.phases[layout.ranks].mean(axis=(1, 2, 3))
    by_stage[:, PHASES.index("dp_wait")] += slower
    return Plan(job=job, costs=costs, steady=steady, step_s=steady.step_s + slower, phases=by_stage)

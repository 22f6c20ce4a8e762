"""A workload worked out from a model's shape, its devices and the network: see `simulator/physics`."""

from typing import Any

import numpy as np

from simulator.nodes import DEVICES, Node
from simulator.physics.devices import device_kind
from simulator.physics.fabric import Fabric as Network
from simulator.physics.layout import Layout
from simulator.physics.models import model_shape
from simulator.physics.plan import Plan, plan
from simulator.physics.step import PHASES, Conditions, Step
from simulator.workload import Shape, Workload

_AT = {name: n for n, name in enumerate(PHASES)}
_OWN = ("data", "host", "forward", "backward", "optimizer")


class PlannedWorkload(Workload):
    """Steps by the physics of the job where it is placed; what slows a rank is played through the pipeline and the groups.

    Uneven sequences and stages are drawn as in any other workload, on top of it.
    """

    def __init__(self, shape: Shape, seed: int, name: str, planned: Plan) -> None:
        super().__init__(shape, seed, name)
        self._plan, self._slots = planned, tuple(int(slot) for slot in planned.job.slots)
        self._played: tuple[object, Step] = ((), planned.steady)

    def seconds(self, step: int, nodes: list[Node]) -> float:
        """How long a step takes."""
        uneven = max(self._tokens(step).max(initial=1.0), 1.0) * max(self._stages(), default=1.0)
        pause_s = self._collection(step)[1]
        return float(self._step(nodes).step_s * self._jitter(step) * uneven + self.drag.communication_s + pause_s)

    def phases(self, step: int, nodes: list[Node]) -> np.ndarray:
        """forward, backward, all_reduce (all transfers and waits in it) and data seconds of each rank in a step, shape (world, 4)."""
        played, share = self._step(nodes), self._jitter(step) * (1.0 - self._slack(step))
        if self.shape.sequence_sigma:
            share = share * self._tokens(step)[self._replica_of]
        if stages := self._stages():
            share = share * np.asarray(stages)[self._stage_of]
        own = {name: played.phases[:, _AT[name]] * share for name in _OWN}
        rank, pause_s = self._collection(step)
        own["host"][rank] += pause_s
        rest = np.maximum(self.seconds(step, nodes) - sum(own.values()), 0.0)
        return np.stack([own["forward"], own["backward"] + own["optimizer"], rest, own["data"] + own["host"]], axis=1)

    def _step(self, nodes: list[Node]) -> Step:
        """The step as things stand: played anew only when something has changed."""
        slots = tuple(node.index for node in nodes) or self._slots
        if slots != self._slots:
            job = self._plan.job
            self._plan = plan(
                job.model, job.device, job.layout, fabric=job.fabric, software=job.software, dtype=job.dtype, slots=np.array(slots),
            )  # fmt: skip
            self._slots, self._played = slots, ((), self._plan.steady)
        odd, late = self._odd(nodes), self.drag.data_s
        key = (tuple(odd.items()), tuple(late.items()))
        if key != self._played[0]:
            compute, data_s = np.ones(self.shape.world), np.zeros(self.shape.world)
            for rank, factor in odd.items():
                compute[rank] = factor
            for rank, more_s in late.items():
                data_s[rank] = more_s
            self._played = key, self._plan.step(Conditions(compute=compute, data_s=data_s)) if odd or late else self._plan.steady
        return self._played[1]


def planned(model: str, device: str, layout: Layout, *, pod_nodes: int, spine_pods: int) -> Plan:
    """A plan of a job on a cluster of such pods, its nodes side by side. raises PhysicsError: it does not divide or fit, no such name"""
    network = Network(leaf_nodes=pod_nodes, pod_nodes=pod_nodes * spine_pods)
    return plan(model_shape(model), device_kind(device), layout, fabric=network)


def shape_of(made: Plan, *, checkpoint: str, **known: Any) -> Shape:
    """What the rest of the simulator asks of a job. known: of `Shape`, what the physics does not say"""
    layout, fresh, again, saved = made.job.layout, made.startup_s(), made.startup_s(restart=True), made.checkpoint(checkpoint)
    startup = tuple((name, fresh[name]) for name in ("group_init", "checkpoint_load", "warm_up"))
    return Shape(
        nodes=layout.world // DEVICES, tp=layout.tp * layout.cp, pp=layout.pp, step_s=made.step_s, checkpoint_s=saved.stall_s,
        durable_s=saved.durable_s, restart_s=again["process_start"], load_s=sum(seconds for _, seconds in startup), startup=startup,
        schedule_s=fresh["schedule"] + fresh["image_pull"] + fresh["process_start"], tokens_per_step=float(made.tokens_per_step),
        flops_per_token=made.flops_per_token, peak_flops=made.peak_flops, **known,
    )  # fmt: skip

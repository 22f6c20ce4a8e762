"""What the devices of a job do now: work, wait for a peer, or nothing. A rank that waits in a collective spins at little power."""

from collections.abc import Sequence

import numpy as np

from simulator.nodes import DEVICES, Node
from simulator.readings import IDLE, SERVING, WORKING, Load, even
from simulator.serving import Service
from simulator.training import TrainingJob

# A spinning kernel is busy all of the time at about a fifth of the power, and no tensor core works.
_WAITING = even(1.0, 0.2, 0.0)
_IDLE_KINDS = frozenset({"host", "locked", "storage", "stopped", "gone", "device_before"})


def loads_of(nodes: Sequence[Node], job: TrainingJob | Service | None) -> list[Load]:
    """The loads of the devices of nodes that all have the same job."""
    if isinstance(job, Service):
        return [SERVING if job.state == "running" else IDLE] * len(nodes)
    if job is None or job.state != "running":
        return [IDLE] * len(nodes)
    if not job.held:
        return [WORKING] * len(nodes)
    return [_waiting(node, job) for node in nodes]


def _waiting(node: Node, job: TrainingJob) -> Load:
    """The load of a node whose job stands still."""
    stuck = job.stuck
    if stuck is not None and stuck.kind in _IDLE_KINDS and stuck.rank // DEVICES < len(job.nodes) and job.node_of(stuck.rank) is node:
        idle = np.arange(DEVICES) == stuck.rank % DEVICES
        return Load(*(np.where(idle, 0.0, column) for column in (_WAITING.busy, _WAITING.power, _WAITING.tensor)))
    return _WAITING

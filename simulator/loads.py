"""What the devices of a job do now: work, wait for a peer, or nothing. A rank that waits in a collective spins at little power."""

import numpy as np

from simulator.nodes import DEVICES, Node
from simulator.readings import IDLE, SERVING, WORKING, Load, even
from simulator.serving import Service
from simulator.training import TrainingJob

# A spinning kernel is busy all of the time at about a fifth of the power, and no tensor core works.
_WAITING = even(1.0, 0.2, 0.0)
_IDLE_KINDS = frozenset({"host", "stopped", "gone"})


def load_of(node: Node, job: TrainingJob | Service | None) -> Load:
    """The load of a node's devices."""
    if isinstance(job, Service):
        return SERVING if job.state == "running" else IDLE
    if job is None or job.state != "running":
        return IDLE
    if not job.held:
        return WORKING
    stuck = job.stuck
    if stuck is not None and stuck.kind in _IDLE_KINDS and stuck.rank // DEVICES < len(job.nodes) and job.node_of(stuck.rank) is node:
        idle = np.arange(DEVICES) == stuck.rank % DEVICES
        return Load(*(np.where(idle, 0.0, column) for column in (_WAITING.busy, _WAITING.power, _WAITING.tensor)))
    return _WAITING

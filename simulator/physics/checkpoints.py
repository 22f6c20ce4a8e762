"""Bytes and seconds of checkpoints: written at once, in the background, or kept in memory; and of reading one again.

Calibrated on Baidu AIHC's documentation of FlashCkpt: saving 7B, 70B and 130B blocks 35, 143 and 262 s at once, 2.5, 4 and
3.8 s in the background; and on ByteRobust (SOSP'25, arXiv:2509.16293): 0.01 to 0.04 s a step for one kept in memory.
"""

import msgspec

from simulator.physics.costs import Job
from simulator.physics.devices import DEVICES_PER_NODE
from simulator.physics.tables import PhysicsError, pick

CHECKPOINT_BYTES = 14
"""Of a parameter: the 16-bit weight, its 32-bit master copy and two moments of Adam."""


class Storage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What checkpoints are written to and read from.

    node_bytes_per_s: what one node writes; shared_bytes_per_s: what the storage takes from all nodes of a job together.
    98 GB of 7B in 35 s from one node are 2.8 GB/s; 980 GB of 70B in 143 s and 1,820 GB of 130B in 262 s are both 6.9 GB/s
    read_factor: how much quicker it is read than written, assumed
    copy_share: of the PCIe rate that a copy to pageable memory reaches: 12 GB a device in 2.5 s for 7B
    hidden_share: of a copy kept in memory that hides behind the passes of the next step
    """

    node_bytes_per_s: float = 2.8e9
    shared_bytes_per_s: float = 6.9e9
    read_factor: float = 2.0
    copy_share: float = 0.16
    hidden_share: float = 0.97
    least_s: float = 0.01


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """stall_s: how long all ranks stand still; durable_s: from its step until it outlives the job; bytes: in all"""

    stall_s: float
    durable_s: float
    bytes: float


def checkpoint_bytes(job: Job) -> float:
    """Of the whole job; replicas hold the same and write it once."""
    return float(job.model.parameters * CHECKPOINT_BYTES)


def copy_s(job: Job, storage: Storage) -> float:
    """Seconds in which every device copies its part to its host."""
    return checkpoint_bytes(job) / job.layout.world / (job.device.pcie_bytes_per_s * storage.copy_share)


def write_s(job: Job, storage: Storage) -> float:
    """Seconds from memory to storage: each node its part, the storage all together."""
    nodes = max(1, job.layout.world // DEVICES_PER_NODE)
    return checkpoint_bytes(job) / min(nodes * storage.node_bytes_per_s, storage.shared_bytes_per_s)


def read_s(job: Job, storage: Storage) -> float:
    """Seconds to read it again: every replica needs it, one reads and hands it on through the fabric."""
    return write_s(job, storage) / storage.read_factor


def checkpoint(job: Job, mode: str, storage: Storage | None = None, *, slower: float = 1.0) -> Checkpoint:
    """What one checkpoint costs.

    mode: "sync" blocks until it is written; "async" until it is in the host's memory; "memory" keeps it in the memory of
    this node and of a neighbour (Gemini, SOSP'23) and hides most of the copy, but does not outlive both nodes
    slower: how much slower than usual the storage is
    raises PhysicsError: another mode, or slower below 1
    """
    if slower < 1.0:
        raise PhysicsError(f"storage {slower} times slower than usual: below 1")
    storage = storage or Storage()
    copied, written, size = copy_s(job, storage), write_s(job, storage) * slower, checkpoint_bytes(job)
    modes = {
        "sync": Checkpoint(stall_s=copied + written, durable_s=copied + written, bytes=size),
        "async": Checkpoint(stall_s=max(copied, storage.least_s), durable_s=copied + written, bytes=size),
        "memory": Checkpoint(
            stall_s=max(copied * (1.0 - storage.hidden_share), storage.least_s), durable_s=float("inf"), bytes=size,
        ),
    }  # fmt: skip
    return pick(modes, mode, "checkpoint mode")

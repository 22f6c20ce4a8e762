"""Names of the things a cluster is made of."""

from enum import StrEnum
from typing import NewType

import msgspec

JobId = NewType("JobId", str)
NodeId = NewType("NodeId", str)


class Kind(StrEnum):
    """What a target is."""

    JOB = "job"
    RANK = "rank"
    NODE = "node"
    DEVICE = "device"
    NIC = "nic"
    LINK = "link"
    STAGE = "stage"
    PROCESS = "process"
    INSTANCE = "instance"
    SOURCE = "source"
    PART = "part"  # of a node, with no kind of its own: a disk, a sensor, a file system


class Target(msgspec.Struct, frozen=True, order=True):
    """One thing of the cluster; `id` is unique within its kind and node or job.

    A rank is ("rank", "3", job="j1"); a device ("device", "0000:9b:00", node="n4").
    """

    kind: Kind
    id: str
    node: str = ""
    job: str = ""

    def __str__(self) -> str:
        place = "/".join(part for part in (self.job, self.node) if part)
        return f"{self.kind} {self.id}" + (f" ({place})" if place else "")


def rank_of(job: str, rank: int, *, node: str = "") -> Target:
    """The target that is `rank` of `job`."""
    return Target(Kind.RANK, str(rank), node=node, job=job)


def job_of(job: str) -> Target:
    """The target that is a whole job."""
    return Target(Kind.JOB, job, job=job)

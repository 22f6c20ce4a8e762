"""What a simulated fault is: a short story with the truth attached; every yield is seconds of simulated time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from holdfast.faults import Action, Fault
from holdfast.topology import Kind
from simulator.nodes import DEVICES, Device, Nic, Node
from simulator.training import Stuck, TrainingJob

if TYPE_CHECKING:
    from simulator.world import World


class Truth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be said of a story.

    fault: the class, NONE where nothing is wrong; blames: what is to blame, None: nobody
    verb: the right one; others: verbs that are right as well; explicit: something says so in words or numbers of its own
    """

    fault: Fault
    blames: Kind | None = Kind.NODE
    verb: Action = Action.REPLACE
    others: tuple[Action, ...] = ()
    explicit: bool = True


@dataclass
class Struck:
    """A story that was begun. nodes: where it sat then; ended_at: when it ended by itself, 0.0 not; over: nothing more comes of it."""

    story: Story
    at: float
    nodes: tuple[str, ...] = ()
    ended_at: float = 0.0
    over: bool = False


class Story(Protocol):
    """name: its kind; job: whose trouble it is, "" nobody's."""

    @property
    def name(self) -> str: ...

    @property
    def truth(self) -> Truth: ...

    @property
    def job(self) -> str: ...

    def nodes(self, world: World) -> tuple[str, ...]: ...

    def play(self, world: World, told: Struck) -> Iterator[float]: ...


@dataclass(frozen=True, kw_only=True)
class OnRank(ABC):
    """Where most faults sit: one rank of one training job, on the node that holds it now."""

    name: str
    truth: Truth
    job: str
    rank: int

    @abstractmethod
    def play(self, world: World, told: Struck) -> Iterator[float]: ...

    def nodes(self, world: World) -> tuple[str, ...]:
        return (self.node(world).id,)

    def training(self, world: World) -> TrainingJob:
        return world.jobs[self.job]

    def node(self, world: World) -> Node:
        return self.training(world).node_of(self.rank)

    def device(self, world: World) -> Device:
        return self.node(world).devices[self.rank % DEVICES]

    def nic(self, world: World) -> Nic:
        return self.node(world).nics[self.rank % DEVICES]


def while_there(job: TrainingJob, node: Node) -> Iterator[float]:
    """Wait until a node has left its job, or was booted anew, or the job is over."""
    booted_at = node.booted_at
    while node in job.nodes and node.booted_at == booted_at and job.state not in ("stopped", "finished"):
        yield 1.0


def nic_address(rank: int) -> str:
    """The PCI address of the port a rank uses."""
    return f"0000:{0x14 + rank % DEVICES:02x}:00.0"


def crash(job: TrainingJob, rank: int, *lines: str, exit_code: int | None = 1, signal: int | None = None) -> Iterator[float]:
    """A rank's process ends with its last words, its peers notice, and the launcher gives up."""
    attempt = job.attempt
    job.stuck = Stuck("gone", rank)
    yield 1.0
    if job.attempt != attempt or not job.nodes:
        return
    if lines:
        job.say(rank, *lines)
    job.end(rank, exit_code=exit_code, signal=signal)
    yield 2.0
    if job.attempt != attempt or not job.nodes:
        return
    peer = (rank + 1) % job.shape.world
    job.say(
        peer,
        f"[rank{peer}]: torch.distributed.DistBackendError: NCCL error in: /build/torch/csrc/distributed/c10d/NCCLUtils.hpp:268, remote "
        "process exited or there was a network error, NCCL version 2.21.5",
        f"[rank{peer}]: ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.",
    )
    job.fail(exit_code if exit_code is not None else 128 + (signal or 0), attempt=attempt)

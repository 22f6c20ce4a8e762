"""Faults as short stories with the truth attached: wait, break, wait, mend; every yield is seconds of simulated time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from holdfast.faults import Fault
from simulator.nodes import Node
from simulator.training import Stuck, TrainingJob

if TYPE_CHECKING:
    from simulator.world import World


@dataclass
class Struck:
    """A story that was begun. ended_at: when what it broke was mended by itself, 0.0 while not; node: where it sat then."""

    story: Story
    at: float
    ended_at: float = 0.0
    node: str = ""


class Story(Protocol):
    """truth: what a detector should say; job: whose trouble it is; place: the node and the ranks where it sits."""

    name: ClassVar[str]
    truth: ClassVar[Fault]

    @property
    def job(self) -> str: ...

    def play(self, world: World, told: Struck) -> Iterator[float]: ...


@dataclass(frozen=True, kw_only=True)
class OnRank(ABC):
    """Where most faults sit: one rank of one training job, on the node that holds it now."""

    name: ClassVar[str] = ""
    truth: ClassVar[Fault] = Fault.UNKNOWN
    job: str
    rank: int

    @abstractmethod
    def play(self, world: World, told: Struck) -> Iterator[float]: ...

    def training(self, world: World) -> TrainingJob:
        return world.jobs[self.job]

    def node(self, world: World) -> Node:
        return self.training(world).node_of(self.rank)


@dataclass(frozen=True, kw_only=True)
class GpuLost(OnRank):
    """A GPU falls off the bus: the driver says so, the rank's work never ends."""

    name: ClassVar[str] = "gpu_lost"
    truth: ClassVar[Fault] = Fault.GPU_HW

    def play(self, world: World, told: Struck) -> Iterator[float]:
        node = self.node(world)
        device = node.devices[self.rank % 8]
        device.lost = True
        node.holds.add("gpu lost")
        world.cluster.kernel(
            node,
            f"NVRM: Xid (PCI:{device.pci}): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
            f"NVRM: GPU {device.pci}.0: GPU has fallen off the bus.",
            f"NVRM: Xid (PCI:{device.pci}): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)",
        )
        yield from ()


@dataclass(frozen=True, kw_only=True)
class RankStopped(OnRank):
    """Somebody stops a process and forgets it."""

    name: ClassVar[str] = "rank_stopped"
    truth: ClassVar[Fault] = Fault.HOST

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job = self.training(world)
        job.stuck = Stuck("stopped", self.rank)
        job.tell(self.rank, "stopped")
        yield from ()


@dataclass(frozen=True, kw_only=True)
class DeviceHang(OnRank):
    """A kernel never ends on one device; nothing is logged."""

    name: ClassVar[str] = "device_hang"
    truth: ClassVar[Fault] = Fault.GPU_HW

    def play(self, world: World, told: Struck) -> Iterator[float]:
        self.training(world).stuck = Stuck("device", self.rank)
        self.node(world).holds.add("device hangs")
        yield from ()


@dataclass(frozen=True, kw_only=True)
class HostHang(OnRank):
    """A rank waits in its own code and never enters the next collective."""

    name: ClassVar[str] = "host_hang"
    truth: ClassVar[Fault] = Fault.SOFTWARE

    def play(self, world: World, told: Struck) -> Iterator[float]:
        self.training(world).stuck = Stuck("host", self.rank)
        yield from ()


@dataclass(frozen=True, kw_only=True)
class ProcessCrash(OnRank):
    """A process is killed from outside; its launcher ends the others."""

    name: ClassVar[str] = "process_crash"
    truth: ClassVar[Fault] = Fault.UNKNOWN

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job = self.training(world)
        attempt = job.attempt
        job.stuck = Stuck("gone", self.rank)
        job.end(self.rank, signal=9)
        yield 2.0
        peer = (self.rank + 1) % job.shape.world
        job.say(peer, f"RuntimeError: [/build/gloo/transport/tcp/pair.cc:547] Connection closed by peer rank {self.rank}")
        job.fail(137, attempt=attempt)


@dataclass(frozen=True, kw_only=True)
class NicDown(OnRank):
    """A port loses its link and does not come back."""

    name: ClassVar[str] = "nic_down"
    truth: ClassVar[Fault] = Fault.NIC

    def play(self, world: World, told: Struck) -> Iterator[float]:
        node = self.node(world)
        nic = node.nics[self.rank % 8]
        nic.up, nic.downs = False, nic.downs + 1
        node.holds.add("nic down")
        address = f"0000:{20 + self.rank % 8:02x}:00.0"
        world.cluster.kernel(node, f"mlx5_core {address} {nic.name}: Link down", level=6, device=address)
        yield from ()


@dataclass(frozen=True, kw_only=True)
class Straggler(OnRank):
    """A device computes slower than its peers, for no reason that anything tells."""

    name: ClassVar[str] = "straggler"
    truth: ClassVar[Fault] = Fault.UNKNOWN
    factor: float = 1.3

    def play(self, world: World, told: Struck) -> Iterator[float]:
        self.training(world).slow[self.rank] = self.factor
        yield from ()


@dataclass(frozen=True, kw_only=True)
class EccError(OnRank):
    """An uncorrectable memory error ends the process that met it."""

    name: ClassVar[str] = "ecc"
    truth: ClassVar[Fault] = Fault.GPU_MEM

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job, node = self.training(world), self.node(world)
        device = node.devices[self.rank % 8]
        device.uncorrected += 1
        node.holds.add("row remap pending")
        world.cluster.kernel(
            node,
            f"NVRM: Xid (PCI:{device.pci}): 48, pid={job.pid(self.rank)}, name=python3, An uncorrectable double bit error (DBE) has been "
            "detected on GPU in the framebuffer at partition 5, subpartition 0.",
            f"NVRM: Xid (PCI:{device.pci}): 63, pid='<unknown>', name=<unknown>, Row Remapper: New row marked for remapping, reset gpu to "
            "activate.",
        )
        attempt = job.attempt
        job.stuck = Stuck("gone", self.rank)
        yield 1.0
        job.say(self.rank, "RuntimeError: CUDA error: uncorrectable ECC error encountered")
        job.end(self.rank, exit_code=1)
        yield 2.0
        job.fail(1, attempt=attempt)


@dataclass(frozen=True, kw_only=True)
class ThermalThrottle(OnRank):
    """A GPU runs hot, its clock drops, and every rank of its job waits for it."""

    name: ClassVar[str] = "thermal_throttle"
    truth: ClassVar[Fault] = Fault.GPU_THERMAL_POWER
    rise_c: float = 24.0
    throttle: float = 0.72

    def play(self, world: World, told: Struck) -> Iterator[float]:
        device = self.node(world).devices[self.rank % 8]
        device.heat_c += self.rise_c
        device.throttle = self.throttle
        yield from ()


@dataclass(frozen=True, kw_only=True)
class NicFlap(OnRank):
    """A bad optic: the link goes and comes, and goes again."""

    name: ClassVar[str] = "nic_flap"
    truth: ClassVar[Fault] = Fault.NIC

    def play(self, world: World, told: Struck) -> Iterator[float]:
        node = self.node(world)
        nic = node.nics[self.rank % 8]
        for _ in range(5):
            nic.up, nic.downs = False, nic.downs + 1
            yield 20.0
            if not node.usable:
                return
            nic.up = True
            yield 40.0


@dataclass(frozen=True, kw_only=True)
class KernelPanic(OnRank):
    """A node's kernel gives up: its last words, then silence."""

    name: ClassVar[str] = "kernel_panic"
    truth: ClassVar[Fault] = Fault.HOST

    def play(self, world: World, told: Struck) -> Iterator[float]:
        node = self.node(world)
        world.cluster.kernel(node, "Kernel panic - not syncing: Fatal exception in interrupt", level=0)
        node.dead = True
        node.holds.add("panic")
        yield 40.0
        if node.dead:
            world.cluster.scheduler.lose(node, world.cluster.now)


@dataclass(frozen=True, kw_only=True)
class PodDeleted(OnRank):
    """Somebody, or something, deletes a worker."""

    name: ClassVar[str] = "pod_deleted"
    truth: ClassVar[Fault] = Fault.PLATFORM

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job, node = self.training(world), self.node(world)
        attempt, pod = job.attempt, job.pod(job.nodes.index(node))
        world.cluster.scheduler.terminate(pod, world.cluster.now)
        job.stuck = Stuck("gone", self.rank)
        yield 3.0
        if job.attempt == attempt:
            for rank in job.ranks_on(node):
                job.end(rank, signal=15)
            world.cluster.scheduler.remove(pod, world.cluster.now)


@dataclass(frozen=True, kw_only=True)
class AgentSilent(OnRank):
    """An agent says nothing for a while; the job goes on."""

    name: ClassVar[str] = "heartbeat_lost"
    truth: ClassVar[Fault] = Fault.PLATFORM

    def play(self, world: World, told: Struck) -> Iterator[float]:
        node = self.node(world)
        node.silent = True
        yield 60.0
        node.silent = False
        told.ended_at = world.cluster.now


@dataclass(frozen=True, kw_only=True)
class LossNan(OnRank):
    """The loss is no number from here on."""

    name: ClassVar[str] = "loss_nan"
    truth: ClassVar[Fault] = Fault.UNKNOWN

    def play(self, world: World, told: Struck) -> Iterator[float]:
        self.training(world).nan = True
        yield from ()


@dataclass(frozen=True, kw_only=True)
class UserError(OnRank):
    """The job's own code fails at one sample, every time; its owner mends it after a while."""

    name: ClassVar[str] = "user_error"
    truth: ClassVar[Fault] = Fault.USER_CODE
    mended_after_s: float = 120.0

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job = self.training(world)
        at = job.step
        for _ in range(6):
            while job.state != "running" or job.step < at:
                if job.state == "stopped":
                    break
                yield 1.0
            if job.state == "stopped":
                break
            attempt = job.attempt
            self._raise(job)
            yield 2.0
            job.fail(1, attempt=attempt)
            while job.attempt == attempt and job.state != "stopped":
                yield 1.0
        yield self.mended_after_s
        job.start(world.cluster.now, job.shape.schedule_s)
        told.ended_at = world.cluster.now

    def _raise(self, job: TrainingJob) -> None:
        job.stuck = Stuck("gone", self.rank)
        job.say(
            self.rank,
            "Traceback (most recent call last):",
            '  File "/opt/job/pretrain.py", line 140, in train_step',
            "    batch = collate(samples)",
            '  File "/opt/job/data.py", line 57, in collate',
            '    raise ValueError(f"token id {token} is outside of the vocabulary")',
            "ValueError: token id 131072 is outside of the vocabulary",
        )
        job.end(self.rank, exit_code=1)


@dataclass(frozen=True, kw_only=True)
class EngineStall:
    """An inference engine has requests and makes no tokens."""

    name: ClassVar[str] = "engine_stall"
    truth: ClassVar[Fault] = Fault.SERVING
    job: str
    engine: int = 0

    def play(self, world: World, told: Struck) -> Iterator[float]:
        service = world.services[self.job]
        service.engines[self.engine].stalled = True
        yield from ()


ON_RANK: tuple[type[OnRank], ...] = (
    GpuLost, RankStopped, DeviceHang, ProcessCrash, NicDown, Straggler, EccError, ThermalThrottle, NicFlap, KernelPanic, HostHang,
    PodDeleted, AgentSilent, LossNan, UserError,
)  # fmt: skip

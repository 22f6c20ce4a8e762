"""What a hang is told by: the job, what it trains, who stalls where, how its recorder is set; all else follows from it and the seed."""

from dataclasses import dataclass, field
from enum import StrEnum

from simulator.chance import stream
from simulator.evidence.acts import Model
from simulator.evidence.groups import Layout
from simulator.evidence.stall import Stall


class Backend(StrEnum):
    NCCL = "nccl"
    GLOO = "gloo"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """How the flight recorder is set. ring: records it holds; timing: it knows when kernels begin; frames: stacks of the calls

    versions: of the dump's form; several where nodes run different builds
    """

    versions: tuple[str, ...] = ("2.10",)
    library: str = "2.27.3"
    ring: int = 2000
    only_active: bool = False
    timing: bool = False
    frames: bool = False
    backend: Backend = Backend.NCCL


class Muddle(StrEnum):
    """Faults of the program's own order, which blame no rank."""

    CROSSED = "crossed"  # two neighbours of the pipeline both receive before they send
    TORN = "torn"  # half of a group takes another branch than the rest


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A hang. step: how many steps went well before; began_at: Unix seconds of the hanging step's beginning; hung_s: until it is looked at

    timeout_s, heartbeat_s: the watchdog's; skew_s: spread of the nodes' clocks; depth: acts that hosts run ahead of their devices
    muddle: with its first rank and the act of its program where it strikes
    """

    layout: Layout
    model: Model = field(default_factory=Model)
    stalls: tuple[Stall, ...] = ()
    muddle: tuple[Muddle, int, int] | None = None
    recording: Recording = field(default_factory=Recording)
    seed: int = 0
    step: int = 100
    began_at: float = 1.76e9
    hung_s: float = 900.0
    timeout_s: float = 600.0
    heartbeat_s: float = 480.0
    save_every: int = 20
    skew_s: float = 0.0
    depth: int = 8
    nodes: tuple[str, ...] = ()
    pids: int = 20_000

    def node(self, rank: int) -> str:
        """The name of the machine that a rank is on."""
        number = self.layout.node(rank)
        return self.nodes[number] if number < len(self.nodes) else f"node{number:04d}"

    def pid(self, rank: int) -> int:
        return self.pids + rank

    def skew(self, rank: int) -> float:
        """Seconds that the clock of a rank's machine is off."""
        return self.skew_s * float(stream(self.seed, "clock", self.node(rank)).normal()) if self.skew_s else 0.0

    def version(self, rank: int) -> str:
        """The recorder's version on a rank's machine."""
        versions = self.recording.versions
        return (
            versions[int(stream(self.seed, "build", self.node(rank)).integers(len(versions)))]
            if len(versions) > 1
            else versions[0]
        )

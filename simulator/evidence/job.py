"""A simulated training job that stands still -> the scene of its hang."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from simulator.evidence.acts import Act, Model
from simulator.evidence.groups import WORLD, Layout
from simulator.evidence.program import programs
from simulator.evidence.scene import Muddle, Recording, Scene
from simulator.evidence.stall import Kind, Stall, places
from simulator.evidence.stand import Piece, Stand

_RING = 48  # what is looked at of each rank; a job's own ring holds more of the same
_KINDS = {
    "host": Kind.LOOP, "data": Kind.DATA, "locked": Kind.LOCK, "storage": Kind.STORAGE, "stopped": Kind.STOPPED, "gone": Kind.GONE,
    "device": Kind.DEVICE_IN, "device_before": Kind.DEVICE_BEFORE, "network": Kind.NETWORK,
}  # fmt: skip
_CHOREOGRAPHY = "choreography"


class Device(Protocol):
    """lost: the driver no longer sees it"""

    @property
    def index(self) -> int: ...
    @property
    def lost(self) -> bool: ...


class Port(Protocol):
    @property
    def up(self) -> bool: ...


class Machine(Protocol):
    """dead: its kernel has given up"""

    @property
    def id(self) -> str: ...
    @property
    def devices(self) -> Sequence[Device]: ...
    @property
    def nics(self) -> Sequence[Port]: ...
    @property
    def dead(self) -> bool: ...


class Trouble(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def rank(self) -> int: ...


class Sized(Protocol):
    @property
    def tp(self) -> int: ...
    @property
    def pp(self) -> int: ...
    @property
    def dp(self) -> int: ...


class Job(Protocol):
    """What is asked of a job. ended: ranks whose process has; stuck: who holds it up, None where a node does"""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Sized: ...
    @property
    def nodes(self) -> Sequence[Machine]: ...
    @property
    def stuck(self) -> Trouble | None: ...
    @property
    def ended(self) -> Mapping[int, tuple[int | None, int | None]]: ...
    @property
    def step(self) -> int: ...
    @property
    def stepped_at(self) -> float: ...

    def pid(self, rank: int) -> int: ...


class JobStand:
    """A job's stand by its nodes."""

    def __init__(self, job: Job, seed: int, now: float) -> None:
        self._job = job
        self.stand = Stand(scene_of(job, seed, now))

    def on_node(self, node: Machine) -> Iterator[Piece]:
        """What the agent of a node collects."""
        yield from self.stand.on_node(list(self._job.nodes).index(node))


def scene_of(job: Job, seed: int, now: float) -> Scene:
    """The scene of a job that stands still at a moment, Unix seconds."""
    shape = job.shape
    layout = Layout(dp=shape.dp, tp=shape.tp, pp=shape.pp)
    model = Model(layers=1, micro_batches=max(2, shape.pp))
    acts = programs(layout, model)
    torn = job.stuck is not None and job.stuck.kind == _CHOREOGRAPHY
    troubles = {rank: kind for rank, kind in _troubles(job) if rank < layout.world} if not torn else {}
    stalls = (_stall(rank, kind, acts[layout.stage(rank)]) for rank, kind in sorted(troubles.items()))
    return Scene(
        layout=layout, model=model, stalls=tuple(stalls), muddle=_muddle(acts[0]) if torn else None, recording=Recording(ring=_RING),
        seed=seed, step=max(0, job.step + 1), began_at=job.stepped_at, hung_s=max(0.0, now - job.stepped_at),
        nodes=tuple(node.id for node in job.nodes), pids=job.pid(0),
    )  # fmt: skip


def _muddle(acts: tuple[Act, ...]) -> tuple[Muddle, int, int] | None:
    """Half of rank 0's widest group takes another branch than the rest."""
    found = [n for n in places(acts, Kind.OTHER_OP) if acts[n].group != WORLD]
    return (Muddle.TORN, 0, found[-1]) if found else None


def _stall(rank: int, kind: Kind, acts: tuple[Act, ...]) -> Stall:
    """In the middle of a step, where everybody waits for everybody soon."""
    found = places(acts, kind) or places(acts, Kind.LOOP)
    return Stall(rank, kind, found[len(found) // 2] if found else len(acts) - 1)


def _troubles(job: Job) -> Iterator[tuple[int, Kind]]:
    """Ranks in trouble, the weightier word last: it counts."""
    for number, node in enumerate(job.nodes):
        for device in node.devices:
            if device.lost:
                yield number * len(node.devices) + device.index, Kind.DEVICE_BEFORE
        if node.dead:
            yield from ((number * len(node.devices) + n, Kind.GONE) for n in range(len(node.devices)))
        for n, nic in enumerate(node.nics):
            if not nic.up:
                yield number * len(node.devices) + n, Kind.NETWORK
    if job.stuck is not None and job.stuck.kind in _KINDS:
        yield job.stuck.rank, _KINDS[job.stuck.kind]
    yield from ((rank, Kind.GONE) for rank in job.ended)

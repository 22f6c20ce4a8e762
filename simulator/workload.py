"""How long each rank of a synchronous job works in a step: all show one step time, and what differs is who waits."""

from dataclasses import dataclass, field

import numpy as np

from simulator.chance import key_of, normals, uniforms
from simulator.nodes import DEVICES, Node

COMMUNICATION = 0.12  # share of a step that is communication even where nobody is late
_FORWARD, _BACKWARD, _DATA = 0.32, 0.64, 0.04  # of a rank's own work
_JITTER = 0.004  # of a step's length, and of a rank's work in it
_BLOCK = 512


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a job is. tp, pp: sizes of its tensor and pipeline groups, the rest is data parallel; peak_flops: per device

    step_s: seconds of a healthy step; restart_s: from the order to the first process; schedule_s: where pods are scheduled anew
    checkpoint_every: steps; checkpoint_s: how long one holds everybody up, 0 where it is written in the background; durable_s: from
        its step until a restart can begin from it
    load_s: from the processes' start until the first step begins; startup: (phase, seconds) of it, as the ranks announce them
    watchdog_s: the collectives' timeout, after which waiting ranks give up and their launcher ends the job
    gc_every: about every so many steps a rank's interpreter collects garbage for about gc_s, and everybody waits; 0: collections are
        disabled, or synchronised and part of a step
    sequence_sigma: spread of the logarithm of a replica's share of tokens in a step, 0 where all sequences are equally long
    stages: relative work of each pipeline stage, () all the same
    """

    nodes: int
    tp: int = 8
    pp: int = 1
    step_s: float = 6.0
    restart_s: float = 20.0
    schedule_s: float = 40.0
    load_s: float = 5.0
    checkpoint_every: int = 20
    checkpoint_s: float = 5.0
    durable_s: float = 0.0
    watchdog_s: float = 600.0
    startup: tuple[tuple[str, float], ...] = ()
    gc_every: int = 0
    gc_s: float = 0.3
    tokens_per_step: float = 4_194_304.0
    flops_per_token: float = 4.2e10
    peak_flops: float = 989e12
    sequence_sigma: float = 0.0
    stages: tuple[float, ...] = ()

    @property
    def world(self) -> int:
        return self.nodes * DEVICES

    @property
    def dp(self) -> int:
        return self.world // (self.tp * self.pp)

    def replicas(self) -> np.ndarray:
        """The data-parallel replica of each rank, shape (world,): ranks lie tensor, data, pipeline, as Megatron orders them."""
        return np.arange(self.world) // self.tp % self.dp

    def stage_of(self) -> np.ndarray:
        """The pipeline stage of each rank, shape (world,)."""
        return np.arange(self.world) // (self.tp * self.dp)


@dataclass
class Drag:
    """What makes ranks slower than they should be.

    compute: rank -> factor of its own work; data_s: rank -> seconds more a step in its data loading
    communication_s: seconds more a step for everybody: a slow link lies in everyone's ring; stages: as in `Shape`
    """

    compute: dict[int, float] = field(default_factory=dict)
    data_s: dict[int, float] = field(default_factory=dict)
    communication_s: float = 0.0
    stages: tuple[float, ...] = ()

    def clear(self) -> None:
        """Nobody is held up any more."""
        self.compute.clear()
        self.data_s.clear()
        self.communication_s, self.stages = 0.0, ()


class Workload:
    """The steps of one job; their lengths do not depend on whether anybody looks at the ranks."""

    def __init__(self, shape: Shape, seed: int, name: str) -> None:
        self.shape, self.drag = shape, Drag()
        self._pace = np.array([key_of(seed, "pace", name)], dtype=np.uint64)
        self._ranks = np.array([key_of(seed, "work", name, r) for r in range(shape.world)], dtype=np.uint64)
        self._replicas = np.array([key_of(seed, "tokens", name, r) for r in range(shape.dp)], dtype=np.uint64)
        self._replica_of, self._stage_of = shape.replicas(), shape.stage_of()
        self._block: tuple[int, np.ndarray] = (-1, np.zeros(0))

    def seconds(self, step: int, nodes: list[Node]) -> float:
        """How long a step takes."""
        work_s = self._base_s(step) * max(self._tokens(step).max(initial=1.0), 1.0) * max(self._stages(), default=1.0)
        late_s = max([work_s * (f - 1.0) for f in self._odd(nodes).values()] + list(self.drag.data_s.values()), default=0.0)
        return float((work_s + max(0.0, late_s)) * (1.0 + COMMUNICATION) + self.drag.communication_s + self._collection(step)[1])

    def phases(self, step: int, nodes: list[Node]) -> np.ndarray:
        """forward, backward, all_reduce (the wait for the others in it) and data seconds of each rank in a step, shape (world, 4)."""
        base_s, slack = self._base_s(step), self._slack(step)
        work = base_s * (1.0 - slack)
        if self.shape.sequence_sigma:
            work *= self._tokens(step)[self._replica_of]
        if stages := self._stages():
            work *= np.asarray(stages)[self._stage_of]
        for rank, factor in self._odd(nodes).items():
            work[rank] *= factor
        data = base_s * _DATA * (1.0 - slack)
        for rank, more_s in self.drag.data_s.items():
            data[rank] += more_s
        rank, pause_s = self._collection(step)
        data[rank] += pause_s
        wait = np.maximum(self.seconds(step, nodes) - work * (1.0 - _DATA) - data, 0.0)
        return np.stack([work * _FORWARD, work * _BACKWARD, wait, data], axis=1)

    def tokens(self, step: int) -> np.ndarray:
        """Tokens of each rank in a step, shape (world,)."""
        return np.asarray(self._tokens(step)[self._replica_of] * self.shape.tokens_per_step / self.shape.world)

    def _collection(self, step: int) -> tuple[int, float]:
        """Whose interpreter collects garbage in a step, and for how long; mostly nobody's."""
        if not self.shape.gc_every:
            return 0, 0.0
        drawn = uniforms(self._pace ^ np.uint64(1), step & 0xFFFFFFFF, 3)[0].tolist()
        if drawn[0] * self.shape.gc_every >= 1.0:
            return 0, 0.0
        return int(drawn[1] * self.shape.world), self.shape.gc_s * (0.5 + drawn[2])

    def _base_s(self, step: int) -> float:
        """A healthy rank's work in a step."""
        return self.shape.step_s / (1.0 + COMMUNICATION) * self._jitter(step)

    def _jitter(self, step: int) -> float:
        """How much longer than usual a step takes, for all."""
        block, offset = divmod(step + 1, _BLOCK)
        if self._block[0] != block:
            self._block = block, np.clip(1.0 + _JITTER * normals(self._pace, block, _BLOCK)[0], 0.98, 1.02)
        return float(self._block[1][offset])

    def _slack(self, step: int) -> np.ndarray:
        """By which share each rank is done sooner than the slowest healthy one, shape (world,)."""
        return np.asarray(np.minimum(np.abs(normals(self._ranks, step & 0xFFFFFFFF, 1)[:, 0]) * _JITTER, 5 * _JITTER))

    def _tokens(self, step: int) -> np.ndarray:
        """Each replica's share of the tokens, 1 the mean, shape (dp,)."""
        sigma = self.shape.sequence_sigma
        if not sigma:
            return np.ones(self.shape.dp)
        return np.asarray(np.exp(sigma * normals(self._replicas, step & 0xFFFFFFFF, 1)[:, 0] - sigma * sigma / 2.0))

    def _stages(self) -> tuple[float, ...]:
        return self.drag.stages or self.shape.stages

    def _odd(self, nodes: list[Node]) -> dict[int, float]:
        """Rank -> factor of those that work slower than they should."""
        found = dict(self.drag.compute)
        for n, node in enumerate(nodes):
            for device in node.devices:
                if device.throttle < 1.0:
                    rank = n * DEVICES + device.index
                    found[rank] = found.get(rank, 1.0) / device.throttle
        return found

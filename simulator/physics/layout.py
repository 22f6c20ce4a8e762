"""How a job's ranks are divided: tensor, context, data, pipeline and expert parallel, micro-batches, and who sits where."""

from functools import cached_property
from math import prod

import msgspec
import numpy as np

from simulator.physics.devices import DEVICES_PER_NODE
from simulator.physics.tables import PhysicsError

ORDER = ("tp", "cp", "dp", "pp")
"""Which index runs fastest: Megatron-LM's default, tensor-parallel ranks next to each other and stages farthest apart."""


class Layout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A division of a training job.

    ep: experts are divided among ep of the dp replicas; chunks: model chunks a stage holds (interleaved 1F1B), 1 of plain
    1F1B; global_batch, micro_batch: sequences; sequence: tokens; order: which index runs fastest among the ranks
    chunk_layers: layers of each chunk in the order a token passes them (chunk * pp + stage), () of equal parts
    sharded: optimizer states divided among replicas (ZeRO stage 1, arXiv:1910.02054); gradient_bytes: per gradient sent, 4 as
    Megatron-LM does it with bf16 weights
    """

    tp: int = 1
    cp: int = 1
    dp: int = 1
    pp: int = 1
    ep: int = 1
    chunks: int = 1
    global_batch: int = 1
    micro_batch: int = 1
    sequence: int = 4096
    recompute: str = "none"
    sharded: bool = True
    gradient_bytes: int = 4
    chunk_layers: tuple[int, ...] = ()
    order: tuple[str, ...] = ORDER

    def __post_init__(self) -> None:
        sizes = (self.tp, self.cp, self.dp, self.pp, self.ep, self.chunks, self.micro_batch, self.sequence)
        if min(sizes) < 1:
            raise PhysicsError(f"a size below 1 in {self}")
        if self.global_batch < 1 or self.global_batch % (self.dp * self.micro_batch):
            raise PhysicsError(f"global_batch {self.global_batch} is no multiple of dp {self.dp} x micro_batch {self.micro_batch}")
        if self.dp % self.ep:
            raise PhysicsError(f"dp {self.dp} is no multiple of ep {self.ep}")
        if self.chunks > 1 and (self.pp == 1 or self.micro_batches % self.pp):
            raise PhysicsError(f"{self.chunks} chunks need pp above 1 and micro-batches ({self.micro_batches}) in a multiple of it")
        if sorted(self.order) != sorted(ORDER):
            raise PhysicsError(f"order {self.order} is no order of {ORDER}")

    @property
    def world(self) -> int:
        return self.tp * self.cp * self.dp * self.pp

    @property
    def nodes(self) -> int:
        return -(-self.world // DEVICES_PER_NODE)

    @property
    def micro_batches(self) -> int:
        """How many each replica runs in a step."""
        return self.global_batch // (self.dp * self.micro_batch)

    @property
    def tokens_per_step(self) -> int:
        return self.global_batch * self.sequence

    def layers_of(self, layers: int) -> np.ndarray:
        """Which layers each chunk holds, as bounds of shape (chunks * pp + 1,) in the order a token passes them.

        raises PhysicsError: they do not divide, or chunk_layers does not add up
        """
        parts = self.chunks * self.pp
        if self.chunk_layers:
            if len(self.chunk_layers) != parts or sum(self.chunk_layers) != layers or min(self.chunk_layers) < 0:
                raise PhysicsError(f"chunk_layers {self.chunk_layers} are not {parts} parts of {layers} layers")
            return np.cumsum((0, *self.chunk_layers))
        if layers % parts:
            raise PhysicsError(f"{layers} layers do not divide into pp {self.pp} x chunks {self.chunks}; name chunk_layers")
        return np.arange(parts + 1) * (layers // parts)

    @cached_property
    def ranks(self) -> np.ndarray:
        """The rank at each place, shape (pp, dp, cp, tp)."""
        size = {"tp": self.tp, "cp": self.cp, "dp": self.dp, "pp": self.pp}
        stride = {name: prod(size[before] for before in self.order[:n]) for n, name in enumerate(self.order)}
        grid = np.ix_(*(np.arange(size[name]) * stride[name] for name in ("pp", "dp", "cp", "tp")))
        return np.asarray(grid[0] + grid[1] + grid[2] + grid[3])

    def groups(self, kind: str) -> np.ndarray:
        """The ranks of each group of a kind, shape (groups, size). kind: tp, cp, pp, ep, or dp (which reduces gradients: with cp)"""
        ranks = self.ranks
        if kind == "dp":
            return np.moveaxis(ranks, 3, 1).reshape(self.pp * self.tp, self.dp * self.cp)
        if kind == "ep":
            split = ranks.reshape(self.pp, self.dp // self.ep, self.ep, self.cp, self.tp)
            return np.moveaxis(split, 2, -1).reshape(-1, self.ep)
        axis = {"pp": 0, "cp": 2, "tp": 3}[kind]
        return np.moveaxis(ranks, axis, -1).reshape(-1, ranks.shape[axis])

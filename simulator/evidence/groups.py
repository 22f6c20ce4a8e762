"""How the ranks of a job are divided among its kinds of parallelism, and the process groups that follow, numbered as the framework does."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

WORLD = "default_pg"
DATA = "DATA_PARALLEL_GROUP_WITH_CP"
CONTEXT = "CONTEXT_PARALLEL_GROUP"
MODEL = "MODEL_PARALLEL_GROUP"
TENSOR = "TENSOR_MODEL_PARALLEL_GROUP"
PIPELINE = "PIPELINE_MODEL_PARALLEL_GROUP"
EMBEDDING = "EMBEDDING_GROUP"
EXPERT = "EXPERT_MODEL_PARALLEL_GROUP"
EXPERT_TENSOR = "EXPERT_TENSOR_AND_MODEL_PARALLEL_GROUP"
EXPERT_DATA = "EXPERT_DATA_PARALLEL_GROUP"
OPTIMIZER = "INTRA_DISTRIBUTED_OPTIMIZER_INSTANCE_GROUP"

# In the order in which Megatron-LM's initialize_model_parallel makes them (megatron/core/parallel_state.py): description, whether
# the experts' division of the ranks applies, and the axes along which the members lie. Every process makes every group, so a
# group's name is how many were made before it, while the process's own number counts only those that it belongs to.
_MADE: tuple[tuple[str, bool, str], ...] = (
    (DATA, False, "dp-cp"),
    ("DATA_PARALLEL_GROUP", False, "dp"),
    (CONTEXT, False, "cp"),
    (MODEL, False, "tp-pp"),
    (TENSOR, False, "tp"),
    (PIPELINE, False, "pp"),
    ("TENSOR_AND_DATA_PARALLEL_GROUP_WITH_CP", False, "tp-dp-cp"),
    ("TENSOR_AND_DATA_PARALLEL_GROUP", False, "tp-dp"),
    ("TENSOR_AND_CONTEXT_PARALLEL_GROUP", False, "tp-cp"),
    (EXPERT, True, "ep"),
    ("EXPERT_TENSOR_PARALLEL_GROUP", True, "tp"),
    (EXPERT_TENSOR, True, "tp-ep"),
    ("EXPERT_TENSOR_MODEL_PIPELINE_PARALLEL_GROUP", True, "tp-ep-pp"),
    (EXPERT_DATA, True, "dp"),
    (OPTIMIZER, False, "tp-cp-dp-pp"),
)


class LayoutError(ValueError):
    """The sizes do not go together; the message says which."""


@dataclass(frozen=True, eq=False)
class Group:
    """A process group, one object for each. ranks: of the whole job, in the group's own order."""

    name: str
    desc: str
    ranks: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.ranks)

    @cached_property
    def text(self) -> str:
        """The ranks as a list is printed: the recorder has them so, and JSON too."""
        return str(list(self.ranks))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Sizes of each kind of parallelism. order: fastest axis first, as the framework takes it; etp: 0 for as many as tp.

    Expert groups are carved out of the ranks of one pipeline stage.
    """

    dp: int
    tp: int = 1
    pp: int = 1
    cp: int = 1
    ep: int = 1
    etp: int = 0
    order: str = "tp-cp-ep-dp-pp"
    per_node: int = 8

    def __post_init__(self) -> None:
        if sorted(self.order.split("-")) != ["cp", "dp", "ep", "pp", "tp"]:
            raise LayoutError(f"order {self.order!r}: not tp, cp, ep, dp and pp once each")
        if min(self.dp, self.tp, self.pp, self.cp, self.ep, self.per_node) < 1:
            raise LayoutError("every size is at least one")
        if (self.tp * self.cp * self.dp) % (self.ep * self._expert_tensor):
            raise LayoutError(
                f"{self.tp * self.cp * self.dp} ranks of a stage do not divide by ep {self.ep} x etp {self._expert_tensor}"
            )
        if self.lines("pp") != self.lines("pp", experts=True):
            raise LayoutError(
                f"order {self.order!r}: experts would lie in other pipelines than the rest of their layers"
            )

    @property
    def world(self) -> int:
        return self.dp * self.tp * self.pp * self.cp

    @property
    def _expert_tensor(self) -> int:
        return self.etp or self.tp

    def lines(self, axes: str, *, experts: bool = False) -> list[tuple[int, ...]]:
        """The ranks that differ only along the axes, one tuple for each place on the others, in the framework's order."""
        sizes = {"tp": self.tp, "cp": self.cp, "ep": 1, "dp": self.dp, "pp": self.pp}
        if experts:
            stage = self.tp * self.cp * self.dp
            sizes |= {"tp": self._expert_tensor, "cp": 1, "ep": self.ep, "dp": stage // (self._expert_tensor * self.ep)}
        order = self.order.split("-")
        grid = np.arange(self.world).reshape([sizes[axis] for axis in reversed(order)])
        wanted = [n for n, axis in enumerate(reversed(order)) if axis in axes.split("-")]
        rest = [n for n in range(len(order)) if n not in wanted]
        width = int(np.prod([grid.shape[n] for n in wanted], dtype=int))
        return [tuple(map(int, row)) for row in grid.transpose(*rest, *wanted).reshape(-1, width)]

    @cached_property
    def groups(self) -> dict[str, Group]:
        """Every process group of the job by its name."""
        made = [(WORLD, tuple(range(self.world)))]
        for desc, experts, axes in _MADE:
            for ranks in self.lines(axes, experts=experts):
                made.append((desc, ranks))
                if desc == PIPELINE:
                    made.append((EMBEDDING, ranks if len(ranks) == 1 else (ranks[0], ranks[-1])))
                    made.append(("POSITION_EMBEDDING_GROUP", ranks[:1]))
        return {str(n): Group(str(n), desc, ranks) for n, (desc, ranks) in enumerate(made)}

    @cached_property
    def own(self) -> list[list[Group]]:
        """Of each rank its groups; the place in the list is the process's own number of the group."""
        found: list[list[Group]] = [[] for _ in range(self.world)]
        for group in self.groups.values():
            for rank in group.ranks:
                found[rank].append(group)
        return found

    def group(self, rank: int, desc: str) -> Group | None:
        """A rank's group of a kind; None where it has none."""
        return self._of_kind[rank].get(desc)

    @cached_property
    def _of_kind(self) -> list[dict[str, Group]]:
        return [{group.desc: group for group in groups} for groups in self.own]

    def stage(self, rank: int) -> int:
        """Which part of the pipeline a rank is."""
        group = self.group(rank, PIPELINE)
        return group.ranks.index(rank) if group else 0

    def size(self, desc: str) -> int:
        """How many ranks a group of a kind has; all of a kind are alike."""
        return next((group.size for group in self.groups.values() if group.desc == desc), 1)

    def node(self, rank: int) -> int:
        """The number of the machine that a rank is on."""
        return rank // self.per_node

    def ranks_of_node(self, node: int) -> Iterator[int]:
        yield from range(node * self.per_node, min(self.world, (node + 1) * self.per_node))

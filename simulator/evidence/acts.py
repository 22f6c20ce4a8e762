"""What a rank does in a step, one act after another: operations of its groups, transfers along the pipeline, and the host's own work."""

from dataclasses import dataclass
from enum import StrEnum

Sizes = tuple[tuple[int, ...], ...]

# A dimension that differs from rank to rank: how many tokens a rank's experts were sent.
UNEVEN = -1


class Op(StrEnum):
    """Operations by the name under which the recorder profiles them; below the line, what is no operation."""

    ALL_REDUCE = "all_reduce"
    ALL_GATHER = "_all_gather_base"
    REDUCE_SCATTER = "_reduce_scatter_base"
    ALL_TO_ALL = "all_to_all"
    BROADCAST = "broadcast"
    BARRIER = "all_reduce_barrier"
    # transfers of the pipeline, launched together
    TRANSFER = "transfer"
    # the stream waits for what was launched to run beside it
    SETTLE = "settle"
    # the host waits for the stream
    SYNCHRONIZE = "synchronize"
    # the host works, and launches nothing meanwhile
    LOAD = "load"
    SAVE = "save"


HOST = frozenset({Op.SYNCHRONIZE, Op.LOAD, Op.SAVE})


@dataclass(frozen=True, slots=True)
class Part:
    """One transfer. peer: stage of the pipeline at its other end."""

    sends: bool
    peer: int


@dataclass(frozen=True, slots=True)
class Act:
    """One act of a rank's program.

    group: description of the group, "" where none; beside: it runs beside the stream until a SETTLE; place: what the host's stack shows
    work_s: seconds the device computes before it; odd: it does not fit what the peers call
    """

    op: Op
    group: str = ""
    inputs: Sizes = ()
    outputs: Sizes = ()
    dtype: str = "BFloat16"
    parts: tuple[Part, ...] = ()
    beside: bool = False
    place: str = ""
    work_s: float = 0.0
    layer: int = 0
    odd: bool = False

    @property
    def talks(self) -> bool:
        """Whether it is an operation that the recorder sees."""
        return bool(self.group) and self.op is not Op.SETTLE


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is trained, as far as operations show it.

    layers: of one stage; experts: 0 for a dense model; bucket: gradients reduced together; buckets: of those per stage
    """

    hidden: int = 4096
    layers: int = 2
    sequence: int = 4096
    micro_batches: int = 8
    experts: int = 0
    buckets: int = 3
    bucket: int = 40_000_000
    batched_transfers: bool = False
    overlapped_gradients: bool = True

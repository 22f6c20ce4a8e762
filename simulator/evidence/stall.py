"""What brings a job to a stand: causes as data, where in its program each may strike a rank, and how it changes that program."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from holdfast.faults import HangCause
from simulator.evidence.acts import Act, Op, Part


class Kind(StrEnum):
    """How a rank stands still or goes astray."""

    LOOP = "loop"  # the program works on and on
    DATA = "data"  # it waits for its data loader
    LOCK = "lock"  # it waits for a lock in native code and holds the interpreter's
    STORAGE = "storage"  # in the kernel, in a call to a file system that does not answer
    STOPPED = "stopped"  # SIGSTOP
    GONE = "gone"  # its process has ended
    DEVICE_IN = "device_in"  # its device does not finish an operation that its peers have finished
    DEVICE_BEFORE = "device_before"  # its device never reaches an operation that the host has enqueued
    SIZE = "size"
    DTYPE = "dtype"
    OTHER_OP = "other_op"
    ORDER = "order"  # two of a group's operations the wrong way round
    NO_SEND = "no_send"
    NO_RECEIVE = "no_receive"
    NETWORK = "network"  # what it sends in an operation does not arrive


HOST = frozenset({Kind.LOOP, Kind.DATA, Kind.LOCK, Kind.STORAGE, Kind.STOPPED, Kind.GONE})
DEVICE = frozenset({Kind.DEVICE_IN, Kind.DEVICE_BEFORE})
MISMATCH = frozenset({Kind.SIZE, Kind.DTYPE, Kind.OTHER_OP, Kind.ORDER})
UNPAIRED = frozenset({Kind.NO_SEND, Kind.NO_RECEIVE})

CAUSES: dict[Kind, HangCause] = {
    **dict.fromkeys((Kind.LOOP, Kind.DATA, Kind.LOCK, Kind.STORAGE), HangCause.HOST_STUCK),
    Kind.STOPPED: HangCause.STOPPED, Kind.GONE: HangCause.EXITED, **dict.fromkeys(DEVICE, HangCause.DEVICE_STUCK),
    **dict.fromkeys(MISMATCH, HangCause.MISMATCH), Kind.NO_SEND: HangCause.MISSING_SEND, Kind.NO_RECEIVE: HangCause.MISSING_RECV,
    Kind.NETWORK: HangCause.DEVICE_STUCK,
}  # fmt: skip

# What a peer finishes only when all have come: an early finisher of anything else proves nothing.
_SYNCHRONISING = frozenset({Op.ALL_REDUCE, Op.ALL_GATHER, Op.REDUCE_SCATTER, Op.ALL_TO_ALL, Op.BARRIER})


@dataclass(frozen=True)
class Stall:
    """One rank's trouble. at: the act of the step that it does not get past, or that goes wrong."""

    rank: int
    kind: Kind
    at: int


def places(acts: Sequence[Act], kind: Kind) -> list[int]:
    """The acts at which a cause may strike."""
    if kind is Kind.DATA:
        return [n for n, act in enumerate(acts) if act.op is Op.LOAD]
    if kind is Kind.STORAGE:
        return [n for n, act in enumerate(acts) if act.op is Op.SAVE] or places(acts, Kind.DATA)
    if kind in UNPAIRED:
        return [n for n, act in enumerate(acts) if any(part.sends is (kind is Kind.NO_SEND) for part in act.parts)]
    plain = [n for n, act in enumerate(acts) if act.op in _SYNCHRONISING and not act.beside]
    if kind is Kind.ORDER:
        return [n for n in plain if _next_of_group(acts, n) is not None]
    if kind in MISMATCH:
        return [n for n in plain if acts[n].op is not Op.ALL_TO_ALL]
    if kind in DEVICE or kind is Kind.NETWORK:
        return plain
    return [n for n, act in enumerate(acts) if act.talks and not act.beside]


def _next_of_group(acts: Sequence[Act], at: int) -> int | None:
    """The next act, where it is a call of the same group that differs in kind."""
    after = at + 1
    if after >= len(acts) or acts[after].group != acts[at].group or acts[after].op is acts[at].op or acts[after].parts:
        return None
    return after


def go_astray(acts: tuple[Act, ...], stall: Stall) -> tuple[Act, ...]:
    """The program as a rank runs it that calls something else than its peers expect; the same where the cause is no such."""
    act = acts[stall.at]
    before, after = acts[: stall.at], acts[stall.at + 1 :]
    match stall.kind:
        case Kind.NETWORK:
            new: tuple[Act, ...] = (replace(act, odd=True),)
        case Kind.SIZE:
            inputs, outputs = (tuple((n // 2 or 2, *rest) for n, *rest in sizes) for sizes in (act.inputs, act.outputs))
            new = (replace(act, inputs=inputs, outputs=outputs, odd=True),)
        case Kind.DTYPE:
            new = (replace(act, dtype="Half" if act.dtype != "Half" else "Float", odd=True),)
        case Kind.OTHER_OP:
            other = Op.BROADCAST if act.op is not Op.BROADCAST else Op.ALL_REDUCE
            new = (replace(act, op=other, outputs=act.inputs, odd=True),)
        case Kind.ORDER:
            new = (replace(acts[stall.at + 1], odd=True), replace(act, odd=True))
            after = after[1:]
        case Kind.NO_SEND | Kind.NO_RECEIVE:
            left = tuple(part for part in act.parts if part.sends is not (stall.kind is Kind.NO_SEND))
            # what is left out leaves an act that does nothing, so that places keep their numbers
            new = (replace(act, parts=left) if left else Act(Op.SETTLE, place=act.place),)
        case _:
            return acts
    return (*before, *new, *after)


def crossed(acts: tuple[Act, ...], at: int, stage: int) -> tuple[Act, ...]:
    """The program of a stage that waits for its neighbour's transfer before it makes its own: with both doing so nobody moves.

    at: an act with a transfer to that neighbour, `stage`; what it would have sent comes only after what it receives
    """
    act = acts[at]
    receives = replace(act, parts=(Part(False, stage),), odd=True)
    return (*acts[:at], receives, *acts[at:])

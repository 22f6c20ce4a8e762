"""One synchronous step of a job: how long it takes, and what each rank does and waits for in it."""

from dataclasses import dataclass

import numpy as np

from simulator.physics.collectives import Cost
from simulator.physics.costs import Costs, Job
from simulator.physics.fabric import Tier
from simulator.physics.pipeline import Run, Schedule, run, schedule_of
from simulator.physics.tables import PhysicsError

PHASES = (
    "data", "host", "forward", "backward", "tp_comm", "cp_comm", "ep_comm", "tp_wait", "pp_wait", "dp_comm", "dp_wait",
    "optimizer", "step_wait",
)  # fmt: skip
"""What a rank's step is made of, seconds. Own work: data, host, forward, backward, optimizer. *_comm: exposed transfers.
tp_wait: for slower ranks of its own tensor, context or expert group; pp_wait: for neighbours in the pipeline, the bubble
and messages between stages; dp_wait: for slower replicas; step_wait: for other stages at the end of the step."""

_AT = {name: n for n, name in enumerate(PHASES)}


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What is not as usual in a step. None: as usual.

    compute: how much longer each rank's kernels take, shape (world,); scale_up, network: share left of each rank's link in
    the node and of its NIC, shape (world,), above 0; data_s, host_s: seconds by which each rank's data or host is late
    lengths: tokens of each micro-batch over its full length, shape (micro-batches, dp); squares: sum of the squares of its
    documents' lengths over the square of the full length, same shape, `lengths` squared where None
    jitter: how much longer each pass takes, shape (chunks, stages, micro-batches, dp)
    """

    compute: np.ndarray | None = None
    scale_up: np.ndarray | None = None
    network: np.ndarray | None = None
    data_s: np.ndarray | None = None
    host_s: np.ndarray | None = None
    lengths: np.ndarray | None = None
    squares: np.ndarray | None = None
    jitter: np.ndarray | None = None


@dataclass(frozen=True)
class Tail:
    """What follows the passes. reduce_s, gather_s: exposed, shape (stages, tp); meeting_s: when all ranks have met after it"""

    reduce_s: np.ndarray
    gather_s: np.ndarray
    meeting_s: float


@dataclass(frozen=True)
class Step:
    """A step. phases: seconds, shape (world, len(PHASES)), every row sums to step_s; run: the pipelines' passes in time
    send_s: of a message from each stage to the next; ready_s: when each stage begins; both of shape (stages, dp)
    """

    step_s: float
    phases: np.ndarray
    run: Run
    tail: Tail
    send_s: np.ndarray
    ready_s: np.ndarray

    def phase(self, name: str) -> np.ndarray:
        """One phase of every rank, shape (world,)."""
        return np.asarray(self.phases[:, _AT[name]])


def step_of(job: Job, costs: Costs, conditions: Conditions) -> Step:
    """Time a step under these conditions. raises PhysicsError: an array of another shape, or a link with nothing left"""
    layout = job.layout
    schedule = schedule_of(layout.pp, layout.micro_batches, layout.chunks)
    places = layout.ranks  # (pp, dp, cp, tp)
    own = _of(conditions.compute, 1.0, places)
    near, far = _of(conditions.scale_up, 1.0, places), _of(conditions.network, 1.0, places)
    if min(near.min(), far.min()) <= 0.0:
        raise PhysicsError("a link share of 0 or less: such a job does not step, it hangs")
    out = np.zeros((*places.shape, len(PHASES)))
    out[..., _AT["data"]], out[..., _AT["host"]] = _of(conditions.data_s, 0.0, places), _of(conditions.host_s, 0.0, places)
    late = out[..., _AT["data"]] + out[..., _AT["host"]]
    ready = late.max(axis=(2, 3))
    work = _Work.of(job, costs, conditions, own, near, far)
    sends = _sends(costs.send, near if costs.groups["pp"].tier <= Tier.NODE else far)
    ran = run(schedule, work.forward_s, work.backward_s, sends, ready)
    _fill(out, work, ran, late, ready, own)
    step_s, tail = _finish(out, job, costs, ran, far)
    phases = np.empty((layout.world, len(PHASES)))
    phases[places.reshape(-1)] = out.reshape(-1, len(PHASES))
    return Step(step_s, phases, ran, tail, sends, ready)


def _of(values: np.ndarray | None, usual: float, places: np.ndarray) -> np.ndarray:
    """A value per rank at its place in the layout."""
    if values is None:
        return np.full(places.shape, usual)
    if values.shape != (places.size,):
        raise PhysicsError(f"an array of shape {values.shape} for {places.size} ranks")
    return np.asarray(values[places])


@dataclass(frozen=True)
class _Work:
    """Seconds of each pass, shape (chunks, stages, micro-batches, dp), and their sums by what they are, shape (stages, dp)."""

    forward_s: np.ndarray
    backward_s: np.ndarray
    usual_forward_s: np.ndarray  # sums of compute at usual speed
    usual_backward_s: np.ndarray
    slowest: np.ndarray
    comm_s: dict[str, np.ndarray]

    @classmethod
    def of(cls, job: Job, costs: Costs, conditions: Conditions, own: np.ndarray, near: np.ndarray, far: np.ndarray) -> "_Work":
        """The passes of every lane. Ranks of a tensor or context group meet in every layer, so their slowest sets the pace;
        replicas that share experts meet in every sparse layer."""
        layout, software = job.layout, job.software
        slowest, thin, narrow = own.max(axis=(2, 3)), near.min(axis=(2, 3)), far.min(axis=(2, 3))
        if layout.ep > 1:
            slowest, narrow = _meet(slowest, layout.ep), 1.0 / _meet(1.0 / narrow, layout.ep)
        shape = (layout.micro_batches, layout.dp)
        lengths = np.ones((1, 1)) if conditions.lengths is None else _shaped(conditions.lengths, shape)
        squares = lengths**2 if conditions.squares is None else _shaped(conditions.squares, shape)
        full = (layout.chunks, layout.pp, layout.micro_batches, layout.dp)
        noise = np.ones((1, 1, 1, 1)) if conditions.jitter is None else _shaped(conditions.jitter, full)
        matrix, again = costs.matrix_s[:, :, None, None] * lengths, costs.backward_matrix_s[:, :, None, None] * lengths
        attention = costs.attention_s[:, :, None, None] * squares
        forward, backward = (matrix + attention) * noise, (again + attention * costs.attention_again) * noise
        comm = {}
        for name, usual, hidden, share in (
            ("tp_comm", costs.tp_s, software.tp_overlap, thin if costs.groups["tp"].tier <= Tier.NODE else narrow),
            ("cp_comm", costs.cp_s, software.cp_overlap, thin if costs.groups["cp"].tier <= Tier.NODE else narrow),
            ("ep_comm", costs.ep_s, software.ep_overlap, thin if costs.groups["ep"].tier <= Tier.NODE else narrow),
        ):
            shown = np.maximum(1.0 / share - hidden, 0.0)[None, :, None, :]  # what kernels can hide does not grow with the transfer
            comm[name] = usual[:, :, None, None] * shown * lengths
        extra = comm["tp_comm"] + comm["cp_comm"] + comm["ep_comm"]
        pace = slowest[None, :, None, :]
        sums = {name: 2.0 * np.broadcast_to(part, full).sum(axis=(0, 2)) for name, part in comm.items()}
        return cls(
            forward * pace + extra, backward * pace + extra, np.broadcast_to(forward, full).sum(axis=(0, 2)),
            np.broadcast_to(backward, full).sum(axis=(0, 2)), slowest, sums,
        )  # fmt: skip


def _meet(lanes: np.ndarray, ep: int) -> np.ndarray:
    """The greatest among the replicas that share experts, for each of them, shape (stages, dp)."""
    return np.repeat(lanes.reshape(lanes.shape[0], -1, ep).max(axis=2), ep, axis=1)


def _shaped(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if values.shape != shape:
        raise PhysicsError(f"an array of shape {values.shape}, not {shape}")
    return values


def _sends(cost: Cost, share: np.ndarray) -> np.ndarray:
    """Seconds from each stage to the next, shape (stages, dp). share: what is left of each rank's link, shape (pp, dp, cp, tp)"""
    least = share.min(axis=(2, 3))
    return np.asarray(cost.latency_s + cost.transfer_s / np.minimum(least, np.roll(least, -1, axis=0)))


def _fill(out: np.ndarray, work: _Work, ran: Run, late: np.ndarray, ready: np.ndarray, own: np.ndarray) -> None:
    """Write what every rank does until its last backward pass is done."""
    out[..., _AT["forward"]] = work.usual_forward_s[:, :, None, None] * own
    out[..., _AT["backward"]] = work.usual_backward_s[:, :, None, None] * own
    for name, seconds in work.comm_s.items():
        out[..., _AT[name]] = seconds[:, :, None, None]
    usual = (work.usual_forward_s + work.usual_backward_s)[:, :, None, None]
    out[..., _AT["tp_wait"]] = usual * (work.slowest[:, :, None, None] - own) + ready[:, :, None, None] - late
    out[..., _AT["pp_wait"]] = (ran.end_s - ready - ran.busy_s)[:, :, None, None]


def _finish(out: np.ndarray, job: Job, costs: Costs, ran: Run, far: np.ndarray) -> tuple[float, Tail]:
    """Write what follows the last backward pass: gradients, norm, optimizer, parameters. Answers the length of the step."""
    schedule = ran.schedule
    together = ran.end_s.max(axis=1)  # (stages,): when the last replica of a stage is done
    out[..., _AT["dp_wait"]] += (together[:, None] - ran.end_s)[:, :, None, None]
    share = far.min(axis=(1, 2))  # (stages, tp): a group of replicas is as quick as its slowest link
    shown = _exposed(job, costs.reduce, costs.pieces, share, _window(schedule, ran, last=True))
    gathered = _exposed(job, costs.gather, costs.pieces, share, _window(schedule, ran, last=False))
    out[..., _AT["dp_comm"]] += (shown + gathered)[:, None, None, :]
    reduced = together[:, None] + shown
    meeting = float(reduced.max()) + costs.norm.seconds
    after = costs.optimizer_s[:, None] + gathered
    step_s = meeting + float(after.max()) + job.software.host_s
    out[..., _AT["optimizer"]] = costs.optimizer_s[:, None, None, None]
    out[..., _AT["host"]] += job.software.host_s
    out[..., _AT["step_wait"]] = (meeting - reduced + after.max() - after)[:, None, None, :]
    return step_s, Tail(shown, gathered, meeting)


def _exposed(job: Job, costs: tuple[Cost, ...], pieces: tuple[float, ...], share: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Seconds of the replicas' communication that hide behind nothing, shape (stages, tp): all but the window, at least one piece."""
    latency, transfer = (np.array([getattr(cost, name) for cost in costs]) for name in Cost._fields)
    whole = latency[:, None] + transfer[:, None] / share
    return np.asarray(np.maximum(whole / np.array(pieces)[:, None], whole - job.software.dp_overlap * window[:, None]))


def _window(schedule: Schedule, ran: Run, *, last: bool) -> np.ndarray:
    """Seconds that can hide the replicas' communication, shape (stages,).

    Gradients of a chunk are whole in its last backward pass: from the beginning of the first such pass to the end of the
    step's last. Parameters of a chunk are needed in its first forward pass: from the beginning of the step to that of the
    last chunk. One window for all replicas: the last to begin opens it, the first to need it closes it.
    """
    chunk, stages = schedule.chunks - 1, range(schedule.stages)
    if last:
        at = [schedule.place(s, backward=True, chunk=chunk, micro_batch=schedule.micro_batches - 1) for s in stages]
        opens = np.array([ran.starts[s, n].max() for s, n in enumerate(at)])
        return np.asarray(np.maximum(ran.end_s.max(axis=1) - opens, 0.0))
    at = [schedule.place(s, backward=False, chunk=chunk, micro_batch=0) for s in stages]
    return np.array([ran.ends[s, n].min() for s, n in enumerate(at)])

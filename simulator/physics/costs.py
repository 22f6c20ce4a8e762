"""What each stage of a job costs on its devices and network where nothing is wrong: compute, communication, memory."""

from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from simulator.physics.collectives import Cost, collective, send
from simulator.physics.devices import DeviceKind
from simulator.physics.fabric import Fabric, Group, Tier, group_of
from simulator.physics.layout import Layout
from simulator.physics.models import Model, again_of
from simulator.physics.noise import network_stretch
from simulator.physics.software import Software
from simulator.physics.tables import PhysicsError

_STATE_BYTES = 12  # of a parameter: 32-bit master copy and two moments of Adam
_WEIGHT_BYTES = 2


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Nominal seconds and bytes of a job.

    matrix_s, attention_s, backward_matrix_s: of one full micro-batch in a chunk, shape (chunks, stages); the backward pass
    of attention is `attention_again` times its forward pass
    tp_s, cp_s, ep_s: communication of a chunk in one direction before any overlap, shape (chunks, stages)
    send: to the next stage; reduce, gather: gradients and parameters of each stage, a Cost per stage, and how many pieces
    parameters, memory_bytes, network_bytes: of one device of each stage, shape (stages,); network_bytes leave through its
    NIC in a step: gradients, parameters, messages between stages, tokens to experts
    """

    matrix_s: np.ndarray
    attention_s: np.ndarray
    backward_matrix_s: np.ndarray
    attention_again: float
    tp_s: np.ndarray
    cp_s: np.ndarray
    ep_s: np.ndarray
    send: Cost
    reduce: tuple[Cost, ...]
    gather: tuple[Cost, ...]
    pieces: tuple[float, ...]
    norm: Cost
    optimizer_s: np.ndarray
    parameters: np.ndarray
    memory_bytes: np.ndarray
    network_bytes: np.ndarray
    groups: dict[str, Group]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a job's costs follow from. slots: place in the cluster of each of its nodes, shape (nodes,)"""

    model: Model
    device: DeviceKind
    layout: Layout
    fabric: Fabric
    software: Software
    dtype: str
    slots: np.ndarray


def costs_of(job: Job) -> Costs:
    """Work out a job's costs. raises PhysicsError: it does not divide, or does not fit its devices' memory"""
    layout, model = job.layout, job.model
    bounds = layout.layers_of(model.layers)
    groups = {kind: group_of(layout.groups(kind), job.slots, job.fabric) for kind in ("tp", "cp", "dp", "pp", "ep")}
    chunks = [[_chunk(job, groups, range(bounds[c * layout.pp + s], bounds[c * layout.pp + s + 1]), c * layout.pp + s)
               for s in range(layout.pp)] for c in range(layout.chunks)]  # fmt: skip
    table = np.array(chunks)  # (chunks, stages, kinds)
    dense, experts = _parameters(job, bounds)
    memory = _memory(job, bounds, dense + experts)
    reduce, gather, pieces = zip(*(_replicas(job, groups["dp"], dense[s], experts[s]) for s in range(layout.pp)), strict=True)
    shards = layout.dp * layout.cp if layout.sharded else 1
    moved = (dense + experts) / shards * job.software.moved_bytes
    return Costs(
        matrix_s=table[..., 0], attention_s=table[..., 1], backward_matrix_s=table[..., 2],
        attention_again=2.0 + again_of(layout.recompute), tp_s=table[..., 3], cp_s=table[..., 4], ep_s=table[..., 5],
        send=_send(job, groups["pp"]), reduce=reduce, gather=gather, pieces=pieces, norm=_norm(job),
        optimizer_s=moved / job.device.memory_bytes_per_s, parameters=dense + experts, memory_bytes=memory,
        network_bytes=_traffic(job, groups, bounds, dense + experts), groups=groups,
    )  # fmt: skip


def _rate(job: Job) -> float:
    return job.device.peak(job.dtype) * job.software.kernel_efficiency


def _chunk(job: Job, groups: dict[str, Group], layers: range, place: int) -> tuple[float, ...]:
    """Seconds of one micro-batch in a chunk: matrices, attention, matrices backward, communication of tensor, context, expert."""
    layout, model = job.layout, job.model
    tokens = layout.micro_batch * layout.sequence / layout.cp
    rate = _rate(job) * layout.tp
    again = again_of(layout.recompute)
    matrices = sum(model.layer_flops(n) for n in layers) * tokens / rate
    head = model.head_flops * tokens / rate if place == layout.pp * layout.chunks - 1 else 0.0
    attention = len(layers) * model.attention_flops * tokens * layout.sequence / 2 / rate
    vector = tokens * model.hidden * 2.0
    tensor = len(layers) * 2 * collective("all_reduce", vector, groups["tp"], job.device, job.fabric).seconds
    keys = tokens / layout.tp * 2 * model.kv_heads * model.head_dim * 2.0 * (layout.cp - 1)
    context = len(layers) * send(keys, groups["cp"], job.device, job.fabric).seconds if layout.cp > 1 else 0.0
    sparse = sum(model.is_sparse(n) for n in layers)
    routed = vector / layout.tp * model.experts_active
    expert = sparse * 2 * collective("all_to_all", routed, groups["ep"], job.device, job.fabric).seconds
    return matrices + head, attention, (2.0 + again) * matrices + 2.0 * head, tensor, context, expert


def _parameters(job: Job, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parameters on one device of each stage: what all replicas hold, and experts, which are divided among ep replicas."""
    layout, model = job.layout, job.model
    dense, experts = np.zeros(layout.pp), np.zeros(layout.pp)
    for place in range(layout.pp * layout.chunks):
        layers = range(bounds[place], bounds[place + 1])
        dense[place % layout.pp] += sum(model.dense_part(n) for n in layers) / layout.tp
        experts[place % layout.pp] += sum(model.expert_part(n) for n in layers) / (layout.tp * layout.ep)
    dense[0] += model.embedding / layout.tp
    if not model.tied or layout.pp > 1:
        dense[-1] += model.embedding / layout.tp
    return dense, experts


def _memory(job: Job, bounds: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Bytes on one device of each stage. raises PhysicsError: more than it has; the message says what would help"""
    layout, model = job.layout, job.model
    shards = layout.dp * layout.cp if layout.sharded else 1
    states = parameters * (_WEIGHT_BYTES + max(layout.gradient_bytes, 4) + _STATE_BYTES / shards)
    tokens = layout.micro_batch * layout.sequence / layout.cp / layout.tp
    total = layout.micro_batches * layout.chunks
    held = np.zeros(layout.pp)
    for stage in range(layout.pp):
        ahead = layout.pp - stage if layout.chunks == 1 else 2 * (layout.pp - stage - 1) + (layout.chunks - 1) * layout.pp + 1
        places = range(stage, layout.pp * layout.chunks, layout.pp)
        layers = [n for place in places for n in range(bounds[place], bounds[place + 1])]
        kept = sum(model.activation_bytes(n, recompute=layout.recompute) for n in layers) * tokens
        held[stage] = kept * min(ahead, total) / layout.chunks
    held[-1] += 6.0 * tokens * model.vocab  # logits at 16 bit and their gradient at 32
    memory = states + held + job.software.reserved_bytes
    worst = int(memory.argmax())
    if memory[worst] > job.device.memory_bytes:
        raise PhysicsError(
            f"stage {worst} needs {memory[worst] / 1e9:.1f} GB of {job.device.memory_bytes / 1e9:.1f} GB on {job.device.title}: "
            f"{states[worst] / 1e9:.1f} of states, {held[worst] / 1e9:.1f} of activations; raise tp or pp, or recompute"
        )
    return np.asarray(memory)


def _message_bytes(job: Job) -> float:
    """Of one micro-batch between two stages, from one rank; ranks of a tensor group send a part each."""
    layout = job.layout
    return layout.micro_batch * layout.sequence / layout.cp / layout.tp * job.model.hidden * 2.0


def _send(job: Job, group: Group) -> Cost:
    return send(_message_bytes(job), group, job.device, job.fabric)


def _traffic(job: Job, groups: dict[str, Group], bounds: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Bytes that one device of each stage sends through the network in a step, shape (stages,)."""
    layout, model = job.layout, job.model
    sent = np.zeros(layout.pp)
    replicas, experts = groups["dp"], groups["ep"]
    if replicas.tier > Tier.NODE:
        once = parameters * (layout.gradient_bytes + _WEIGHT_BYTES)
        sent += once * (replicas.size - 1) / replicas.size / replicas.per_node
    if groups["pp"].tier > Tier.NODE:
        passes = np.full(layout.pp, 2.0 * layout.chunks)
        passes[0] -= 1.0  # nothing goes back from the first chunk, nothing on from the last
        passes[-1] -= 1.0
        sent += passes * layout.micro_batches * _message_bytes(job)
    if experts.tier > Tier.NODE:
        routed = _message_bytes(job) * model.experts_active * (experts.size - experts.per_node) / experts.size
        for place in range(layout.pp * layout.chunks):
            sparse = sum(model.is_sparse(n) for n in range(bounds[place], bounds[place + 1]))
            sent[place % layout.pp] += 4.0 * sparse * routed * layout.micro_batches  # there and back, forward and backward
    return np.asarray(sent)


def _replicas(job: Job, group: Group, dense: float, experts: float) -> tuple[Cost, Cost, float]:
    """Reducing a stage's gradients among its replicas and gathering its parameters again, in pieces."""
    layout, software = job.layout, job.software
    if group.size == 1:
        return Cost(), Cost(), 1.0
    stretch = network_stretch(layout.pp * layout.tp, software)
    among = max(1, group.size // layout.ep)
    fewer = replace(group, size=among, per_node=max(1, min(group.per_node, among)))
    costs, count = [], 0.0
    for op, width in (("reduce_scatter", layout.gradient_bytes), ("all_gather", _WEIGHT_BYTES)):
        whole = Cost()
        for parameters, members in ((dense, group), (experts, fewer)):
            pieces = max(1.0, np.ceil(parameters * width / software.bucket_bytes)) if parameters else 0.0
            if pieces:
                one = collective(op, parameters * width / pieces, members, job.device, job.fabric)
                whole = whole.plus(one.times(pieces))
            count = max(count, pieces)
        costs.append(Cost(whole.latency_s, whole.transfer_s * stretch))
    return costs[0], costs[1], count


def _norm(job: Job) -> Cost:
    """The one number all ranks agree on after the gradients: their norm, and whether any of them is infinite."""
    everyone = group_of(np.arange(job.layout.world)[None, :], job.slots, job.fabric)
    return collective("barrier", 4.0, everyone, job.device, job.fabric)

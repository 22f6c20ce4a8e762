"""How long a step of an engine takes: a roofline of compute and memory traffic over a fixed overhead.

One step moves the weights it touches and the KV of every sequence it attends to, and computes 2 FLOPs per active parameter and token and
the attention. The longer of the two, plus what no batch changes (kernel launches, collectives between devices, the scheduler), is its
time: Pope et al., "Efficiently Scaling Transformer Inference" (2022), section 2. Shapes and data sheets are those of `simulator.physics`;
the two efficiencies are the achieved shares of the peaks and, with the overhead, what is fitted to a deployment.
"""

from dataclasses import dataclass
from functools import cache

import msgspec
import numpy as np

from simulator.physics.devices import device_kind
from simulator.physics.models import model_shape


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's shape.

    parameters, active: in all, and used for one token; expert_share: part of the parameters that lies in routed experts, of which a token
    uses `routed` of `experts`; weight_bytes, kv_bytes: per parameter, per token; attention_flops: per pair of tokens that attend
    """

    parameters: float
    active: float
    weight_bytes: float
    kv_bytes: float
    attention_flops: float
    expert_share: float = 0.0
    experts: int = 1
    routed: int = 1


class Hardware(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One instance: devices and, per device, peak FLOP/s, memory bytes and bytes/s, and its share of the fabric in bytes/s."""

    devices: int
    flops: float
    memory_bytes: float
    memory_bytes_s: float
    fabric_bytes_s: float


@cache
def served(shape: str, *, weight_bytes: float) -> Model:
    """A published shape as it is served, its KV in 16 bit; latent attention keeps its latent and the rotary part.

    raises PhysicsError: there is no such shape
    """
    of = model_shape(shape)
    kept = of.kv_rank + of.rope_dim if of.kv_rank else 2 * of.kv_heads * of.head_dim
    return Model(
        parameters=float(of.parameters), active=float(of.active_parameters), weight_bytes=weight_bytes, kv_bytes=2.0 * of.layers * kept,
        attention_flops=of.layers * of.attention_flops, expert_share=sum(map(of.expert_part, range(of.layers))) / of.parameters,
        experts=max(1, of.experts), routed=max(1, of.experts_active),
    )  # fmt: skip


@cache
def instance(kind: str, *, devices: int, dtype: str = "bf16") -> Hardware:
    """So many devices of a kind. raises PhysicsError: there is no such kind, or no peak of this dtype"""
    of = device_kind(kind)
    return Hardware(
        devices=devices, flops=of.peak(dtype), memory_bytes=float(of.memory_bytes), memory_bytes_s=of.memory_bytes_per_s,
        fabric_bytes_s=of.network_bytes_per_s,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of a step. compute, memory: achieved shares of the peaks, 0..1; overhead_s: of every step."""

    model: Model
    hardware: Hardware
    compute: float = 0.45
    memory: float = 0.7
    overhead_s: float = 0.004

    def step_s(self, tokens: float, pairs: float, context: float) -> float:
        """Seconds of one step. tokens: computed in it; pairs: of tokens that attend to each other; context: tokens whose KV is read."""
        return float(self.steps_s(tokens, np.array([pairs]), np.array([context]))[0])

    def steps_s(self, tokens: float, pairs: np.ndarray, context: np.ndarray) -> np.ndarray:
        """The same of several steps at once, shape as pairs and context."""
        hardware = self.hardware
        flops = 2.0 * self.model.active * tokens + self.model.attention_flops * pairs
        moved = self.weights_read(tokens) + self.model.kv_bytes * context
        compute_s = flops / (hardware.flops * hardware.devices * self.compute)
        memory_s = moved / (hardware.memory_bytes_s * hardware.devices * self.memory)
        seconds: np.ndarray = self.overhead_s + np.maximum(compute_s, memory_s)
        return seconds

    def weights_read(self, tokens: float) -> float:
        """Bytes of weights that a step touches: of the experts only those that one of its tokens is routed to."""
        model = self.model
        unused = (1.0 - model.routed / model.experts) ** tokens if model.experts > 1 else 0.0
        return model.parameters * model.weight_bytes * (1.0 - model.expert_share * unused)

    def kv_tokens(self, *, reserve: float = 0.1) -> int:
        """Tokens whose KV fits beside the weights. reserve: share of memory for everything else."""
        held = self.hardware.memory_bytes * self.hardware.devices * (1.0 - reserve)
        return max(0, int((held - self.model.parameters * self.model.weight_bytes) / self.model.kv_bytes))

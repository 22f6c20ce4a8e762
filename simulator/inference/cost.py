"""How long a step of an engine takes: a roofline of compute and memory traffic over a fixed overhead.

One step moves the weights it touches and the KV of every sequence it attends to, and computes 2 FLOPs per active parameter and token and
the attention. The longer of the two, plus what no batch changes (kernel launches, collectives between devices, the scheduler), is its
time: Pope et al., "Efficiently Scaling Transformer Inference" (2022), section 2. Constants are public shapes of models and data sheets;
the two efficiencies are the achieved share of the peaks and the overhead is what is fitted to a deployment.
"""

from dataclasses import dataclass

import msgspec
import numpy as np


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
    fabric_bytes_s: float = 50e9


MODELS = {
    # DeepSeek-V3 technical report (2024): 671B, 37B active, 61 layers, 58 of them with 256 experts of which 8 are used, 8-bit weights,
    # latent attention of 576 values a token and layer in 16 bit, 128 heads of 192 + 128.
    "deepseek-v3": Model(
        parameters=671e9, active=37e9, weight_bytes=1.0, kv_bytes=61 * 576 * 2, attention_flops=61 * 128 * 2 * (192 + 128),
        expert_share=0.975, experts=256, routed=8,
    ),
    # Llama 3 (2024): 80 layers, 64 heads of 128, 8 for keys and values; 32 layers, 32 heads and 8.
    "llama-70b": Model(
        parameters=70.6e9, active=70.6e9, weight_bytes=2.0, kv_bytes=80 * 2 * 8 * 128 * 2, attention_flops=80 * 64 * 4 * 128
    ),
    "llama-8b": Model(
        parameters=8.03e9, active=8.03e9, weight_bytes=2.0, kv_bytes=32 * 2 * 8 * 128 * 2, attention_flops=32 * 32 * 4 * 128
    ),
}  # fmt: skip

HARDWARE = {
    # NVIDIA data sheets: dense 16-bit FLOP/s, memory and its bandwidth; 400 Gb/s of fabric per device.
    "h100": Hardware(devices=8, flops=989e12, memory_bytes=80e9, memory_bytes_s=3.35e12),
    "h200": Hardware(devices=8, flops=989e12, memory_bytes=141e9, memory_bytes_s=4.8e12),
    "h100x1": Hardware(devices=1, flops=989e12, memory_bytes=80e9, memory_bytes_s=3.35e12),
}


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

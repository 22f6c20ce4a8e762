"""The published training runs that the physics is held against, and the settings they leave open."""

from dataclasses import dataclass

from msgspec.structs import replace

from simulator.physics.devices import DeviceKind, device_kind
from simulator.physics.fabric import Fabric
from simulator.physics.layout import Layout
from simulator.physics.models import model_shape
from simulator.physics.plan import Plan, plan
from simulator.physics.software import Software

SCALES = (32, 64, 128, 256, 512, 1024, 2048)
MFU = {2048: 0.58}
LINEARITY = {1024: 0.96, 2048: 0.91}
TOLERANCE = 0.015
"""Of MFU and linearity, absolute."""

LAYOUT = Layout(tp=8, pp=4, chunks=2, global_batch=2048, sequence=4096, gradient_bytes=4)
"""Not published, chosen as the plainest that fits: 32 devices are one replica (a node of tensor parallel ranks, four
stages), more devices are more replicas of it, and the global batch stays what it is (8.4 million tokens)."""

DEVICE = "kunlun-p800"
SOFTWARE = Software(kernel_efficiency=0.70)
"""The one free constant, set so that 2,048 devices come to the published MFU; all else is the defaults."""


def reference(
    devices: int,
    *,
    layout: Layout = LAYOUT,
    software: Software = SOFTWARE,
    fabric: Fabric | None = None,
    device: DeviceKind | None = None,
) -> Plan:
    """Pre-training a dense 72B model (Qwen2.5-72B's shape) on P800-class devices, data parallel grown. Settings can be changed."""
    grown = replace(layout, dp=devices // (layout.tp * layout.pp * layout.cp))
    return plan(model_shape("qwen2.5-72b"), device or device_kind(DEVICE), grown, fabric=fabric, software=software)


def linearity(plans: dict[int, Plan], devices: int, base: int = SCALES[0]) -> float:
    """Throughput over that of the smallest run times the growth."""
    return plans[devices].tokens_per_s / plans[base].tokens_per_s * base / devices


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A run published by others, for a look at what the physics says without being fitted to it. mfu: what they report"""

    name: str
    model: str
    device: str
    layout: Layout
    fabric: Fabric
    mfu: float

    def plan(self, software: Software) -> Plan:
        return plan(model_shape(self.model), device_kind(self.device), self.layout, fabric=self.fabric, software=software)


_LLAMA = Layout(
    tp=8, pp=16, chunks=8, global_batch=2048, sequence=8192, recompute="selective", chunk_layers=(0, *(1,) * 126, 0), dp=64,
)  # fmt: skip
ELSEWHERE = (
    # As quoted; the layouts, and Llama 3's MFU by scale, were not compared with the papers' text: see docs/simulator-physics.md
    # NSDI'24, arXiv:2402.15627, table 2 and section 6: 12,288 A100, tensor 8, pipeline 8, six chunks, 6,144 sequences
    Elsewhere(
        name="MegaScale 175B on 12,288 A100", model="gpt-175b", device="a100", fabric=Fabric(leaf_nodes=64, pod_nodes=2048), mfu=0.552,
        layout=Layout(tp=8, pp=8, dp=192, chunks=6, global_batch=6144, sequence=2048),
    ),
    # arXiv:2407.21783, table 4: tensor 8, pipeline 16, 16 million tokens a step. One layer a chunk follows from its text
    Elsewhere(name="Llama 3 405B on 8,192 H100", model="llama3-405b", device="h100", layout=_LLAMA, fabric=Fabric(leaf_nodes=64), mfu=0.43),
    Elsewhere(
        name="Llama 3 405B on 16,384 H100", model="llama3-405b", device="h100", layout=replace(_LLAMA, dp=128),
        fabric=Fabric(leaf_nodes=64), mfu=0.41,
    ),
)  # fmt: skip

"""What an accelerator and its place in a node can do: memory, peak arithmetic, links, power, read from `devices.toml`."""

from collections.abc import Mapping
from functools import cache

import msgspec

from simulator.physics.tables import PhysicsError, pick, rows_of

DEVICES_PER_NODE = 8
PCIE_BYTES_PER_S = {3: 15.75e9, 4: 31.5e9, 5: 63.0e9}
"""Bytes per second of sixteen lanes in one direction by generation, after 128b/130b encoding (PCI-SIG base specifications)."""


class DeviceKind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kind of accelerator in a node of eight.

    peak_flops: dense FLOP/s by dtype; scale_up_bytes_per_s: to its neighbours in the node, one direction
    nic_bytes_per_s: of one NIC, one direction; assumed: the fields that are estimates, no maker's figure
    """

    title: str
    memory_bytes: int
    memory_bytes_per_s: float
    peak_flops: dict[str, float]
    scale_up: str
    scale_up_bytes_per_s: float
    nics_per_node: int
    nic_bytes_per_s: float
    pcie_generation: int
    power_w_max: float
    power_w_idle: float
    assumed: tuple[str, ...] = ()

    @property
    def pcie_bytes_per_s(self) -> float:
        return PCIE_BYTES_PER_S[self.pcie_generation]

    @property
    def network_bytes_per_s(self) -> float:
        """A device's own share of its node's NICs, one direction."""
        return self.nic_bytes_per_s * self.nics_per_node / DEVICES_PER_NODE

    def power_w(self, computing: float, waiting: float = 0.0) -> float:
        """Power drawn on average. computing, waiting: shares of the time in kernels that compute and that wait for others

        A collective that waits keeps the device busy and draws little, which is how a hang looks: full utilisation near
        idle power. 90 % of the limit while computing and an eighth while waiting are assumed.
        """
        return self.power_w_idle + (self.power_w_max - self.power_w_idle) * min(1.0, 0.9 * computing + 0.125 * waiting)

    def peak(self, dtype: str) -> float:
        """Dense FLOP/s. raises PhysicsError: no peak is known for this dtype"""
        return pick(self.peak_flops, dtype, f"peak of {self.title}")


@cache
def device_kinds() -> Mapping[str, DeviceKind]:
    """Every kind by its name. raises PhysicsError: the file does not hold together"""
    kinds = rows_of("devices.toml", DeviceKind)
    for name, kind in kinds.items():
        unknown = set(kind.assumed) - set(DeviceKind.__struct_fields__)
        if unknown or kind.pcie_generation not in PCIE_BYTES_PER_S:
            raise PhysicsError(f"devices.toml: {name}: {sorted(unknown) or kind.pcie_generation} is not known")
    return kinds


def device_kind(name: str) -> DeviceKind:
    """The kind of this name, such as "kunlun-p800". raises PhysicsError: there is none"""
    return pick(device_kinds(), name, "device kind")

"""What the exporters of the simulated nodes read: tables of numbers, before anybody has written them as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.topology import Kind, Target
from simulator.chance import normals, uniforms
from simulator.nodes import DEVICES, Device, Nic, Node

# The names and units of dcgm-exporter and node_exporter, with their kind.
DEVICE_METRICS: Mapping[str, str] = {
    "DCGM_FI_DEV_SM_CLOCK": "gauge", "DCGM_FI_DEV_MEMORY_TEMP": "gauge", "DCGM_FI_DEV_GPU_TEMP": "gauge",
    "DCGM_FI_DEV_POWER_USAGE": "gauge", "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": "counter", "DCGM_FI_DEV_GPU_UTIL": "gauge",
    "DCGM_FI_DEV_XID_ERRORS": "gauge", "DCGM_FI_DEV_FB_USED": "gauge", "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": "counter",
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": "counter", "DCGM_FI_DEV_ROW_REMAP_PENDING": "gauge", "DCGM_FI_DEV_ROW_REMAP_FAILURE": "gauge",
    "DCGM_FI_DEV_POWER_VIOLATION": "counter", "DCGM_FI_DEV_THERMAL_VIOLATION": "counter",
    "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL": "counter", "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL": "counter",
    "DCGM_FI_DEV_PCIE_LINK_GEN": "gauge", "DCGM_FI_DEV_PCIE_LINK_WIDTH": "gauge", "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": "gauge",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": "gauge",
}  # fmt: skip
NIC_METRICS: Mapping[str, str] = {
    "node_infiniband_state_id": "gauge", "node_infiniband_physical_state_id": "gauge", "node_infiniband_rate_bytes_per_second": "gauge",
    "node_infiniband_port_data_received_bytes_total": "counter", "node_infiniband_port_data_transmitted_bytes_total": "counter",
    "node_infiniband_link_downed_total": "counter", "node_infiniband_link_error_recovery_total": "counter",
    "node_infiniband_symbol_error_total": "counter", "node_infiniband_port_errors_received_total": "counter",
    "node_infiniband_port_discards_transmitted_total": "counter", "node_infiniband_port_transmit_wait_total": "counter",
}  # fmt: skip
NODE_METRICS: Mapping[str, str] = {
    "node_load1": "gauge", "node_memory_MemAvailable_bytes": "gauge", "node_memory_MemTotal_bytes": "gauge",
    "node_procs_blocked": "gauge", "node_timex_offset_seconds": "gauge", "node_timex_sync_status": "gauge",
    "node_pressure_cpu_waiting_seconds_total": "counter", "node_pressure_io_waiting_seconds_total": "counter",
    "node_pressure_memory_waiting_seconds_total": "counter", "node_nf_conntrack_entries": "gauge",
    "node_nf_conntrack_entries_limit": "gauge", "node_vmstat_oom_kill": "untyped",
}  # fmt: skip
_TOTAL_BYTES = 2_164_663_517_184.0
PORT_BYTES_PER_S = 5e10


@dataclass(frozen=True)
class Load:
    """What a node's devices do: share of time busy, share of full power, share of time in the tensor cores, each (8,)."""

    busy: np.ndarray
    power: np.ndarray
    tensor: np.ndarray


def even(busy: float, power: float, tensor: float) -> Load:
    """All eight do the same."""
    return Load(*(np.full(DEVICES, share) for share in (busy, power, tensor)))


IDLE, WORKING, SERVING = even(0.0, 0.0, 0.0), even(0.92, 0.92, 0.506), even(0.7, 0.7, 0.31)


@dataclass(frozen=True)
class Table:
    """Readings of one exporter over some nodes. values: shape (len(targets), len(names)), NaN: there is no such row."""

    kind: Kind
    names: tuple[str, ...]
    targets: tuple[Target, ...]
    values: np.ndarray


class Readings:
    """Reads nodes, all of a sweep at once. targets are made once for each node."""

    def __init__(self) -> None:
        self._devices: dict[str, tuple[Target, ...]] = {}
        self._nics: dict[str, tuple[Target, ...]] = {}

    def devices(self, nodes: Sequence[Node], loads: Sequence[Load], *, now: float, moment: int) -> Table:
        """dcgm-exporter's. moment: which sweep, for chance."""
        keys = np.array([node.key for node in nodes], dtype=np.uint64)
        noise = normals(keys, moment, 3 * DEVICES).reshape(-1, DEVICES, 3)
        busy, power, tensor = (np.stack(column) for column in zip(*((one.busy, one.power, one.tensor) for one in loads), strict=True))
        table: dict[str, np.ndarray] = {name: np.zeros(busy.shape) for name in DEVICE_METRICS}
        table["DCGM_FI_DEV_GPU_TEMP"] = np.round(38 + 26 * power + noise[..., 0])
        table["DCGM_FI_DEV_MEMORY_TEMP"] = table["DCGM_FI_DEV_GPU_TEMP"] + 9
        table["DCGM_FI_DEV_POWER_USAGE"] = np.round(90 + 560 * power + 6 * noise[..., 1], 3)
        table["DCGM_FI_DEV_GPU_UTIL"] = np.round(100 * busy)
        table["DCGM_FI_DEV_SM_CLOCK"] = np.round(np.where(busy > 0, 1980, 1200) + 4 * noise[..., 2])
        table["DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"] = np.round(tensor, 4)
        table["DCGM_FI_DEV_FB_USED"] = 400 + 68_000.0 * (busy > 0)
        table["DCGM_FI_DEV_PCIE_LINK_GEN"] += 5
        table["DCGM_FI_DEV_PCIE_LINK_WIDTH"] += 16
        values = np.stack(list(table.values()), axis=-1)
        for n, node in enumerate(nodes):
            for device in node.devices:
                if device.odd:
                    _odd_device(values[n, device.index], device, now)
        targets = tuple(target for node in nodes for target in self._devices_of(node))
        return _table(Kind.DEVICE, tuple(DEVICE_METRICS), targets, values.reshape(-1, len(DEVICE_METRICS)))

    def nics(self, nodes: Sequence[Node], *, now: float) -> Table:
        """node_exporter's InfiniBand ports."""
        sent = np.floor(np.array([node.traffic(now) for node in nodes]))[:, None] * np.ones(DEVICES)
        table = {name: np.zeros(sent.shape) for name in NIC_METRICS}
        table["node_infiniband_state_id"] += 4
        table["node_infiniband_physical_state_id"] += 5
        table["node_infiniband_rate_bytes_per_second"] += PORT_BYTES_PER_S
        for way in ("received", "transmitted"):
            table[f"node_infiniband_port_data_{way}_bytes_total"] = sent
        values = np.stack(list(table.values()), axis=-1)
        for n, node in enumerate(nodes):
            for k, nic in enumerate(node.nics):
                if nic.odd:
                    _odd_nic(values[n, k], nic, now)
        targets = tuple(target for node in nodes for target in self._nics_of(node))
        return _table(Kind.NIC, tuple(NIC_METRICS), targets, values.reshape(-1, len(NIC_METRICS)))

    def hosts(self, nodes: Sequence[Node], loads: Sequence[Load], *, now: float, moment: int) -> Table:
        """The rest of node_exporter's."""
        keys = np.array([node.key for node in nodes], dtype=np.uint64)
        noise, busy = uniforms(keys, moment, 1)[:, 0], np.array([float(one.busy.mean()) for one in loads])
        table = {name: np.zeros(len(nodes)) for name in NODE_METRICS}
        table["node_load1"] = np.round(60 * busy + 4 * noise, 2)
        table["node_memory_MemAvailable_bytes"] = np.floor(1.6e12 - 2e11 * busy)
        table["node_memory_MemTotal_bytes"] += _TOTAL_BYTES
        table["node_timex_sync_status"] += 1
        table["node_timex_offset_seconds"] = np.round(2e-5 * (noise - 0.5), 9) + np.array([node.skew_s for node in nodes])
        table["node_nf_conntrack_entries"] = np.floor(300 + 200 * noise)
        table["node_nf_conntrack_entries_limit"] += 262_144
        values = np.stack(list(table.values()), axis=-1)
        for n, node in enumerate(nodes):
            if node.odd:
                _override(values[n], node.shown, tuple(NODE_METRICS))
                for name in node.grows:
                    values[n, tuple(NODE_METRICS).index(name)] += node.grown(name, now)
        return _table(Kind.NODE, tuple(NODE_METRICS), tuple(Target(Kind.NODE, node.id, node=node.id) for node in nodes), values)

    def _devices_of(self, node: Node) -> tuple[Target, ...]:
        if node.id not in self._devices:
            self._devices[node.id] = tuple(Target(Kind.DEVICE, device.pci, node=node.id) for device in node.devices)
        return self._devices[node.id]

    def _nics_of(self, node: Node) -> tuple[Target, ...]:
        if node.id not in self._nics:
            self._nics[node.id] = tuple(Target(Kind.NIC, f"{nic.name}:1", node=node.id) for nic in node.nics)
        return self._nics[node.id]


def _table(kind: Kind, names: tuple[str, ...], targets: tuple[Target, ...], values: np.ndarray) -> Table:
    """A device that is lost has no row at all."""
    there = np.isfinite(values).any(axis=1)
    if there.all():
        return Table(kind, names, targets, values)
    return Table(kind, names, tuple(t for t, is_there in zip(targets, there.tolist(), strict=True) if is_there), values[there])


_DEVICE = {name: n for n, name in enumerate(DEVICE_METRICS)}
_NIC = {name: n for n, name in enumerate(NIC_METRICS)}


def _odd_device(row: np.ndarray, device: Device, now: float) -> None:
    if device.lost:
        row[:] = np.nan
        return
    row[_DEVICE["DCGM_FI_DEV_GPU_TEMP"]] += round(device.heat_c)
    row[_DEVICE["DCGM_FI_DEV_MEMORY_TEMP"]] += round(device.heat_c)
    row[_DEVICE["DCGM_FI_DEV_SM_CLOCK"]] = round(row[_DEVICE["DCGM_FI_DEV_SM_CLOCK"]] * device.throttle)
    usual_w = row[_DEVICE["DCGM_FI_DEV_POWER_USAGE"]]
    row[_DEVICE["DCGM_FI_DEV_POWER_USAGE"]] = round(90 + (usual_w - 90) * device.throttle, 3)
    row[_DEVICE["DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"]] = round(row[_DEVICE["DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"]] * device.throttle, 4)
    row[_DEVICE["DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"]] = device.uncorrected
    row[_DEVICE["DCGM_FI_DEV_ROW_REMAP_PENDING"]] = float(device.uncorrected > 0)
    _override(row, device.shown, tuple(DEVICE_METRICS))
    for name in device.grows:
        row[_DEVICE[name]] += device.grown(name, now)


def _odd_nic(row: np.ndarray, nic: Nic, now: float) -> None:
    if not nic.up:
        row[_NIC["node_infiniband_state_id"]], row[_NIC["node_infiniband_physical_state_id"]] = 1, 3
        row[_NIC["node_infiniband_rate_bytes_per_second"]] = 0
    row[_NIC["node_infiniband_link_downed_total"]] = nic.downs
    _override(row, nic.shown, tuple(NIC_METRICS))
    for name in nic.grows:
        row[_NIC[name]] += nic.grown(name, now)


def _override(row: np.ndarray, shown: Mapping[str, float], names: tuple[str, ...]) -> None:
    for name, value in shown.items():
        row[names.index(name)] = value

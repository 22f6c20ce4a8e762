"""Exporter pages of the simulated nodes: the readings as dcgm-exporter and node_exporter write them."""

from collections.abc import Iterator, Mapping

import numpy as np

from simulator.nodes import Node
from simulator.readings import DEVICE_METRICS, NIC_METRICS, NODE_METRICS, Table

_MODEL = "NVIDIA H100 80GB HBM3"
_DRIVER = "550.144.03"


def device_page(table: Table, node: Node) -> str:
    """dcgm-exporter's page of one node."""
    numbers = {device.pci: device.index for device in node.devices}
    labels = [
        f'gpu="{numbers[target.id]}",UUID="GPU-{node.id}-{numbers[target.id]}",pci_bus_id="0000{target.id.upper()}.0",'
        f'device="nvidia{numbers[target.id]}",modelName="{_MODEL}",Hostname="{node.id}",DCGM_FI_DRIVER_VERSION="{_DRIVER}"'
        for target in table.targets
    ]
    return "".join(_rows(table, DEVICE_METRICS, labels))


def node_page(ports: Table, host: Table) -> str:
    """node_exporter's page of one node: its InfiniBand ports, load and memory."""
    labels = ['device="{}",port="{}"'.format(*target.id.split(":")) for target in ports.targets]
    return "".join((*_rows(ports, NIC_METRICS, labels), *_rows(host, NODE_METRICS, [""])))


def _rows(table: Table, kinds: Mapping[str, str], labels: list[str]) -> Iterator[str]:
    """All rows of a metric together, under its help and type, as both exporters write them."""
    for n, name in enumerate(table.names):
        column = table.values[:, n]
        if np.isfinite(column).any():
            yield f"# HELP {name} {_HELP.get(name, 'Simulated reading of ' + name + '.')}\n# TYPE {name} {kinds[name]}\n"
            for label, value in zip(labels, column.tolist(), strict=True):
                if value == value:
                    yield f"{name}{{{label}}} {number(value)}\n" if label else f"{name} {number(value)}\n"


def number(value: float) -> str:
    """A reading as text that reads back as just that number."""
    return str(int(value)) if value.is_integer() else repr(value)


_HELP = {
    "DCGM_FI_DEV_SM_CLOCK": "SM clock frequency (in MHz).",
    "DCGM_FI_DEV_GPU_TEMP": "GPU temperature (in C).",
    "DCGM_FI_DEV_POWER_USAGE": "Power draw (in W).",
    "DCGM_FI_DEV_GPU_UTIL": "GPU utilization (in %).",
    "DCGM_FI_DEV_XID_ERRORS": "Value of the last XID error encountered.",
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": "Total number of PCIe retries.",
    "node_load1": "1m load average.",
}

"""Exporter pages of the simulated nodes, in the names and units of dcgm-exporter and node_exporter."""

from collections.abc import Iterator

import numpy as np

from simulator.chance import stream
from simulator.cluster import Cluster
from simulator.nodes import Node
from simulator.serving import Service
from simulator.training import TrainingJob

_MODEL = "NVIDIA H100 80GB HBM3"


def device_page(cluster: Cluster, node: Node, *, busy: float) -> str:
    """dcgm-exporter's page of a node. busy: share of time its devices compute, 0..1."""
    chance = stream(cluster.seed, "page", node.id, round(cluster.now))
    noise = chance.normal(0.0, 1.0, (len(node.devices), 3))
    rows: list[str] = []
    for device, (heat, power, clock) in zip(node.devices, noise, strict=True):
        if device.lost:
            continue
        label = (
            f'{{gpu="{device.index}",UUID="GPU-{node.id}-{device.index}",pci_bus_id="0000{device.pci}.0",device="nvidia{device.index}",'
            f'modelName="{_MODEL}",Hostname="{node.id}"}}'
        )
        values = {
            "DCGM_FI_DEV_GPU_TEMP": round(38 + 26 * busy + device.heat_c + heat),
            "DCGM_FI_DEV_POWER_USAGE": round(90 + 560 * busy * device.throttle + 6 * power, 3),
            "DCGM_FI_DEV_GPU_UTIL": round(100 * busy),
            "DCGM_FI_DEV_SM_CLOCK": round((1980 if busy else 1200) * device.throttle + 4 * clock),
            "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": round(0.55 * busy * device.throttle, 4),
            "DCGM_FI_DEV_FB_USED": round(400 + 68_000 * (busy > 0)),
            "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": device.uncorrected,
            "DCGM_FI_DEV_ROW_REMAP_PENDING": int(device.uncorrected > 0),
            "DCGM_FI_DEV_ROW_REMAP_FAILURE": 0,
            "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": 0,
        }
        rows += [f"{name}{label} {value}" for name, value in values.items()]
    return "\n".join(rows) + "\n"


def node_page(cluster: Cluster, node: Node, *, busy: float) -> str:
    """node_exporter's page: InfiniBand ports, load and memory."""
    rows = []
    sent = int((cluster.now - node.booted_at) * 2e9)
    for nic in node.nics:
        label = f'{{device="{nic.name}",port="1"}}'
        rows += [
            f"node_infiniband_state_id{label} {4 if nic.up else 1}",
            f"node_infiniband_physical_state_id{label} {5 if nic.up else 3}",
            f"node_infiniband_rate_bytes_per_second{label} {5e10 if nic.up else 0}",
            f"node_infiniband_port_data_received_bytes_total{label} {sent}",
            f"node_infiniband_port_data_transmitted_bytes_total{label} {sent}",
            f"node_infiniband_link_downed_total{label} {nic.downs}",
            f"node_infiniband_symbol_error_total{label} 0",
        ]
    noise = float(stream(cluster.seed, "load", node.id, round(cluster.now)).random())
    rows += [f"node_load1 {60 * busy + 4 * noise:.2f}", f"node_memory_MemAvailable_bytes {int(1.6e12 - 2e11 * busy)}"]
    return "\n".join(rows) + "\n"


def pages(cluster: Cluster, jobs: list[TrainingJob], services: list[Service]) -> Iterator[tuple[str, str, str, str]]:
    """Every page there is now: (source name, text, node, job); "dcgm:<node>", "node:<node>", "engine:<instance>"."""
    running = {job.name: float(np.clip(0.0 if job.held else 0.92, 0, 1)) for job in jobs if job.state == "running"}
    running |= {service.name: 0.7 for service in services}
    for node in cluster.nodes.values():
        if node.dead:
            continue
        busy = running.get(node.job, 0.0)
        yield f"dcgm:{node.id}", device_page(cluster, node, busy=busy), node.id, node.job
        yield f"node:{node.id}", node_page(cluster, node, busy=busy), node.id, node.job
    for service in services:
        for engine in service.engines:
            yield f"engine:{engine.name}", service.page(engine), engine.node.id, service.name

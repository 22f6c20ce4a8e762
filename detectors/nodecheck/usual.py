"""What most devices of one batch have in common, as further readings: the odd one is then below what is usual."""

import numpy as np

from detectors.peers import LEAST
from holdfast.events import Samples
from holdfast.topology import Kind

# Readings that are the same on all devices of a healthy machine; the name gets "usual" before its unit.
ALIKE = ("pcie.lanes", "pcie.speed_gts", "pcie.generation", "gpu.power_limit_w", "gpu.mem_total_bytes", "gpu.nvlinks_up")
_LEAST_ALIKE = 3
# What devices of one machine do at the same time: each is compared with the median of all.
_PEERS = {
    "gpu.sm_clock_hz": "gpu.sm_clock_peers_hz", "test.burn_gflops": "test.burn_peers_gflops",
    "test.to_device_gbytes_per_s": "test.to_device_peers_gbytes_per_s",
    "test.from_device_gbytes_per_s": "test.from_device_peers_gbytes_per_s",
}  # fmt: skip
_COUNTS = ("node.devices", "node.accelerators_on_bus", "node.devices_answering")
# Machines have 1, 2, 4, 8, 10 or 16 devices: how many a number lacks of a full set, where that is certain 1, else 2.
_SHORT = {7.0: 1.0, 15.0: 1.0, 3.0: 2.0, 5.0: 2.0, 6.0: 2.0, 9.0: 2.0, 11.0: 2.0, 13.0: 2.0, 14.0: 2.0}


def name_of(signal: str) -> str:
    """ "pcie.speed_gts" -> "pcie.speed_usual_gts", "pcie.lanes" -> "pcie.lanes_usual"."""
    stem, unit = signal.rsplit("_", 1) if "_" in signal else (signal, "")
    return f"{stem}_usual_{unit}" if unit else f"{stem}_usual"


def of(seen: Samples, column: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns of what is usual: the value that over half of at least three devices have, the median clock of at least four."""
    found: dict[str, np.ndarray] = {}
    if seen.targets[0].kind is Kind.DEVICE:
        for signal in ALIKE:
            values = column[signal][~np.isnan(column[signal])] if signal in column else np.zeros(0)
            if len(values) >= _LEAST_ALIKE:
                kinds, counts = np.unique(values, return_counts=True)
                if 2 * counts.max() > len(values):
                    found[name_of(signal)] = np.full(len(seen.targets), kinds[counts.argmax()])
        for signal, name in _PEERS.items():
            known = column[signal][~np.isnan(column[signal])] if signal in column else ()
            if len(known) >= LEAST:
                found[name] = np.full(len(seen.targets), np.sort(known)[len(known) // 2])
    elif any(signal in column for signal in _COUNTS):
        most = [float(np.nanmax(column[s])) for s in _COUNTS if s in column and np.isfinite(column[s]).any()]
        found["node.devices_short"] = np.full(len(seen.targets), _SHORT.get(max(most, default=0.0), 0.0))
    return found

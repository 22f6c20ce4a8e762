"""What a full check pass of a node costs: 8 devices, 8 ports and 400 processes read and judged; and what a look at this machine does.

python -m bench.node
"""

import tempfile
import time
from pathlib import Path

from collectors.node import expectations
from collectors.node.notes import Notes
from collectors.node.survey import look
from collectors.node.tree import Tree
from detectors.nodecheck.online import NodeChecks

PASSES = 40
_BUSES = ("1b", "43", "52", "61", "9d", "c3", "d1", "df")
_PORT = {"state": "4: ACTIVE", "phys_state": "5: LinkUp", "rate": "400 Gb/sec (4X NDR)", "link_layer": "InfiniBand"}
_COUNTERS = (
    "counters/link_downed", "counters/link_error_recovery", "counters/symbol_error", "counters/local_link_integrity_errors",
    "counters/excessive_buffer_overrun_errors", "counters/port_rcv_errors", "counters/port_rcv_remote_physical_errors",
    "counters/port_xmit_discards", "counters/port_rcv_data", "counters/port_xmit_data", "counters/port_xmit_wait",
    "hw_counters/out_of_buffer", "hw_counters/out_of_sequence", "hw_counters/packet_seq_err", "hw_counters/local_ack_timeout_err",
    "hw_counters/rnr_nak_retry_err", "hw_counters/roce_adp_retrans", "hw_counters/rx_icrc_encapsulated", "hw_counters/req_cqe_error",
)  # fmt: skip


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def machine(root: Path) -> None:
    """The files that a pass reads of such a machine."""
    for n, bus in enumerate(_BUSES):
        port = root / f"sys/class/infiniband/mlx5_{n}"
        for file, text in {**_PORT, **dict.fromkeys(_COUNTERS, "12345")}.items():
            _write(port / "ports/1" / file, text)
        _write(port / "board_id", "MT_0000000838")
        for address, kind in ((f"0000:{bus}:00.0", "0x030200"), (f"0000:{bus}:01.0", "0x020700"), (f"0000:{bus}:02.0", "0x010802")):
            base = root / "sys/bus/pci/devices" / address
            for file in ("current_link_width", "max_link_width"):
                _write(base / file, "16")
            for file in ("current_link_speed", "max_link_speed"):
                _write(base / file, "32.0 GT/s PCIe")
            _write(base / "class", kind)
            _write(base / "vendor", "0x10de")
            _write(base / "aer_dev_correctable", "RxErr 0\nTOTAL_ERR_COR 0")
        _write(root / f"proc/driver/nvidia/gpus/0000:{bus}:00.0/information", f"Model: NVIDIA H100\nGPU UUID: GPU-{n}")
    for n in range(400):
        _write(root / f"proc/{1000 + n}/stat", f"{1000 + n} (python) S " + " ".join(["7"] * 49))
    _write(root / "proc/meminfo", "MemTotal: 2113000000 kB\nMemAvailable: 2000000000 kB")
    for n in range(16):
        _write(root / f"sys/class/hwmon/hwmon{n}/name", "nvme")
        _write(root / f"sys/class/hwmon/hwmon{n}/temp1_input", "45000")
        _write(root / f"sys/class/hwmon/hwmon{n}/temp1_crit", "85000")


def passes(root: str) -> tuple[float, float, int]:
    """(ms to read, ms to judge, readings) of one pass, CPU time, the mean of many."""
    checks, machines = NodeChecks(), expectations.read()
    read_s = judge_s = 0.0
    readings = 0
    for n in range(PASSES):
        begun = time.process_time()
        notes = Notes("n1")
        look(Tree(root), notes)
        expectations.note(notes, machines)
        batches = notes.samples(15.0 * n, source="node:n1")
        between = time.process_time()
        for batch in batches:
            list(checks.observe(batch))
        read_s, judge_s = read_s + between - begun, judge_s + time.process_time() - between
        readings = len(notes.places)
    return 1000 * read_s / PASSES, 1000 * judge_s / PASSES, readings


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        machine(Path(folder))
        read_ms, judge_ms, readings = passes(folder)
        print(f"8 devices, 8 ports, 400 processes: {readings} readings, read {read_ms:.1f} ms, judged {judge_ms:.1f} ms of CPU")
    read_ms, judge_ms, readings = passes("/")
    print(f"this machine: {readings} readings, read {read_ms:.1f} ms, judged {judge_ms:.1f} ms of CPU")


if __name__ == "__main__":
    main()

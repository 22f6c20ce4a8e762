"""Mutated exporter pages and mutated files of /sys and /proc through the collectors' parsers: `python -m bench.fuzz_pages [CASES] [SEED]`.

Pages are those of dcgm-exporter, node_exporter, npu-exporter and inference engines; every 26th case is a look at a generated tree of which
25 values are changed. Nothing may come of it but samples or the parser's own `PageError`. A crash prints the one line that repeats
it, `python -m bench.fuzz_pages 1 SEED`, since each case is made of the seed and its number. Printed: cases, refused pages, readings, memory
at its highest, the slowest case.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.random import Generator, Philox

from collectors.aliases import aliases
from collectors.exposition import Page, PageError, parse_page
from collectors.node.notes import Notes
from collectors.node.survey import look
from collectors.node.tree import Tree

ODD = (
    b"",
    b"0",
    b"-1",
    b"NaN",
    b"+Inf",
    b"1e309",
    b"9223372036854775794",
    b"0x",
    b"0xffffffffffffffffff",
    b"\x00",
    b"\xff\xfe",
    b"{",
    b'"',
    b"} ",
    b"4: ACTIVE",
    b"2147483647",
    b"1 2 3",
    b' # {a="b"} 1',
    b"\\",
    b"-" * 70,
    b"9" * 400,
    b"\n\n",
    b"\t",
    b"1_0",
    "٣".encode(),
)


def pages_of() -> list[bytes]:
    """Small pages of each kind, every metric that has an alias on one of them."""
    device = (
        '{{gpu="{n}",UUID="GPU-{n}",pci_bus_id="00000000:{n}B:00.0",modelName="H",Hostname="n1",xid="79",err_code="5"}}'
    )
    labels = {
        "DCGM_": device, "npu_": '{{id="{n}",vdie_id="V{n}",pcie_bus_info="0000:{n}1:00.0",model_name="910B"}}',
        "node_": '{{device="mlx5_{n}",port="1",mountpoint="/a{n}",fstype="xfs",chip="c",sensor="t{n}",state="failed",controller="{n}"}}',
        "": '{{model_name="m",engine="{n}",condition="Ready",status="true",node="n{n}",finished_reason="stop"}}',
    }  # fmt: skip
    found: dict[str, list[str]] = {begin: [] for begin in labels}
    for metric in aliases():
        begin = next(begin for begin in labels if metric.startswith(begin))
        found[begin] += [f"# HELP {metric} A reading.\n# TYPE {metric} gauge"]
        found[begin] += [f"{metric}{labels[begin].format(n=n)} {3 * n + 0.5}" for n in range(2)]
    return [
        "\n".join(lines[at : at + 30]).encode() + b"\n" for lines in found.values() for at in range(0, len(lines), 30)
    ]


def mutated(draw: Generator, data: bytes, *, most: int = 8) -> bytes:
    """Some bytes gone, doubled, changed or put between."""
    line = bytearray(data)
    for _ in range(int(draw.integers(1, most))):
        at, kind = int(draw.integers(len(line) + 1)), int(draw.integers(5))
        if kind == 0:
            del line[at : at + int(draw.integers(1, 40))]
        elif kind == 1:
            line[at:at] = draw.bytes(int(draw.integers(1, 12)))
        elif kind == 2:
            line[at:at] = line[max(0, at - 20) : at] * int(draw.integers(1, 40))
        elif kind == 3:
            line[at:at] = ODD[int(draw.integers(len(ODD)))]
        else:
            end = line.find(b"\n", at)
            line[at : end if end >= 0 else len(line)] = ODD[int(draw.integers(len(ODD)))]
    return bytes(line)


def of_page(draw: Generator, pages: list[bytes]) -> tuple[int, bool]:
    """One page: (readings, whether it was refused). raises AssertionError: a table that is none"""
    text = mutated(draw, pages[int(draw.integers(len(pages)))]).decode("utf-8", "replace")
    node = "n1" if draw.random() < 0.5 else ""
    try:
        tables = list(parse_page(Page("fuzz", text, node), names=aliases(), at=1e9))
    except PageError:
        return 0, True
    for table in tables:
        assert table.values.shape == (len(table.targets), len(table.signals)), "a table of another shape"
        assert not np.isinf(table.values).any(), "a reading without end"
    return sum(int(np.isfinite(table.values).sum()) for table in tables), False


FILES: dict[str, bytes] = {
    "sys/class/infiniband/mlx5_0/ports/1/state": b"4: ACTIVE",
    "sys/class/infiniband/mlx5_0/ports/1/phys_state": b"5: LinkUp",
    "sys/class/infiniband/mlx5_0/ports/1/rate": b"400 Gb/sec (4X NDR)",
    "sys/class/infiniband/mlx5_0/ports/1/link_layer": b"InfiniBand",
    "sys/class/infiniband/mlx5_0/ports/1/counters/link_downed": b"0",
    "sys/class/infiniband/mlx5_0/ports/1/counters/symbol_error": b"7",
    "sys/class/infiniband/mlx5_0/ports/1/counters/port_rcv_data": b"123",
    "sys/class/infiniband/mlx5_0/ports/1/hw_counters/out_of_sequence": b"1",
    "sys/class/infiniband/mlx5_0/node_guid": b"b83f:d203:00b4:6d5e",
    "sys/class/infiniband/mlx5_0/fw_ver": b"28.39.1002",
    "sys/bus/pci/devices/0000:1b:00.0/vendor": b"0x10de",
    "sys/bus/pci/devices/0000:1b:00.0/device": b"0x2330",
    "sys/bus/pci/devices/0000:1b:00.0/class": b"0x030200",
    "sys/bus/pci/devices/0000:1b:00.0/current_link_width": b"16",
    "sys/bus/pci/devices/0000:1b:00.0/max_link_width": b"16",
    "sys/bus/pci/devices/0000:1b:00.0/current_link_speed": b"32.0 GT/s PCIe",
    "sys/bus/pci/devices/0000:1b:00.0/max_link_speed": b"32.0 GT/s PCIe",
    "sys/bus/pci/devices/0000:1b:00.0/numa_node": b"0",
    "sys/bus/pci/devices/0000:1b:00.0/aer_dev_correctable": b"RxErr 0\nBadTLP 2\nTOTAL_ERR_COR 2",
    "sys/bus/pci/devices/0000:1b:00.0/aer_dev_fatal": b"Undefined 0\nTOTAL_ERR_FATAL 0",
    "sys/devices/system/edac/mc/mc0/ce_count": b"3",
    "sys/devices/system/edac/mc/mc0/ue_count": b"0",
    "sys/class/hwmon/hwmon0/name": b"coretemp",
    "sys/class/hwmon/hwmon0/temp1_input": b"45000",
    "sys/class/hwmon/hwmon0/temp1_crit": b"95000",
    "sys/class/hwmon/hwmon0/fan1_input": b"8000",
    "sys/class/hwmon/hwmon0/fan1_min": b"500",
    "sys/class/nvme/nvme0/model": b"SSD",
    "sys/class/nvme/nvme0/state": b"live",
    "sys/block/nvme0n1/size": b"7501476528",
    "sys/block/md0/md/degraded": b"0",
    "sys/block/md0/md/array_state": b"clean",
    "sys/class/net/eth0/carrier": b"1",
    "sys/class/net/eth0/speed": b"25000",
    "sys/class/net/eth0/operstate": b"up",
    "sys/class/net/eth0/carrier_changes": b"2",
    "sys/class/net/eth0/statistics/rx_errors": b"0",
    "sys/class/net/eth0/device/vendor": b"0x15b3",
    "sys/devices/system/cpu/online": b"0-191",
    "sys/devices/system/cpu/present": b"0-191",
    "sys/devices/system/node/node0/meminfo": b"Node 0 MemTotal: 1 kB",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": b"tsc",
    "proc/meminfo": b"MemTotal:  2113929216 kB\nMemAvailable: 1900000000 kB\nHugePages_Total: 0\nHardwareCorrupted: 0 kB\nSwapTotal: 0 kB",
    "proc/loadavg": b"60.10 55.02 50.00 3/4000 12345",
    "proc/uptime": b"86400.12 1234567.00",
    "proc/stat": b"cpu  1 2 3 4\nbtime 1700000000",
    "proc/pressure/cpu": b"some avg10=0.00 avg60=0.00 avg300=0.00 total=0",
    "proc/pressure/io": b"some avg10=1.00 avg60=0.1 avg300=0 total=5",
    "proc/pressure/memory": b"full avg10=0.00 avg60=0.00 avg300=0.00 total=0",
    "proc/mounts": b"/dev/nvme0n1 / xfs rw 0 0\nnfs:/a /b nfs4 ro 0 0",
    "proc/mdstat": b"Personalities : [raid1]\nmd0 : active raid1 sda1[0] sdb1[1]\n      976630464 blocks [2/2] [UU]",
    "proc/sys/net/netfilter/nf_conntrack_count": b"300",
    "proc/sys/net/netfilter/nf_conntrack_max": b"262144",
    "proc/sys/fs/file-nr": b"9000 0 9000000",
    "proc/1/stat": b"1 (init) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 5",
    "proc/1/status": b"Name: init\nState: D (disk sleep)",
    "proc/driver/nvidia/version": b"NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15",
    "proc/net/bonding/bond0": b"Slave Interface: eth0\nMII Status: up",
}


def of_tree(draw: Generator, root: Path, *, values: int = 25) -> int:
    """One look at the tree with so many of its files changed; they are as they were afterwards. Returns readings."""
    names = list(FILES)
    changed = [names[n] for n in draw.choice(len(names), values, replace=False).tolist()]
    for name in changed:
        (root / name).write_bytes(
            mutated(draw, FILES[name], most=4) if draw.random() < 0.6 else ODD[int(draw.integers(len(ODD)))]
        )
    notes = Notes("n1")
    look(Tree(str(root)), notes, at=1e9)
    for table in notes.samples(1e9, source="fuzz"):
        assert not np.isinf(table.values).any(), "a reading without end"
    for name in changed:
        (root / name).write_bytes(FILES[name])
    return sum(len(row) for row in notes.values.values())


def grow(root: Path) -> None:
    """Make the tree."""
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def cases(seed: int, first: int, count: int) -> Iterator[tuple[int, Generator]]:
    """Each case's number and its own chance."""
    for n in range(first, first + count):
        yield n, Generator(Philox(key=seed + n))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    pages, refused, readings, values, worst = pages_of(), 0, 0, 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        grow(root)
        for n, draw in cases(seed, 0, count):
            begun, is_over = time.process_time(), False
            try:
                # a look changes 25 values: one for every 25 pages makes as many values as pages
                if (seed + n) % 26 == 25:
                    readings, values = readings + of_tree(draw, root), values + 25
                else:
                    got, no = of_page(draw, pages)
                    readings, refused = readings + got, refused + no
                is_over = True
            finally:
                if not is_over:
                    print(f"repeat: python -m bench.fuzz_pages 1 {seed + n}", file=sys.stderr)
            worst = max(worst, time.process_time() - begun)
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    told = {
        "cases": count,
        "pages_refused": refused,
        "values_changed": values,
        "readings": readings,
        "slowest_cpu_s": round(worst, 3),
    }
    print(json.dumps(told | {"memory_mb": peak}))


if __name__ == "__main__":
    main()

"""How fast text pages become samples: a page whose every line is wanted, and one of which few are; one core, CPU time.

python -m bench.pages
"""

import time

import numpy as np

from collectors.aliases import aliases
from collectors.exposition import Page, parse_page

ROUNDS = 30
GPUS = 8


def wanted(seed: int) -> str:
    """A dcgm-exporter page of metrics that all have an alias, its values new in each round."""
    chance = np.random.Generator(np.random.Philox(seed))
    names = [name for name, alias in aliases().items() if name.startswith("DCGM_FI") and alias.is_plain]
    rows = []
    for gpu in range(GPUS):
        label = (
            f'{{gpu="{gpu}",UUID="GPU-6e4fbadc-10d9-a63a-8988-9a0d320ff1a{gpu}",pci_bus_id="00000000:{gpu + 27:02X}:00.0",'
            f'device="nvidia{gpu}",modelName="NVIDIA H100 80GB HBM3",Hostname="node0001",DCGM_FI_DRIVER_VERSION="550.54.15"}}'
        )
        rows += [f"{name}{label} {chance.uniform(0, 100):.6f}" for name in names]
    return "\n".join(rows) + "\n"


def mixed(seed: int) -> str:
    """A node_exporter page: ports and memory among a thousand lines of processors, disks and interfaces, and comments."""
    chance = np.random.Generator(np.random.Philox(seed))
    cpus = [(n, mode) for n in range(192) for mode in ("idle", "user", "iowait")]
    rows = [f'node_cpu_seconds_total{{cpu="{n}",mode="{mode}"}} {chance.uniform(0, 1e6):.2f}' for n, mode in cpus]
    rows += [f'node_disk_read_bytes_total{{device="nvme{n}n1"}} {chance.integers(0, 10**12)}' for n in range(16)]
    rows += [f'node_network_receive_bytes_total{{device="eth{n}"}} {chance.integers(0, 10**12)}' for n in range(64)]
    for n in range(8):
        label = f'{{device="mlx5_{n}",port="1"}}'
        rows += [f"{name}{label} {chance.integers(0, 1000)}" for name in aliases() if name.startswith("node_infiniband")]
    head = [f"# HELP node_x{n} A figure of the machine.\n# TYPE node_x{n} counter" for n in range(200)]
    return "\n".join([*head, *rows]) + "\n"


def rate(pages: list[str]) -> float:
    """Samples of these pages per second of CPU time."""
    names = aliases()
    count = sum(1 for page in pages for line in page.splitlines() if line and line[0] != "#")
    begun = time.process_time()
    for n, page in enumerate(pages):
        for _ in parse_page(Page("bench", page, "node0001"), names=names, at=15.0 * n):
            pass
    return count / (time.process_time() - begun)


def main() -> None:
    """Print the figures; the first page of each kind is not counted, since its labels are read once."""
    for name, make in (("dcgm-exporter, every line wanted", wanted), ("node_exporter", mixed)):
        pages = [make(seed) for seed in range(ROUNDS + 1)]
        rate(pages[:1])
        print(f"{name}: {rate(pages[1:]):,.0f} samples/s")


if __name__ == "__main__":
    main()

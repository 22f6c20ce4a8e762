"""The active check of devices: every GPU multiplies matrices for a while, its results are compared, its link is measured; needs torch.

    python -m holdfast.node.active.devices 20 8192
"""

import importlib
import sys
import time
from typing import Any

from collectors.node.benchmarks import own
from holdfast.topology import Kind

_COPY_MB, _COPIES = 256, 8
_SEED = 7


def measure(torch: Any, index: int, seconds: float, size: int) -> tuple[float, int, Any]:
    """(Gflop/s, rounds whose result differed from the first, the first result's checksum) of one device under load.

    The same product is computed again and again: a sound device gives the same bits each time, and the same as its equals.
    """
    device = torch.device("cuda", index)
    chance = torch.Generator().manual_seed(_SEED)
    left, right = (torch.randn(size, size, generator=chance).to(device, dtype=torch.bfloat16) for _ in range(2))
    first = left @ right
    torch.cuda.synchronize(device)
    rounds = wrong = 0
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        products = [left @ right for _ in range(8)]
        torch.cuda.synchronize(device)
        rounds += len(products)
        wrong += int(not torch.equal(products[-1], first))
    took_s = time.monotonic() - begun
    return 2.0 * size**3 * rounds / took_s / 1e9, wrong, first.double().sum().item()


def link(torch: Any, index: int) -> tuple[float, float]:
    """(GB/s to the device, from it) by pinned copies."""
    device = torch.device("cuda", index)
    here = torch.empty(_COPY_MB << 20, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(_COPY_MB << 20, dtype=torch.uint8, device=device)
    rates = []
    for target, source in ((there, here), (here, there)):
        target.copy_(source, non_blocking=True)
        torch.cuda.synchronize(device)
        begun = time.monotonic()
        for _ in range(_COPIES):
            target.copy_(source, non_blocking=True)
        torch.cuda.synchronize(device)
        rates.append(_COPIES * (_COPY_MB << 20) / 1e9 / (time.monotonic() - begun))
    return rates[0], rates[1]


def main(words: list[str]) -> int:
    """Every device in turn; the exit status."""
    torch = importlib.import_module("torch")  # not a library of ours: the machine's jobs bring it
    seconds, size = float(words[0]), int(words[1])
    if not torch.cuda.is_available():
        print("no device that torch can use", file=sys.stderr)
        return 1
    sums: dict[str, Any] = {}
    for index in range(torch.cuda.device_count()):
        try:
            rate, wrong, sums[str(index)] = measure(torch, index, seconds, size)
            to_device, from_device = link(torch, index)
        except RuntimeError as error:
            print(own("devices", "gpu.lost", 1.0, target=str(index), of=Kind.DEVICE, text=str(error).partition("\n")[0][:300]), flush=True)
            continue
        _say(index, "test.burn_gflops", rate, f"{rate:.0f} Gflop/s over {seconds:g} s")
        _say(index, "test.burn_errors", float(wrong), f"{wrong} results differ from the first")
        _say(index, "test.to_device_gbytes_per_s", to_device, f"{to_device:.1f} GB/s to the device")
        _say(index, "test.from_device_gbytes_per_s", from_device, f"{from_device:.1f} GB/s from the device")
    usual = max(sums.values(), key=list(sums.values()).count, default=None)
    for name, total in sums.items():  # equals on the same input: whoever differs from most is wrong, bit by bit
        if total != usual and list(sums.values()).count(usual) * 2 > len(sums) and len(sums) > 2:
            _say(int(name), "test.burn_errors", 1.0, "its result differs from that of the others")
    return 0


def _say(index: int, signal: str, value: float, text: str) -> None:
    print(own("devices", signal, value, target=str(index), of=Kind.DEVICE, text=text), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

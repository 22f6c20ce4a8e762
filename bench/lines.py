"""How many kernel log lines a second one core reads with the full rule set: `python -m bench.lines [LINES]`.

One line in a hundred is a true hit, five are near misses: lines that hold a rule's words and are none of its business.
Rates are by CPU time, with the base install and, where it is installed, with the `[fast]` extra; both must say the same.
Then come the rules that no literal stands for, each with what it costs.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
from numpy.random import Generator, Philox

from detectors.npd.prefilter import is_installed
from detectors.npd.reading import Reading
from detectors.npd.rules import Rules

_BLOCK = 1 << 20

USUAL = (
    "systemd[1]: Started Session {a} of User root.",
    "kernel: [{a}.{b}] audit: type=1400 audit(1764000000.{b}:{a}): apparmor=\"ALLOWED\" operation=\"open\" pid={b}",
    "kernel: [{a}.{b}] usb 1-{c}: new high-speed USB device number {c} using xhci_hcd",
    "kernel: [{a}.{b}] veth{a}: entered promiscuous mode",
    "kernel: [{a}.{b}] cni0: port {c}(veth{b}) entered forwarding state",
    "kernel: [{a}.{b}] IPv6: ADDRCONF(NETDEV_CHANGE): eth{c}: link becomes ready",
    "kubelet[{c}]: I1124 16:00:00.{b} {c} kubelet.go:2424] \"SyncLoop (PLEG): event for pod\" pod=\"jobs/worker-{a}\"",
    "containerd[{c}]: time=\"2025-11-24T16:00:00.{b}Z\" level=info msg=\"StartContainer for {a}{b} returns successfully\"",
    "kernel: [{a}.{b}] TCP: request_sock_TCP: Possible SYN flooding on port {c}. Sending cookies.",
    "kernel: [{a}.{b}] perf: interrupt took too long ({a} > {b}), lowering kernel.perf_event_max_sample_rate to {c}",
    "sshd[{c}]: Accepted publickey for ops from 192.0.2.{c} port {a} ssh2: ED25519 SHA256:{b}",
    "kernel: [{a}.{b}] nvidia-uvm: Loaded the UVM driver, major device number {c}.",
)  # fmt: skip
NEAR = (
    "kernel: [{a}.{b}] EXT4-fs (nvme0n1p{c}): mounted filesystem with ordered data mode. Opts: (null)",
    "kernel: [{a}.{b}] nvme nvme{c}: {c}/0/0 default/read/poll queues",
    "kernel: [{a}.{b}] NVRM: loading NVIDIA UNIX x86_64 Kernel Module  570.{c}.{c}",
    "kernel: [{a}.{b}] XFS (dm-{c}): Mounting V5 Filesystem",
    "kernel: [{a}.{b}] mlx5_core 0000:{c}:00.0 eth{c}: Port module event: module {c}, Cable plugged",
    "kernel: [{a}.{b}] Lustre: Mounted scratch-client",
    "kernel: [{a}.{b}] EDAC MC{c}: Giving out device to module skx_edac controller Skylake Socket#0 IMC#0",
    "kernel: [{a}.{b}] mce: CPU{c}: Thermal monitoring enabled (TM1)",
    "kernel: [{a}.{b}] pcieport 0000:{c}:00.0: AER: enabled with IRQ {c}",
    "kernel: [{a}.{b}] ata{c}: SATA link up 6.0 Gbps (SStatus 133 SControl 300)",
    "user-app[{c}]: retry after segfault at startup, Xid {c} was mentioned in ticket {a}",
    "kernel: [{a}.{b}]  ext4_file_write_iter+0x{c}/0x{c}",
)
TRUE = (
    "kernel: [{a}.{b}] NVRM: Xid (PCI:0000:{c}:00): 31, pid={a}, name=python3, Ch 00000010, intr 00000000. MMU Fault: ENGINE GRAPHICS",
    "kernel: [{a}.{b}] NVRM: Xid (PCI:0000:{c}:00): 94, pid={a}, name=python3, Contained: SM (0x1). RST: No, D-RST: No",
    "kernel: [{a}.{b}] INFO: task python3:{a} blocked for more than 120 seconds.",
    "kernel: [{a}.{b}] EXT4-fs error (device nvme0n1p{c}): ext4_find_entry:1455: inode #{a}: comm python3: reading directory",
    "kernel: [{a}.{b}] nvme nvme{c}: I/O {a} QID {c} timeout, aborting",
    "kernel: [{a}.{b}] EDAC MC{c}: 1 CE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0 page:0x{a})",
    "kernel: [{a}.{b}] watchdog: BUG: soft lockup - CPU#{c} stuck for 27s! [python3:{a}]",
    "kernel: [{a}.{b}] mlx5_core 0000:{c}:00.0: mlx5_pcie_event:299:(pid {a}): Detected insufficient power on the PCIe slot (27W).",
    "kernel: [{a}.{b}] Out of memory: Killed process {a} (python3) total-vm:{b}kB, anon-rss:{b}kB, file-rss:0kB",
    "kernel: [{a}.{b}] nfs: server store{c} not responding, still trying",
)  # fmt: skip


def text_of(lines: int, seed: int) -> bytes:
    """So many lines of a node's log, in syslog form."""
    draw = Generator(Philox(key=seed))
    kinds, forms = draw.random(lines), draw.integers(0, 1 << 20, lines)
    a, b, c = draw.integers(1000, 99999, lines), draw.integers(100000, 999999, lines), draw.integers(10, 64, lines)
    rows = []
    for n in range(lines):
        source: Sequence[str] = TRUE if kinds[n] < 0.01 else NEAR if kinds[n] < 0.06 else USUAL
        form = source[int(forms[n]) % len(source)]
        rows.append(f"Nov 24 16:00:{n % 60:02d} n7 {form.format(a=a[n], b=b[n], c=c[n])}\n")
    return "".join(rows).encode()


def blocks_of(text: bytes) -> list[tuple[int, bytes]]:
    """The text as a collector hands it on: whole lines, about a megabyte at a time."""
    found, at, first = [], 0, 1
    while at < len(text):
        cut = text.rfind(b"\n", at, at + _BLOCK) + 1
        found.append((first, text[at:cut]))
        first += text.count(b"\n", at, cut)
        at = cut
    return found


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of the best of three runs: what others do on the machine counts for little."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def read(blocks: Sequence[tuple[int, bytes]], rules: Rules, *, fast: bool) -> Reading:
    """All blocks through a new reading."""
    reading = Reading(rules, fast=fast)
    for first, block in blocks:
        reading.feed("kern.log", first, block)
    return reading


def tried(rules: Rules, number: int, lines: Sequence[bytes]) -> int:
    """How many lines a rule may fit, each looked at."""
    return sum(rules.may_fit(number, line) for line in lines)


def without_words(rules: Rules, lines: Sequence[bytes]) -> list[dict[str, object]]:
    """Rules no literal stands for, and the CPU time each takes for a million lines."""
    slow = {rule.id for rule in rules.without_words()}
    rows: list[dict[str, object]] = []
    for number, rule in enumerate(rules.rules):
        if rule.id in slow:
            took = cpu_s(partial(tried, rules, number, lines))
            rows.append({"rule": rule.id, "cpu_s_per_million": round(took * 1e6 / len(lines), 2)})
    return rows


def storm(lines: int, *, fast: bool) -> dict[str, object]:
    """So many repeats of one XID: one finding with a count; CPU time and what the reading keeps."""
    line = b"Nov 24 16:00:00 n7 kernel: [1234.567890] NVRM: Xid (PCI:0000:3b:00): 31, pid=4121, name=python3, Ch 00000010, intr 00000000\n"
    blocks = blocks_of(line * lines)
    began = time.process_time()
    reading = read(blocks, Rules.read(), fast=fast)
    took = time.process_time() - began
    [one] = reading.found.values()
    kept = len(msgspec.msgpack.encode(reading.memory()))
    return {"repeats": lines, "findings": 1, "count": one.count, "cpu_s": round(took, 2), "kept_bytes": kept}


def main() -> None:
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    text = text_of(lines, seed=7)
    blocks, rules = blocks_of(text), Rules.read()
    print(
        json.dumps({"lines": lines, "bytes": len(text), "rules": len(rules.rules), "words": sum(map(len, rules.words))})
    )
    found = {}
    for fast in (False, True) if is_installed() else (False,):
        read(blocks[:2], rules, fast=fast)
        took = cpu_s(partial(read, blocks, rules, fast=fast))
        found[fast] = read(blocks, rules, fast=fast).memory()
        name = "fast" if fast else "base"
        print(
            json.dumps(
                {
                    "install": name,
                    "cpu_s": round(took, 3),
                    "lines_per_s": round(lines / took),
                    "findings": len(found[fast].found),
                }
            )
        )
    print(json.dumps({"same_findings": found[False] == found[True] if True in found else None}))
    print(json.dumps({"storm": storm(800_000, fast=is_installed())}))
    print(json.dumps({"rules_without_words": without_words(rules, text.splitlines()[:20_000])}))


if __name__ == "__main__":
    main()

"""Active checks of disk, memory and loopback network, each a process of its own that writes its readings as lines.

    python -m holdfast.node.active.host disk /var/tmp 256
"""

import hashlib
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from collectors.node.benchmarks import own
from holdfast.topology import Kind

_PIECE = 1 << 20


def disk(folder: str, size_mb: int) -> None:
    """Write a file that nobody can guess, sync it, drop it from memory, read it back."""
    chance = np.random.Generator(np.random.Philox(int.from_bytes(os.urandom(8), "little")))
    piece = chance.bytes(_PIECE)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="holdfast-check-") as file:
        written = hashlib.blake2b()
        begun = time.monotonic()
        for n in range(size_mb):
            part = n.to_bytes(8, "little") + piece[8:]
            written.update(part)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
        write_s = time.monotonic() - begun
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        read, begun = hashlib.blake2b(), time.monotonic()
        file.seek(0)
        while part := file.read(_PIECE):
            read.update(part)
        read_s = time.monotonic() - begun
    for signal, seconds in (("test.disk_write_mbytes_per_s", write_s), ("test.disk_read_mbytes_per_s", read_s)):
        rate = size_mb * _PIECE / 1e6 / max(seconds, 1e-9)
        print(own("disk", signal, rate, target=folder, of=Kind.PART, text=f"{size_mb} MiB in {seconds:.2f} s"))
    same = read.digest() == written.digest()
    told = "read back as written" if same else "not what was written"
    print(own("disk", "test.disk_wrong", float(not same), target=folder, of=Kind.PART, text=told))


def memory(size_mb: int) -> None:
    """Copy memory to and fro, with patterns in which a stuck or a coupled bit shows."""
    free_mb = _free_mb()
    size_mb = min(size_mb, free_mb // 8) if free_mb else size_mb
    words = max(1, size_mb) * _PIECE // 8
    there, wrong, moved, begun = np.empty(words, dtype=np.uint64), 0, 0, time.monotonic()
    for pattern in (0x0, 0xFFFFFFFFFFFFFFFF, 0x5555555555555555, 0xAAAAAAAAAAAAAAAA, 0x0123456789ABCDEF):
        here = np.full(words, pattern, dtype=np.uint64)
        np.copyto(there, here)
        wrong += int(np.count_nonzero(there != np.uint64(pattern)))
        moved += 2 * here.nbytes
    seconds = time.monotonic() - begun
    print(own("memory", "test.memory_gbytes_per_s", moved / 1e9 / max(seconds, 1e-9), text=f"{moved / 1e9:.1f} GB in {seconds:.2f} s"))
    print(own("memory", "test.memory_wrong", float(wrong), text=f"{wrong} words differ"))


def _free_mb() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def loopback(size_mb: int) -> None:
    """Send bytes to ourselves through the kernel's network."""
    piece = os.urandom(_PIECE)
    sent, got = hashlib.blake2b(), hashlib.blake2b()
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(1)
        address = door.getsockname()

        def send() -> None:
            with socket.create_connection(address, timeout=10.0) as line:
                for _ in range(size_mb):
                    line.sendall(piece)
                    sent.update(piece)

        sender = threading.Thread(target=send, daemon=True)
        begun = time.monotonic()
        sender.start()
        line, _ = door.accept()
        total = 0
        with line:
            while part := line.recv(_PIECE):
                got.update(part)
                total += len(part)
        sender.join(10.0)
    seconds = time.monotonic() - begun
    rate = total * 8 / 1e9 / max(seconds, 1e-9)
    print(own("loopback", "test.loopback_gbits_per_s", rate, text=f"{total / 1e6:.0f} MB in {seconds:.2f} s"))
    same = sent.digest() == got.digest() and total == size_mb * _PIECE
    print(own("loopback", "test.network_wrong", float(not same), text=f"{total} of {size_mb * _PIECE} bytes came"))


def main(words: list[str]) -> int:
    """One check by name; the exit status."""
    name, *rest = words or [""]
    try:
        if name == "disk":
            disk(rest[0], int(rest[1]))
        elif name == "memory":
            memory(int(rest[0]))
        elif name == "loopback":
            loopback(int(rest[0]))
        else:
            print(f"no check called {name!r}", file=sys.stderr)
            return 2
    except (OSError, MemoryError, IndexError, ValueError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

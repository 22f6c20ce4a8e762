"""The active checks that come with the package: disk, memory, loopback network, devices, and commands of others."""

import importlib.util
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from holdfast.node.active.runner import python

_OWN = "holdfast check"


class Disk:
    """Writes, syncs, reads back and compares a file. folder: on the disk that is meant; size_mb: megabytes."""

    kind = _OWN

    def __init__(self, *, folder: str = "", size_mb: int = 256, limit_s: float = 120.0) -> None:
        self.folder, self.size_mb, self.limit_s = folder or tempfile.gettempdir(), size_mb, limit_s

    def missing(self) -> str:
        if not Path(self.folder).is_dir():
            return f"no folder {self.folder}"
        free = shutil.disk_usage(self.folder).free
        return "" if free > 2_000_000 * self.size_mb else f"{free / 1e6:.0f} MB are left in {self.folder}"

    def command(self) -> Sequence[str]:
        return python("holdfast.node.active.host", "disk", self.folder, str(self.size_mb))


class Memory:
    """Copies main memory and compares patterns in it. size_mb: megabytes, at most an eighth of what is free."""

    kind = _OWN

    def __init__(self, *, size_mb: int = 512, limit_s: float = 60.0) -> None:
        self.size_mb, self.limit_s = size_mb, limit_s

    def missing(self) -> str:
        return ""

    def command(self) -> Sequence[str]:
        return python("holdfast.node.active.host", "memory", str(self.size_mb))


class Loopback:
    """Sends data through the loopback interface and compares what comes."""

    kind = _OWN

    def __init__(self, *, size_mb: int = 512, limit_s: float = 60.0) -> None:
        self.size_mb, self.limit_s = size_mb, limit_s

    def missing(self) -> str:
        return ""

    def command(self) -> Sequence[str]:
        return python("holdfast.node.active.host", "loopback", str(self.size_mb))


class Devices:
    """Multiplies matrices on every device, compares the results, and measures the way to and from it; needs torch and a GPU.

    seconds: how long each device is under load
    """

    kind = _OWN

    def __init__(self, *, seconds: float = 20.0, size: int = 8192, limit_s: float = 300.0) -> None:
        self.seconds, self.size, self.limit_s = seconds, size, limit_s

    def missing(self) -> str:
        if importlib.util.find_spec("torch") is None:
            return "torch is not installed"
        return "" if Path("/dev/nvidia0").exists() or Path("/dev/kfd").exists() else "no GPU is here"

    def command(self) -> Sequence[str]:
        return python("holdfast.node.active.devices", str(self.seconds), str(self.size))


class Command:
    """A test of somebody else: its command and which tool's output it writes ("nccl-tests", "perftest", "gpu-burn")."""

    def __init__(self, *, words: Sequence[str] = (), tool: str = "nccl-tests", limit_s: float = 300.0) -> None:
        self.words, self.kind, self.limit_s = tuple(words), tool, limit_s

    def missing(self) -> str:
        if not self.words:
            return "no command is set"
        return "" if shutil.which(self.words[0]) else f"{self.words[0]} is not installed"

    def command(self) -> Sequence[str]:
        return self.words


class PortLoopback:
    """RDMA from a port to itself by perftest's ib_write_bw. device: the port's card ("mlx5_0")."""

    kind = "perftest"

    def __init__(self, *, device: str = "", seconds: int = 5, limit_s: float = 30.0) -> None:
        self.device, self.seconds, self.limit_s = device, seconds, limit_s

    def missing(self) -> str:
        if not self.device:
            return "no device is set"
        return "" if shutil.which("ib_write_bw") else "ib_write_bw is not installed"

    def command(self) -> Sequence[str]:
        words = ["ib_write_bw", "-d", self.device, "-D", str(self.seconds), "--report_gbits", "-F"]
        both = "{ " + " ".join(words) + " >/dev/null & sleep 1; " + " ".join(words) + " localhost; }"
        return ["sh", "-c", both] if self.device.replace("_", "").isalnum() else ["false"]

"""Tool outputs kept as files: told by their content, each read by the parser of its tool."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from collectors.node import benchmarks, dcgm, disktools, ibtools, lspci, smi, smilists, smitable
from collectors.node.notes import Notes

HEAD_BYTES = 65_536
MOST_BYTES = 32 << 20


class Tool(NamedTuple):
    """One tool's output. tells: whether a head is of it; read: notes what the text says."""

    kind: str
    tells: Callable[[str], bool]
    read: Callable[[str, str, Notes], None]


# The forms that cannot be mistaken first.
TOOLS: tuple[Tool, ...] = (
    Tool("nvidia-smi -q", smi.tells, smi.read),
    Tool("nvidia-smi nvlink", smilists.tells_links, smilists.read_links),
    Tool("nvidia-smi --query-gpu", smilists.tells_csv, smilists.read_csv),
    Tool("nvidia-smi table", smitable.tells, smitable.read),
    Tool("nvidia-smi", smilists.tells_refusal, smilists.read_refusal),
    Tool("lspci", lspci.tells, lspci.read),
    Tool("ibstat", ibtools.tells_stat, ibtools.read_stat),
    Tool("ibstatus", ibtools.tells_status, ibtools.read_status),
    Tool("smartctl", disktools.tells_smart, disktools.read_smart),
    Tool("nvme smart-log", disktools.tells_nvme, disktools.read_nvme),
    Tool("df", disktools.tells_room, disktools.read_room),
    Tool("dcgmi", dcgm.tells, dcgm.read),
    Tool("nccl-tests", benchmarks.tells_nccl, benchmarks.read_nccl),
    Tool("gpu-burn", benchmarks.tells_burn, benchmarks.read_burn),
    Tool("perftest", benchmarks.tells_bandwidth, benchmarks.read_bandwidth),
    Tool("holdfast check", benchmarks.tells_own, benchmarks.read_own),
    Tool("chronyc tracking", ibtools.tells_clock, ibtools.read_clock),
)


def kind_of(head: bytes) -> str:
    """Which tool wrote a file that begins so, "" if none that is known."""
    text = head[:HEAD_BYTES].decode("utf-8", "replace")
    return next((tool.kind for tool in TOOLS if tool.tells(text)), "")


def read_file(name: str, path: Path, notes: Notes) -> str:
    """Read a file if it is the output of a known tool: its kind, "" if it is none or could not be read.

    One that cannot be read is in `notes.skipped`.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            kind = kind_of(head)
            data = head + file.read(MOST_BYTES + 1 - len(head)) if kind else b""
    except OSError as error:
        notes.skipped[name] = error.strerror or str(error)
        return ""
    if len(data) > MOST_BYTES:
        notes.skipped[name] = f"over {MOST_BYTES} bytes"
        return ""
    if kind:
        read_text(kind, name, data.decode("utf-8", "replace"), notes)
    return kind


def read_text(kind: str, name: str, text: str, notes: Notes) -> None:
    """Note what the output of a tool says."""
    tool = next(tool for tool in TOOLS if tool.kind == kind)
    try:
        tool.read(name, text, notes)
    except (ValueError, KeyError, RecursionError) as error:
        notes.skipped[name] = f"{kind}: {error}"[:300]

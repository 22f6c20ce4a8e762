"""One piece of evidence, a file or what an agent sent -> what it says, or why it cannot be used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from detectors.tracehang.case import MOST_RANKS
from detectors.tracehang.devices import Device, DevicesError, looks_like_devices, read_devices
from detectors.tracehang.facts import (
    About,
    FactsError,
    Process,
    looks_like_about,
    looks_like_processes,
    read_about,
    read_processes,
)
from detectors.tracehang.flightrecorder import DumpError, Recording, looks_like_dump, rank_of_name, read_dump
from detectors.tracehang.ras import Communicator, RasError, looks_like_ras, read_ras
from detectors.tracehang.stacks import Stack, StackError, looks_like_stacks, read_stacks
from detectors.tracehang.unpickle import MOST_BYTES

KINDS = {
    "about": "what the agent wrote of a rank: groups, phase, whether it answers",
    "processes": "a process table: our own JSON, or ps with PID, STAT and arguments that name the rank",
    "ras": "NCCL RAS as JSON",
    "stacks": "stacks: py-spy dump as JSON or text, faulthandler",
    "flight_recorder": "flight recorder dump: pickle or JSON, NCCL or gloo",
    "devices": "how busy each device is: nvidia-smi --query-gpu=index,utilization.gpu,power.draw --format=csv",
}
_LOOKS: dict[str, Callable[[bytes], bool]] = {
    "about": looks_like_about,
    "processes": looks_like_processes,
    "ras": looks_like_ras,
    "stacks": looks_like_stacks,
    "flight_recorder": looks_like_dump,
    "devices": looks_like_devices,
}
_HEAD_BYTES = 65_536


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A piece as it came. rank: whose it is where the sender knows; path: where the data is on disk; error: why there is none."""

    name: str
    rank: int | None = None
    kind: str = ""
    data: bytes = b""
    path: str = ""
    error: str = ""

    @property
    def owner(self) -> int | None:
        return rank_of_name(self.name) if self.rank is None else self.rank


class Content(msgspec.Struct, kw_only=True):
    """What a piece says; one of these is set. problem: why it cannot be used; kind: of what kind it was found to be, "" unknown."""

    kind: str = ""
    problem: str = ""
    recording: Recording | None = None
    stacks: list[tuple[int, Stack]] | None = None
    about: About | None = None
    processes: dict[int, Process] | None = None
    communicators: list[Communicator] | None = None
    devices: list[Device] | None = None


def kind_of(head: bytes) -> str:
    """The kind of a piece by its beginning, "" if none of ours."""
    if head[:1] == b"\x80":  # no text begins so
        return "flight_recorder" if looks_like_dump(head) else ""
    return next((kind for kind, looks in _LOOKS.items() if looks(head)), "")


def read_piece(piece: Piece) -> Content:
    """Read one piece; whatever is wrong with it is in `problem`."""
    rank = piece.owner
    if rank is not None and rank >= MOST_RANKS:
        return Content(problem=f"rank {rank}: at most {MOST_RANKS} are looked at")
    if piece.error:
        return Content(problem=piece.error)
    kind = piece.kind
    try:
        data = piece.data or _of_file(piece.path)
        if not data:
            return Content(kind=kind, problem="empty file")
        kind = kind or kind_of(data[:_HEAD_BYTES]) or ("flight_recorder" if data[:1] == b"\x80" else "")
        if kind not in _READERS:
            return Content(problem="neither a flight recorder dump, stacks, a process table nor RAS")
        return _READERS[kind](data, rank)
    except (DumpError, StackError, FactsError, RasError, DevicesError) as failed:
        return Content(kind=kind, problem=str(failed))
    except OSError as failed:
        return Content(kind=kind, problem=failed.strerror or str(failed))


def _of_file(path: str) -> bytes:
    if not path:
        return b""
    file = Path(path)
    if file.stat().st_size > MOST_BYTES:
        raise DumpError(f"over {MOST_BYTES} bytes")
    return file.read_bytes()


def _read_recording(data: bytes, rank: int | None) -> Content:
    if rank is None:
        raise DumpError("whose dump it is cannot be told: no rank in its name")
    return Content(kind="flight_recorder", recording=read_dump(data, rank))


_READERS: dict[str, Callable[[bytes, Any], Content]] = {
    "flight_recorder": _read_recording,
    "stacks": lambda data, _: Content(kind="stacks", stacks=list(read_stacks(data).items())),
    "about": lambda data, _: Content(kind="about", about=read_about(data)),
    "processes": lambda data, _: Content(kind="processes", processes=read_processes(data)),
    "ras": lambda data, _: Content(kind="ras", communicators=read_ras(data)),
    "devices": lambda data, _: Content(kind="devices", devices=read_devices(data)),
}

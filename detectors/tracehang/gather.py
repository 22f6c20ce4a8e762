"""Pieces of evidence, in any order and of any quality -> one case; what cannot be used is kept with its reason."""

from collections.abc import Callable
from dataclasses import dataclass, field

from detectors.tracehang.case import Case
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
from holdfast.verdict import Skipped

KINDS = {
    "about": "what the agent wrote of a rank: groups, phase, whether it answers",
    "processes": "a process table: our own JSON, or ps with PID, STAT and arguments that name the rank",
    "ras": "NCCL RAS as JSON",
    "stacks": "stacks: py-spy dump as JSON or text, faulthandler",
    "flight_recorder": "flight recorder dump: pickle or JSON, NCCL or gloo",
}
_LOOKS: dict[str, Callable[[bytes], bool]] = {
    "about": looks_like_about,
    "processes": looks_like_processes,
    "ras": looks_like_ras,
    "stacks": looks_like_stacks,
    "flight_recorder": looks_like_dump,
}
MOST_RANKS = 65_536


def kind_of(head: bytes) -> str:
    """The kind of a piece by its beginning, "" if none of ours."""
    return next((kind for kind, looks in _LOOKS.items() if looks(head)), "")


@dataclass
class Pile:
    """Evidence as it comes in."""

    recordings: dict[int, Recording] = field(default_factory=dict)
    no_dump: dict[int, str] = field(default_factory=dict)
    about: dict[int, About] = field(default_factory=dict)
    processes: dict[int, Process] = field(default_factory=dict)
    communicators: list[Communicator] = field(default_factory=list)
    files: dict[int, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    _stacks: list[tuple[str, int | None, dict[int, Stack]]] = field(default_factory=list)

    def add(self, name: str, data: bytes, *, rank: int | None = None, kind: str = "", error: str = "") -> None:
        """Take one piece. rank: whose it is where the sender knows; error: why there is no data."""
        rank = rank_of_name(name) if rank is None else rank
        if rank is not None and rank > MOST_RANKS:
            self.skipped.append(Skipped(name, f"rank {rank}: at most {MOST_RANKS} are looked at"))
            return
        if error or not data:
            self._missing(name, rank, error or "empty file")
            return
        try:
            self._read(kind or kind_of(data[:65_536]), name, data, rank)
        except (DumpError, StackError, FactsError, RasError) as failed:
            self._missing(name, rank, str(failed))

    def case(self, world_size: int = 0) -> Case:
        """All of it, joined. world_size: ranks there should be, 0 as the evidence says."""
        return Case(
            recordings=self.recordings, no_dump={r: why for r, why in self.no_dump.items() if r not in self.recordings},
            about=self.about, stacks=self._stacks_by_rank(), processes=self.processes, communicators=self.communicators,
            files=self.files, world_size=world_size,
        )  # fmt: skip

    def _read(self, kind: str, name: str, data: bytes, rank: int | None) -> None:
        if kind == "flight_recorder" or (not kind and data[:1] == b"\x80"):
            if rank is None:
                raise DumpError("whose dump it is cannot be told: no rank in its name")
            self.recordings[rank] = read_dump(data, rank)
            self.files[rank] = name
        elif kind == "stacks":
            self._stacks.append((name, rank, read_stacks(data)))
        elif kind == "about":
            about = read_about(data)
            self.about[about.rank] = about
            self.files.setdefault(about.rank, name)
        elif kind == "processes":
            self.processes |= read_processes(data)
        elif kind == "ras":
            self.communicators.extend(read_ras(data))
        else:
            raise DumpError("neither a flight recorder dump, stacks, a process table nor RAS")

    def _missing(self, name: str, rank: int | None, reason: str) -> None:
        self.skipped.append(Skipped(name, reason))
        if rank is not None and "stack" not in name.rsplit("/", 1)[-1]:
            self.no_dump.setdefault(rank, reason)

    def _stacks_by_rank(self) -> dict[int, Stack]:
        """A stack is the rank's in its file's name, else of the rank with its process id, else in the order of the file."""
        by_pid = {p.pid: r for r, p in self.processes.items()} | {a.pid: r for r, a in self.about.items() if a.pid}
        found: dict[int, Stack] = {}
        for name, rank, stacks in self._stacks:
            for number, (pid, stack) in enumerate(stacks.items()):
                own = rank if rank is not None and len(stacks) == 1 else by_pid.get(pid)
                if own is None and len(stacks) > 1 and rank is None:
                    own = number
                if own is None:
                    self.skipped.append(
                        Skipped(name, f"whose stack process {pid} is cannot be told: no rank in its name")
                    )
                    continue
                found[own] = stack
                self.files.setdefault(own, name)
        return found

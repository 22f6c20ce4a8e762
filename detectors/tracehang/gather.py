"""What the pieces of evidence say, in any order and of any quality -> one case; what cannot be used is kept with its reason."""

import re
from dataclasses import dataclass, field

import msgspec

from detectors.tracehang.case import MOST_RANKS, Case
from detectors.tracehang.devices import Device
from detectors.tracehang.facts import About, Process
from detectors.tracehang.flightrecorder import Recording
from detectors.tracehang.pieces import Content, Piece, read_piece
from detectors.tracehang.ras import Communicator
from detectors.tracehang.stacks import Stack
from holdfast.verdict import Skipped

# Texts that thousands of dumps have in common are kept once; those of hostile ones are not worth the room.
_MOST_SHARED = 200_000


@dataclass
class Pile:
    """Evidence as it comes in."""

    recordings: dict[int, Recording] = field(default_factory=dict)
    about: dict[int, About] = field(default_factory=dict)
    processes: dict[int, Process] = field(default_factory=dict)
    communicators: list[Communicator] = field(default_factory=list)
    files: dict[int, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    _failed: list[tuple[Piece, Content]] = field(default_factory=list)
    _stacks: list[tuple[str, int | None, list[tuple[int, Stack]]]] = field(default_factory=list)
    _devices: list[tuple[str, list[Device]]] = field(default_factory=list)
    _shared: dict[str, str] = field(default_factory=dict)
    _alike: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)

    def add(self, name: str, data: bytes, *, rank: int | None = None, kind: str = "", error: str = "") -> None:
        """Read and take one piece. rank: whose it is where the sender knows; error: why there is no data."""
        piece = Piece(name=name, rank=rank, kind=kind, data=data, error=error)
        self.take(piece, read_piece(piece))

    def take(self, piece: Piece, content: Content) -> None:
        """Take what a piece says."""
        name, rank = piece.name, piece.owner
        if content.problem:
            self._missing(piece, content)
        elif content.recording is not None:
            self._take_recording(name, content.recording)
        elif content.stacks is not None:
            self._stacks.append((name, rank, content.stacks))
        elif content.about is not None:
            self.about[content.about.rank] = content.about
            self.files.setdefault(content.about.rank, name)
        elif content.processes is not None:
            self.processes |= content.processes
        elif content.communicators is not None:
            self.communicators.extend(content.communicators)
        elif content.devices is not None:
            self._devices.append((name, content.devices))

    def case(self, world_size: int = 0) -> Case:
        """All of it, joined. world_size: ranks there should be, 0 as the evidence says."""
        return Case(
            recordings=self.recordings, no_dump=self._no_dump(), partial=self._partial(),
            about=self.about, stacks=self._stacks_by_rank(), processes=self.processes, communicators=self.communicators,
            files=self.files, world_size=world_size, devices=self._devices_by_rank(),
        )  # fmt: skip

    def _take_recording(self, name: str, new: Recording) -> None:
        """Of two dumps of one rank the newer tells how it stands now."""
        old = self.recordings.get(new.rank)
        if old is not None:
            fresher = (new.latest_ns, new.entries) >= (old.latest_ns, old.entries)
            older = self.files.get(new.rank, "") if fresher else name
            self.skipped.append(Skipped(older, f"another dump of rank {new.rank} is newer: {name if fresher else self.files[new.rank]}"))
            if not fresher:
                return
        new.members = {self._share(group): self._share(ranks) for group, ranks in new.members.items()}
        new.desc = {self._share(group): self._share(desc) for group, desc in new.desc.items()}
        new.local = {self._share(group): self._share(local) for group, local in new.local.items()}
        ring = new.ring
        new.ring = msgspec.structs.replace(
            ring, groups=self._share_all(ring.groups), names=self._share_all(ring.names), shapes=self._share_all(ring.shapes)
        )
        self.recordings[new.rank] = new
        self.files[new.rank] = name

    def _share(self, text: str) -> str:
        return self._shared.setdefault(text, text) if len(self._shared) < _MOST_SHARED else text

    def _share_all(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        known = self._alike.get(texts)
        if known is None:
            known = tuple(map(self._share, texts))
            if len(self._alike) < _MOST_SHARED:
                self._alike[known] = known
        return known

    def _missing(self, piece: Piece, content: Content) -> None:
        self.skipped.append(Skipped(piece.name, content.problem))
        if piece.owner is not None and piece.owner < MOST_RANKS:
            self._failed.append((piece, content))

    def _no_dump(self) -> dict[int, str]:
        """Why ranks have no dump: what failed and was one by its content, its sender's word, or a name like those of the good ones.

        Any other file whose name ends in a number is no rank's.
        """
        stems = {_stem(self.files[rank]) for rank in self.recordings}
        found: dict[int, str] = {}
        for piece, content in self._failed:
            named_so = _stem(piece.name) in stems if stems else "stack" not in _stem(piece.name)
            if content.kind == "flight_recorder" or (not content.kind and (piece.rank is not None or named_so)):
                found.setdefault(piece.owner or 0, content.problem)
        return {rank: why for rank, why in found.items() if rank not in self.recordings}

    def _partial(self) -> set[int]:
        """Ranks whose dump is there but cut short: they answered, so their silence says nothing."""
        broken = {piece.owner for piece, content in self._failed if content.kind == "flight_recorder" and content.problem != "empty file"}
        return {rank for rank in broken if rank is not None and rank not in self.recordings}

    def _stacks_by_rank(self) -> dict[int, Stack]:
        """A stack is the rank's in its file's name, else of the rank with its process id, else in the order of the file."""
        by_pid = {p.pid: r for r, p in self.processes.items()} | {a.pid: r for r, a in self.about.items() if a.pid}
        found: dict[int, Stack] = {}
        for name, rank, stacks in self._stacks:
            for number, (pid, stack) in enumerate(stacks):
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

    def _devices_by_rank(self) -> dict[int, Device]:
        """A device is that of the rank which NCCL says has it, else of the rank in its place on the host; the list's name tells which."""
        told = {(m.host, m.device): m.rank for c in self.communicators for m in c.members if m.device >= 0 and m.host}
        on_host: dict[str, set[int]] = {}
        for rank, at in [*((r, a.host) for r, a in self.about.items()), *((r, p.host) for r, p in self.processes.items())]:
            on_host.setdefault(at, set()).add(rank)
        hosts = {host for host, _ in told} | set(on_host) - {""}
        found: dict[int, Device] = {}
        for name, devices in self._devices:
            host = max((h for h in hosts if h in name), key=len, default="")
            places = sorted(on_host.get(host, ()))
            for place, device in enumerate(sorted(devices, key=lambda d: d.index)):
                own = told.get((host, device.index), places[place] if len(places) == len(devices) else None)
                if host and own is not None:
                    found[own] = device
            if not host:
                self.skipped.append(Skipped(name, "whose devices these are cannot be told: no host of the job in its name"))
        return found


def _stem(name: str) -> str:
    """What a file's name has in common with those of the same kind of other ranks."""
    return re.sub(r"\d+", "#", name.rsplit("/", 1)[-1])

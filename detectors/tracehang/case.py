"""All that was collected of one hang, by rank, with the groups joined by name."""

from collections import Counter
from dataclasses import dataclass, field

from detectors.tracehang.facts import About, Process
from detectors.tracehang.flightrecorder import Op, Recording
from detectors.tracehang.ras import Communicator
from detectors.tracehang.stacks import Stack


@dataclass(kw_only=True)
class Case:
    """The evidence. no_dump: rank -> why its dump could not be had; files: rank -> the name of its dump or stack."""

    recordings: dict[int, Recording] = field(default_factory=dict)
    no_dump: dict[int, str] = field(default_factory=dict)
    about: dict[int, About] = field(default_factory=dict)
    stacks: dict[int, Stack] = field(default_factory=dict)
    processes: dict[int, Process] = field(default_factory=dict)
    files: dict[int, str] = field(default_factory=dict)
    communicators: list[Communicator] = field(default_factory=list)
    world_size: int = 0
    members: dict[str, tuple[int, ...]] = field(default_factory=dict, init=False)
    descriptions: dict[str, str] = field(default_factory=dict, init=False)
    _local: dict[tuple[str, int], str] = field(default_factory=dict, init=False)
    _usual_local: dict[str, list[str]] = field(default_factory=dict, init=False)
    _waiting: dict[int, list[Op]] = field(default_factory=dict, init=False)
    _found: dict[int, dict[tuple[str, int], Op]] = field(default_factory=dict, init=False)
    _newest: dict[int, dict[str, int]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._join_groups()
        for rank, recording in self.recordings.items():
            firsts: dict[tuple[str, int, bool], Op] = {}
            for op in recording.ops:
                if not op.done:
                    firsts.setdefault((op.group, op.peer, op.sends), op)
            self._waiting[rank] = list(firsts.values())

    @property
    def seen(self) -> list[int]:
        """Ranks of which anything but an error is known."""
        return sorted({*self.recordings, *self.stacks, *self.processes, *self.about})

    @property
    def expected(self) -> list[int]:
        """Ranks there should be."""
        members = (max(ranks, default=-1) + 1 for ranks in self.members.values())
        told = (about.world_size or 0 for about in self.about.values())
        size = self.world_size or max([*members, *told, *(rank + 1 for rank in (*self.seen, *self.no_dump))], default=0)
        return list(range(size))

    def pending(self, rank: int) -> Op | None:
        """The first operation of a rank that has not completed: what it enqueued later stands behind it."""
        return next(iter(self._waiting.get(rank, ())), None)

    def waiting(self, rank: int) -> list[Op]:
        """The first operation of each group (of each pair, for p2p) that a rank has not completed, in recorded order."""
        return self._waiting.get(rank, [])

    def enqueued(self, rank: int, group: str) -> int | None:
        """The last collective a rank has enqueued in a group, -1 none; None where its dump cannot tell."""
        recording = self.recordings.get(rank)
        if recording is None:
            return None
        self._index(rank)
        seen = self._newest[rank].get(group)
        counted = self._counted(rank, group)
        if seen is not None:
            return max(seen, counted if counted is not None else -1)
        if counted is not None:
            return counted
        # a whole ring in which the group never occurs: it was never used; one that lost records cannot say so
        return None if recording.lost else -1

    def find(self, rank: int, group: str, seq: int) -> Op | None:
        """A collective of a rank by its group's number, None if the dump does not hold it."""
        return self._index(rank).get((group, seq))

    def is_done(self, rank: int, group: str, seq: int) -> bool:
        """Whether a rank has completed a collective."""
        op = self.find(rank, group, seq)
        if op is not None:
            return op.done
        recording, local = self.recordings.get(rank), self._local_of(rank, group)
        status = recording.status.get(local) if recording and local is not None else None
        return status is not None and status.completed >= seq

    def describe(self, group: str) -> str:
        """A group as a person would name it."""
        said = self.descriptions.get(group, "")
        return f"{group} ({said})" if said and said != "undefined" else group

    def _index(self, rank: int) -> dict[tuple[str, int], Op]:
        """A rank's collectives by group and number, made when first asked for."""
        found = self._found.get(rank)
        if found is None:
            recording = self.recordings.get(rank)
            found = {(op.group, op.seq): op for op in (recording.ops if recording else ()) if not op.p2p}
            newest: dict[str, int] = {}
            for group, seq in found:
                newest[group] = max(seq, newest.get(group, seq))
            self._found[rank], self._newest[rank] = found, newest
        return found

    def _counted(self, rank: int, group: str) -> int | None:
        local = self._local_of(rank, group)
        status = self.recordings[rank].status.get(local) if local is not None else None
        return status.enqueued if status else None

    def _local_of(self, rank: int, group: str) -> str | None:
        """A process's own number for a group: as it says, else as its peers in the group mostly do."""
        known = self._local.get((group, rank))
        if known is not None:
            return known
        usual = self._usual_local.get(group)
        return Counter(usual).most_common(1)[0][0] if usual and rank in self.members.get(group, ()) else None

    def _join_groups(self) -> None:
        found: dict[str, set[int]] = {}
        for rank, recording in self.recordings.items():
            self.descriptions |= {g: d for g, d in recording.desc.items() if d}
            for group, local in recording.local.items():
                found.setdefault(group, set()).add(rank)
                self._local[group, rank] = local
            for group, ranks in recording.members.items():
                self.members.setdefault(group, ranks)
        for rank, about in self.about.items():
            for group, known in about.groups.items():
                self.members.setdefault(group, known.ranks)
                self.descriptions.setdefault(group, known.desc)
                if known.local_id:
                    self._local.setdefault((group, rank), known.local_id)
        for group, heard in found.items():
            self.members.setdefault(group, tuple(sorted(heard)))
        for (group, _), local in self._local.items():
            self._usual_local.setdefault(group, []).append(local)

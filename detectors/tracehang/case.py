"""All that was collected of one hang, by rank, with the groups joined by name."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from detectors.tracehang.devices import Device
from detectors.tracehang.facts import About, Process
from detectors.tracehang.flightrecorder import Recording, Status, ranks_of
from detectors.tracehang.ras import Communicator
from detectors.tracehang.ring import Op
from detectors.tracehang.stacks import Doing, Stack

MOST_RANKS = 65_536

# A place in the program where no more ranks than this stand is an odd one; a job's ranks stand in a few places.
_RARE = 3
_RARE_SHARE = 0.05


@dataclass(kw_only=True)
class Case:
    """The evidence. no_dump: rank -> why its dump could not be had; files: rank -> the name of its dump or stack.

    partial: ranks that have begun to write one; transfers: the groups with sends and receives
    """

    recordings: dict[int, Recording] = field(default_factory=dict)
    no_dump: dict[int, str] = field(default_factory=dict)
    partial: set[int] = field(default_factory=set)
    about: dict[int, About] = field(default_factory=dict)
    stacks: dict[int, Stack] = field(default_factory=dict)
    processes: dict[int, Process] = field(default_factory=dict)
    files: dict[int, str] = field(default_factory=dict)
    communicators: list[Communicator] = field(default_factory=list)
    devices: dict[int, Device] = field(default_factory=dict)
    world_size: int = 0
    members: dict[str, tuple[int, ...]] = field(default_factory=dict, init=False)
    descriptions: dict[str, str] = field(default_factory=dict, init=False)
    transfers: set[str] = field(default_factory=set, init=False)
    _local: dict[tuple[str, int], str] = field(default_factory=dict, init=False)
    _usual_local: dict[str, Counter[str]] = field(default_factory=dict, init=False)
    _waiting: dict[int, list[Op]] = field(default_factory=dict, init=False)
    _newest: dict[int, dict[str, tuple[int, int]]] = field(default_factory=dict, init=False)
    _sets: dict[str, frozenset[int]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._join_groups()
        for rank, recording in self.recordings.items():
            self._waiting[rank] = recording.ring.fronts()
            self._newest[rank] = recording.ring.newest()
            self.transfers |= recording.ring.transferring()

    @cached_property
    def seen(self) -> list[int]:
        """Ranks of which anything but an error is known."""
        return sorted({*self.recordings, *self.stacks, *self.processes, *self.about})

    @cached_property
    def expected(self) -> list[int]:
        """Ranks there should be."""
        members = (max(ranks, default=-1) + 1 for ranks in self.members.values())
        told = (about.world_size or 0 for about in self.about.values())
        size = self.world_size or max([*members, *told, *(rank + 1 for rank in (*self.seen, *self.no_dump))], default=0)
        return list(range(min(size, MOST_RANKS)))

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
        seen = self._newest[rank].get(group, (-1, -1))[0]
        counted = self._counted(rank, group)
        if seen >= 0 or counted is not None:
            return max(seen, counted.enqueued if counted else -1)
        # a whole ring in which the group never occurs: it was never used; one that lost records cannot say so
        return None if recording.lost else -1

    def reached(self, rank: int, group: str) -> tuple[int, int]:
        """The highest numbers that a rank's records hold in a group: entered, completed; -1 none."""
        return self._newest[rank].get(group, (-1, -1))

    def without(self, ranks: Mapping[int, str]) -> "Case":
        """The same without the dumps of some ranks. ranks: rank -> why."""
        kept = {rank: one for rank, one in self.recordings.items() if rank not in ranks}
        return replace(self, recordings=kept, no_dump=self.no_dump | dict(ranks), partial=self.partial | set(ranks))

    def find(self, rank: int, group: str, seq: int) -> Op | None:
        """A collective of a rank by its group's number, None if the dump does not hold it."""
        recording = self.recordings.get(rank)
        return recording.ring.find(group, seq) if recording else None

    def is_done(self, rank: int, group: str, seq: int) -> bool:
        """Whether a rank has completed a collective."""
        if rank not in self.recordings:
            return False
        entered, completed = self._newest[rank].get(group, (-1, -1))
        if completed >= seq:
            return True
        op = self.find(rank, group, seq) if entered >= seq else None
        if op is not None:
            return op.done
        counted = self._counted(rank, group)
        return counted is not None and counted.completed >= seq

    def busy(self, rank: int) -> bool:
        """Whether a rank's host is seen at work: neither in a communication nor waiting for its device, nor where many others are."""
        stack = self.stacks.get(rank)
        if stack is None or stack.waits or stack.doing is Doing.DEVICE:
            return False
        return stack.doing is not Doing.OTHER or self._places[str(stack.frames[0])] <= max(_RARE, _RARE_SHARE * len(self.stacks))

    def sleeps_alone(self, rank: int) -> bool:
        """Whether the kernel shows a rank in a state in which few of its peers are: those that wait for a device all poll alike."""
        states = Counter((process.state, process.wchan) for process in self.processes.values())
        own = self.processes[rank]
        return states[own.state, own.wchan] <= max(_RARE, _RARE_SHARE * len(self.processes)) < len(self.processes)

    def stands(self, rank: int) -> bool:
        """Whether a rank's host is seen in a communication, or waiting for its device to come through one."""
        stack = self.stacks.get(rank)
        return stack is not None and (stack.waits or stack.doing is Doing.DEVICE)

    @cached_property
    def _places(self) -> Counter[str]:
        """How many ranks stand at each innermost frame."""
        return Counter(str(stack.frames[0]) for stack in self.stacks.values())

    def kind_of(self, group: str) -> list[str]:
        """The groups of the same kind, by what their makers call them; only itself where they call it nothing."""
        return self._kinds.get(self.descriptions.get(group, ""), [group])

    def part(self, rank: int) -> tuple[tuple[str, int], ...]:
        """Which part of the program a rank runs: its places in the groups that transfer, by their kind."""
        return self._parts.get(rank, ())

    @cached_property
    def _parts(self) -> dict[int, tuple[tuple[str, int], ...]]:
        found: dict[int, tuple[tuple[str, int], ...]] = {}
        for group in sorted({one for seen in self.transfers for one in self.kind_of(seen)}):
            for place, rank in enumerate(self.members.get(group, ())):
                found[rank] = (*found.get(rank, ()), (self.descriptions.get(group, ""), place))
        return found

    def own_of_kind(self, rank: int, group: str) -> str | None:
        """The group of that kind which a rank is in, None if there is none."""
        return next((one for one in self.kind_of(group) if rank in self._sets[one]), None)

    @cached_property
    def _kinds(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for group in self.members:
            desc = self.descriptions.get(group, "")
            if desc and desc != "undefined":
                found.setdefault(desc, []).append(group)
        return found

    def describe(self, group: str) -> str:
        """A group as a person would name it."""
        said = self.descriptions.get(group, "")
        return f"{group} ({said})" if said and said != "undefined" else group

    def _counted(self, rank: int, group: str) -> Status | None:
        """What a process counts for a group; nothing where it counts its sends with it."""
        local = self._local_of(rank, group) if group not in self.transfers else None
        return self.recordings[rank].status.get(local) if local is not None else None

    def _local_of(self, rank: int, group: str) -> str | None:
        """A process's own number for a group: as it says, else as its peers in the group mostly do."""
        known = self._local.get((group, rank))
        if known is not None:
            return known
        usual = self._usual_local.get(group)
        return usual.most_common(1)[0][0] if usual and rank in self._sets.get(group, ()) else None

    def _join_groups(self) -> None:
        found: dict[str, set[int]] = {}
        written: dict[str, str] = {}
        for rank, recording in self.recordings.items():
            self.descriptions |= {g: d for g, d in recording.desc.items() if d}
            for group, local in recording.local.items():
                found.setdefault(group, set()).add(rank)
                self._local[group, rank] = local
            for group, ranks in recording.members.items():
                written.setdefault(group, ranks)
        self.members = {group: ranks_of(ranks) for group, ranks in written.items()}
        for rank, about in self.about.items():
            for group, known in about.groups.items():
                self.members.setdefault(group, known.ranks)
                self.descriptions.setdefault(group, known.desc)
                if known.local_id:
                    self._local.setdefault((group, rank), known.local_id)
        for group, heard in found.items():
            self.members.setdefault(group, tuple(sorted(heard)))
        for rank, recording in self.recordings.items():
            for group, local in _by_age(recording).items():
                self._local.setdefault((group, rank), local)
        for (group, _), local in self._local.items():
            self._usual_local.setdefault(group, Counter())[local] += 1
        self._sets = {group: frozenset(ranks) for group, ranks in self.members.items()}


def _by_age(recording: Recording) -> dict[str, str]:
    """The process's own number of each of its groups, where a dump without records still tells: both count up with every new group.

    {} where the names are no numbers, or what is known of them says otherwise.
    """
    names, locals_ = list(recording.members), list(recording.status)
    if len(names) != len(locals_) or not all(one.isdigit() for one in (*names, *locals_)):
        return {}
    paired = dict(zip(sorted(names, key=int), sorted(locals_, key=int), strict=True))
    return paired if all(paired.get(group, local) == local for group, local in recording.local.items()) else {}

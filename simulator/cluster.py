"""The machines of the simulated cluster, and everything they have said that nobody has fetched yet."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from holdfast.events import Change, Changes, Lines, Observation, Received
from holdfast.topology import JobId, Kind, NodeId, Target
from simulator.chance import stream

DEVICES = 8
IDLE_BEAT_S = 10.0


@dataclass
class Device:
    """A GPU. heat_c: degrees above its usual; throttle: share of its clock that is left."""

    index: int
    pci: str
    heat_c: float = 0.0
    throttle: float = 1.0
    uncorrected: int = 0
    lost: bool = False


@dataclass
class Nic:
    """An InfiniBand port. downs: how often its link went down."""

    name: str
    up: bool = True
    downs: int = 0


@dataclass
class Node:
    """A machine. state: ready, not_ready, cordoned; holds: why jobs on it cannot go on; silent: its agent says nothing."""

    id: str
    devices: list[Device]
    nics: list[Nic]
    booted_at: float = 0.0
    state: str = "ready"
    holds: set[str] = field(default_factory=set)
    silent: bool = False
    dead: bool = False
    job: str = ""
    said: int = 0

    @property
    def usable(self) -> bool:
        return self.state == "ready" and not self.holds and not self.dead


def make_node(number: int) -> Node:
    """A node of eight devices and eight rails, its addresses as such machines have them."""
    buses = ("1b", "43", "52", "61", "9d", "c3", "d1", "df")
    return Node(
        id=f"node{number:04d}",
        devices=[Device(n, f"0000:{bus}:00") for n, bus in enumerate(buses)],
        nics=[Nic(f"mlx5_{n}") for n in range(DEVICES)],
    )


class Cluster:
    """Nodes by name and the observations that wait to be fetched.

    now: simulated Unix seconds; every part writes with its own time through `say`
    """

    def __init__(self, nodes: int, *, seed: int, start: float) -> None:
        self.seed, self.now = seed, start
        self.nodes = {node.id: node for node in (make_node(n) for n in range(nodes))}
        for node in self.nodes.values():
            node.booted_at = start - 86_400.0 * (1 + stream(seed, "boot", node.id).random() * 30)
        self._said: list[Observation] = []
        self._idle, self._idle_at = 0, start

    def say(self, seen: Observation) -> None:
        """Something that a collector will see."""
        self._said.append(seen)

    def fetch(self) -> Iterator[Observation]:
        """What was said since the last time, in its order."""
        said, self._said = self._said, []
        yield from said

    def kernel(self, node: Node, *messages: str, level: int = 3) -> None:
        """Kernel messages as /dev/kmsg gives them: level, sequence, microseconds since boot."""
        if node.dead and not any("panic" in message for message in messages):
            return
        lines: list[str] = []
        for message in messages:
            node.said += 1
            uptime_us = int((self.now - node.booted_at) * 1e6) + len(lines)
            lines.append(f"{level},{node.said},{uptime_us},-;{message}")
        first = node.said - len(lines) + 1
        self.say(
            Lines(
                at=self.now, source=f"kmsg:{node.id}", node=NodeId(node.id), job=JobId(node.job), file="kmsg",
                first=first, lines=tuple(lines),
            )
        )  # fmt: skip

    def change(self, target: Target, state: str, *, job: str = "", node: str = "", **known: object) -> None:
        """A target is in another state now; known: further fields of `Change`."""
        change = Change(target=target, state=state, at=self.now, **known)  # type: ignore[arg-type]
        source = f"agent:{node}" if node else "scheduler"
        self.say(Changes(at=self.now, source=source, job=JobId(job), node=NodeId(node), changes=(change,)))

    def set_state(self, node: Node, state: str, reason: str = "") -> None:
        """Move a node, and let the scheduler say so."""
        if node.state != state:
            node.state = state
            target = Target(Kind.NODE, node.id, node=node.id)
            self.change(target, state, job=node.job, node=node.id, reason=reason)

    def idle_beats(self) -> None:
        """Agents of nodes without a job say that they live."""
        if self.now - self._idle_at < IDLE_BEAT_S:
            return
        self._idle_at = self.now
        for node in self.nodes.values():
            if not node.job and not node.dead and not node.silent:
                self._idle += 1
                source = f"agent:{node.id}"
                self.say(
                    Received(
                        at=self.now, source=source, node=NodeId(node.id), agent=source, boot=f"{node.booted_at:.0f}",
                        sequence=1_000_000 + self._idle,
                    )
                )  # fmt: skip

    def mend(self, node: Node) -> None:
        """Repair a node: it comes back booted anew, with nothing wrong."""
        fresh = make_node(0)
        node.devices, node.nics = fresh.devices, fresh.nics
        node.holds.clear()
        node.silent = node.dead = False
        node.booted_at, node.said = self.now, 0
        self.kernel(node, "Linux version 6.8.0-60-generic (build@host) #63-Ubuntu SMP", level=5)
        self.set_state(node, "ready", "back from repair")

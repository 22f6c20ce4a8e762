"""The machines of the simulated cluster and their parts."""

from dataclasses import dataclass, field

DEVICES = 8


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


@dataclass(eq=False)
class Node:
    """A machine.

    ready, cordoned: what the scheduler holds of it; holds: why jobs on it cannot go on; silent: its agent is not heard
    job, attempt: what is placed on it; logged: kernel records written since it was booted
    """

    id: str
    devices: list[Device]
    nics: list[Nic]
    booted_at: float = 0.0
    ready: bool = True
    cordoned: bool = False
    holds: set[str] = field(default_factory=set)
    silent: bool = False
    dead: bool = False
    job: str = ""
    attempt: int = 0
    logged: int = 0

    @property
    def usable(self) -> bool:
        return self.ready and not self.cordoned and not self.holds and not self.dead


def make_node(number: int) -> Node:
    """A node of eight devices and eight rails, its addresses as such machines have them."""
    buses = ("1b", "43", "52", "61", "9d", "c3", "d1", "df")
    return Node(
        id=f"node{number:04d}",
        devices=[Device(n, f"0000:{bus}:00") for n, bus in enumerate(buses)],
        nics=[Nic(f"mlx5_{n}") for n in range(DEVICES)],
    )

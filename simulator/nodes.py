"""The machines of the simulated cluster and their parts."""

from dataclasses import dataclass, field

from simulator.chance import key_of

DEVICES = 8

# What keeps a node from its jobs and is mended elsewhere begins so.
SWITCH = "switch:"
# What a port sends that nobody uses: the subnet manager asks now and then.
IDLE_BYTES_PER_S = 1500.0
_BUSES = ("1b", "43", "52", "61", "9d", "c3", "d1", "df")


@dataclass(eq=False)
class Part:
    """Anything an exporter shows.

    shown: metric -> what it reads instead of the usual; grows: metric -> (per second, since when), added to the usual counter
    """

    shown: dict[str, float] = field(default_factory=dict, kw_only=True)
    grows: dict[str, tuple[float, float]] = field(default_factory=dict, kw_only=True)

    @property
    def odd(self) -> bool:
        """Whether it reads otherwise than a healthy one."""
        return bool(self.shown or self.grows)

    def grown(self, metric: str, now: float) -> float:
        """What its counter has more than a healthy one's by now."""
        rate, since = self.grows.get(metric, (0.0, now))
        return float(int(rate * max(0.0, now - since)))


@dataclass
class Device(Part):
    """A GPU. heat_c: degrees above its usual; throttle: share of its clock that is left; lost: the driver no longer sees it."""

    index: int
    pci: str
    heat_c: float = 0.0
    throttle: float = 1.0
    uncorrected: int = 0
    lost: bool = False

    @property
    def odd(self) -> bool:
        return self.lost or self.heat_c != 0.0 or self.throttle != 1.0 or self.uncorrected > 0 or super().odd


@dataclass
class Nic(Part):
    """An InfiniBand port. downs: how often its link went down."""

    name: str
    up: bool = True
    downs: int = 0

    @property
    def odd(self) -> bool:
        return not self.up or self.downs > 0 or super().odd


@dataclass(eq=False)
class Node(Part):
    """A machine.

    index: its number in the cluster; key: of its own chance; rack, pod: where it stands, its leaf switches serve a pod
    ready, cordoned: what the scheduler holds of it; holds: why jobs on it cannot go on; silent: its agent is not heard
    lag_s: its telemetry comes so late; skew_s: its clock is so far ahead; scraped: its exporters answer
    suspect: a fault was seen, nothing was done yet; repairing: it is out of service until then, 0.0 not
    job, attempt: what is placed on it; logged: kernel records written since it was booted
    sent: bytes through each of its ports until `sent_at`, and bytes per second since
    """

    id: str
    devices: list[Device]
    nics: list[Nic]
    index: int = 0
    key: int = 0
    rack: int = 0
    pod: int = 0
    booted_at: float = 0.0
    ready: bool = True
    cordoned: bool = False
    holds: set[str] = field(default_factory=set)
    silent: bool = False
    lag_s: float = 0.0
    skew_s: float = 0.0
    scraped: bool = True
    dead: bool = False
    suspect: bool = False
    repairing: float = 0.0
    job: str = ""
    attempt: int = 0
    logged: int = 0
    sent: tuple[float, float, float] = (0.0, 0.0, IDLE_BYTES_PER_S)

    @property
    def usable(self) -> bool:
        return self.ready and not self.cordoned and not self.holds and not self.dead

    @property
    def life(self) -> str:
        """healthy, suspect, cordoned or in_repair."""
        return "in_repair" if self.repairing else "cordoned" if self.cordoned else "suspect" if self.suspect or self.holds else "healthy"

    @property
    def odd_parts(self) -> bool:
        return self.odd or any(part.odd for part in (*self.devices, *self.nics))

    def traffic(self, now: float) -> float:
        """Bytes each of its ports has sent so far."""
        base, since, rate = self.sent
        return base + rate * max(0.0, now - since)

    def flow(self, now: float, bytes_per_s: float) -> None:
        """From now on its ports send so much."""
        if bytes_per_s != self.sent[2]:
            self.sent = self.traffic(now), now, bytes_per_s

    def renew(self, now: float) -> None:
        """It comes back booted anew with sound parts, and is what it was: its name, its place, its chance."""
        fresh = make_node(self.index, 0)
        self.devices, self.nics = fresh.devices, fresh.nics
        self.shown, self.grows = {}, {}
        self.holds.clear()
        self.silent = self.dead = self.suspect = False
        self.lag_s = self.skew_s = self.repairing = 0.0
        self.scraped = True
        self.booted_at, self.logged, self.sent = now, 0, (0.0, now, IDLE_BYTES_PER_S)


def port_name(rail: int) -> str:
    """What every node calls its port of a rail."""
    return f"mlx5_{rail}"


def make_node(number: int, seed: int) -> Node:
    """A node of eight devices and eight rails, its addresses as such machines have them."""
    id = f"node{number:04d}"
    return Node(
        id=id, index=number, key=key_of(seed, id),
        devices=[Device(n, f"0000:{bus}:00") for n, bus in enumerate(_BUSES)],
        nics=[Nic(port_name(n)) for n in range(DEVICES)],
    )  # fmt: skip

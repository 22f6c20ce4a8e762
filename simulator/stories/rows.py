"""Stories that are data: what says or shows a fault, and what it does to the job. The rows are in `rows.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Literal

import msgspec

from simulator.nodes import DEVICES
from simulator.stories.story import OnRank, Struck, Truth, crash, nic_address, while_there
from simulator.training import Stuck

if TYPE_CHECKING:
    from simulator.world import World

# How often a job crashes in the same place before it is left alone.
_AGAIN = 5

# After so long its owner looks after a job that has failed.
_OWNER_S = 300.0

Effect = Literal["hang", "crash", "slow", "data", "network", "host", "locked", "uninterruptible", "none"]


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row; what each key means stands at the head of the table.

    lost: the driver sees the device no more; port_down: the port has no link; silent: slow, and neither its clock nor its power shows it
    """

    name: str
    truth: Truth
    effect: Effect
    kernel: tuple[str, ...] = ()
    level: int = 3
    every_s: float = 0.0
    times: int = 1
    lasts: bool = True
    after_s: float = 0.0
    heals_s: float = 0.0
    factor: float = 1.0
    heat_c: float = 0.0
    uncorrected: int = 0
    lost: bool = False
    port_down: bool = False
    silent: bool = False
    log: tuple[str, ...] = ()
    signal: int | None = None
    device: dict[str, float] = {}
    nic: dict[str, float] = {}
    node: dict[str, float] = {}
    device_grows: dict[str, float] = {}
    nic_grows: dict[str, float] = {}
    node_grows: dict[str, float] = {}


@cache
def rows() -> dict[str, Row]:
    """The table by name; raises msgspec.ValidationError where it is none."""
    text = (resources.files("simulator") / "stories" / "rows.toml").read_text(encoding="utf-8")
    table = msgspec.convert(tomllib.loads(text), dict[str, tuple[Row, ...]])
    return {row.name: row for row in table["story"]}


@dataclass(frozen=True, kw_only=True)
class Tale(OnRank):
    """The story of one row, on one rank."""

    row: Row

    def play(self, world: World, told: Struck) -> Iterator[float]:
        self._show(world)
        said = self._say(world)
        yield from said if self.row.times == 1 else self._beside(world, said)
        if self.row.after_s:
            yield self.row.after_s
        yield from _EFFECTS[self.row.effect](self, world, told)

    def _beside(self, world: World, said: Iterator[float]) -> Iterator[float]:
        """What is said again and again goes on beside the effect."""
        world.plan(world.cluster.now, said)
        yield from ()

    def _say(self, world: World) -> Iterator[float]:
        row, job, node = self.row, self.training(world), self.node(world)
        device, nic, booted_at = self.device(world), self.nic(world), node.booted_at
        words = {
            "pci": device.pci, "pid": job.pid(self.rank), "nic": nic.name, "nicpci": nic_address(self.rank), "node": node.id,
            "rank": self.rank,
        }  # fmt: skip
        tied = nic_address(self.rank) if row.port_down else ""
        for n in range(row.times if row.kernel else 0):
            if n:
                yield row.every_s
            if node.booted_at != booted_at or node.dead or node.repairing:
                return
            world.cluster.kernel(node, *(line.format(**words) for line in row.kernel), level=row.level, device=tied)

    def _show(self, world: World) -> None:
        row, now = self.row, world.cluster.now
        node, device, nic = self.node(world), self.device(world), self.nic(world)
        device.heat_c += row.heat_c
        device.uncorrected += row.uncorrected
        device.lost = device.lost or row.lost
        if row.port_down:
            nic.up, nic.downs = False, nic.downs + 1
        for part, shown, grows in ((device, row.device, row.device_grows), (nic, row.nic, row.nic_grows), (node, row.node, row.node_grows)):
            part.shown |= shown
            part.grows |= {metric: (rate, now) for metric, rate in grows.items()}

    # --- what it does to the job

    def _hang(self, world: World, told: Struck) -> Iterator[float]:
        job, node = self.training(world), self.node(world)
        node.holds.add(self.name)
        if not self.row.kernel:
            job.stuck = Stuck("device", self.rank)
        yield from while_there(job, node)

    def _crash(self, world: World, told: Struck) -> Iterator[float]:
        job, node, row = self.training(world), self.node(world), self.row
        if row.lasts and row.kernel:
            node.holds.add(self.name)
        words = {"rank": self.rank, "local": self.rank % DEVICES}
        lines = [line.format(**words) if "{" in line else line for line in row.log]
        attempt = job.attempt
        yield from crash(job, self.rank, *lines, exit_code=None if row.signal else 1, signal=row.signal)
        if row.lasts and row.kernel:
            yield from while_there(job, node)
        elif row.lasts:  # nothing is broken that a repair mends: in the end somebody makes room
            yield from self._again(world, lines, attempt)

    def _again(self, world: World, lines: list[str], attempt: int) -> Iterator[float]:
        """Whoever restarts in the same place crashes there again; a job that nobody starts any more is its owner's, who makes room."""
        job, node = self.training(world), self.node(world)
        booted_at, waited_s = node.booted_at, 0.0
        for _ in range(_AGAIN):
            while job.attempt == attempt or job.state != "running" or job.stepped_at == job.begun_at:
                if node not in job.nodes or node.booted_at != booted_at or job.state in ("stopped", "finished"):
                    return
                if (waited_s := waited_s + 1.0 if job.state == "failed" else 0.0) >= _OWNER_S:
                    job.start(world.cluster.now, job.shape.schedule_s)
                    return
                yield 1.0
            attempt = job.attempt
            yield from crash(job, self.rank, *lines)

    def _slow(self, world: World, told: Struck) -> Iterator[float]:
        job, node = self.training(world), self.node(world)
        if not self.row.silent:
            self.device(world).throttle = 1.0 / self.row.factor
            yield from while_there(job, node)
            return
        job.slow[self.rank] = self.row.factor
        yield from while_there(job, node)
        job.slow.pop(self.rank, None)

    def _data(self, world: World, told: Struck) -> Iterator[float]:
        job, node = self.training(world), self.node(world)
        late_s = (self.row.factor - 1.0) * job.shape.step_s
        ranks = job.ranks_on(node)
        job.work.drag.data_s |= dict.fromkeys(ranks, late_s)
        yield from while_there(job, node)
        for rank in ranks:
            job.work.drag.data_s.pop(rank, None)

    def _network(self, world: World, told: Struck) -> Iterator[float]:
        job, node = self.training(world), self.node(world)
        more_s = (self.row.factor - 1.0) * job.shape.step_s
        job.work.drag.communication_s += more_s
        yield from while_there(job, node)
        job.work.drag.communication_s -= more_s

    def _host(self, world: World, told: Struck) -> Iterator[float]:
        job, node = self.training(world), self.node(world)
        job.stuck = Stuck("host", self.rank)
        if self.row.lasts:
            node.holds.add(self.name)
            yield from while_there(job, node)

    def _locked(self, world: World, told: Struck) -> Iterator[float]:
        self.training(world).stuck = Stuck("locked", self.rank)
        yield from ()

    def _uninterruptible(self, world: World, told: Struck) -> Iterator[float]:
        job = self.training(world)
        job.stuck = Stuck("storage", self.rank)
        job.tell(self.rank, "uninterruptible", wchan="rpc_wait_bit_killable")
        yield from ()

    def _none(self, world: World, told: Struck) -> Iterator[float]:
        yield from ()


_EFFECTS: dict[Effect, Callable[[Tale, World, Struck], Iterator[float]]] = {
    "hang": Tale._hang, "crash": Tale._crash, "slow": Tale._slow, "data": Tale._data, "network": Tale._network, "host": Tale._host,
    "locked": Tale._locked, "uninterruptible": Tale._uninterruptible, "none": Tale._none,
}  # fmt: skip

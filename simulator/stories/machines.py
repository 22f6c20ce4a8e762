"""Stories of machines, ports and switches that take more than a row to tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.fabric import rail_of
from simulator.nodes import SWITCH, Node
from simulator.stories.story import OnRank, Struck, while_there
from simulator.training import Stuck

if TYPE_CHECKING:
    from simulator.world import World


@dataclass(frozen=True, kw_only=True)
class RankStopped(OnRank):
    """Somebody stops a process and forgets it."""

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job = self.training(world)
        job.stuck = Stuck("stopped", self.rank)
        job.tell(self.rank, "stopped")
        yield from ()


@dataclass(frozen=True, kw_only=True)
class DeviceHang(OnRank):
    """A kernel never ends on one device; nothing is logged. before: it is one before the collective, so that all dumps are equal"""

    before: bool = False

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job, node = self.training(world), self.node(world)
        job.stuck = Stuck("device_before" if self.before else "device", self.rank)
        node.holds.add(self.name)
        yield from while_there(job, node)


@dataclass(frozen=True, kw_only=True)
class NicFlap(OnRank):
    """A bad optic: the link goes and comes, and goes again. Collectives wait while it is gone."""

    def play(self, world: World, told: Struck) -> Iterator[float]:
        node, nic = self.node(world), self.nic(world)
        booted_at = node.booted_at
        for _ in range(5):
            nic.up, nic.downs = False, nic.downs + 1
            yield 20.0
            if not node.usable or node.booted_at != booted_at:
                return
            nic.up = True
            yield 40.0


@dataclass(frozen=True, kw_only=True)
class KernelPanic(OnRank):
    """A node's kernel gives up: its last words, then silence."""

    words: tuple[str, ...] = ("Kernel panic - not syncing: Fatal exception in interrupt",)

    def play(self, world: World, told: Struck) -> Iterator[float]:
        node = self.node(world)
        world.cluster.kernel(node, *self.words, level=0)
        yield from die(world, node)


@dataclass(frozen=True, kw_only=True)
class SuddenReboot(OnRank):
    """A node resets itself without a word and is there again after some minutes, its processes gone."""

    away_s: float = 240.0

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job, node = self.training(world), self.node(world)
        world.plan(world.cluster.now, die(world, node))
        yield self.away_s
        if node.dead and not node.repairing:
            in_use = node in job.nodes
            world.cluster.mend(node)
            if in_use:
                node.attempt = job.attempt
                for rank in job.ranks_on(node):
                    job.end(rank, signal=9)
                job.stuck = Stuck("gone", self.rank)


def die(world: World, node: Node) -> Iterator[float]:
    """A node goes: no agent, no exporter, and after a while the scheduler notices."""
    booted_at = node.booted_at
    node.dead = True
    node.holds.add("dead")
    yield 40.0
    if node.dead and node.booted_at == booted_at:
        world.cluster.scheduler.lose(node, world.cluster.now)
    if not node.job:
        world.tend(node)


@dataclass(frozen=True, kw_only=True)
class RackPower(OnRank):
    """A power shelf fails: every node of the rack is gone at once."""

    def nodes(self, world: World) -> tuple[str, ...]:
        rack = self.node(world).rack
        return tuple(node.id for node in world.cluster.nodes.values() if node.rack == rack)

    def play(self, world: World, told: Struck) -> Iterator[float]:
        for id in told.nodes:
            world.plan(world.cluster.now, die(world, world.cluster.nodes[id]))
        yield from ()


@dataclass(frozen=True, kw_only=True)
class OnLeaf(OnRank):
    """At the leaf switch of a rank's port: every node of the pod has one there."""

    def nodes(self, world: World) -> tuple[str, ...]:
        fabric = world.cluster.fabric
        leaf = fabric.leaf(self.node(world), rail_of(self.rank))
        return tuple(node.id for node in fabric.behind(leaf, world.cluster.nodes.values()))


@dataclass(frozen=True, kw_only=True)
class LeafLoss(OnLeaf):
    """A leaf switch drops a share of the packets: every port at it counts errors, and who uses it is slower.

    lasting_s: until it is mended
    """

    loss: float = 0.01
    lasting_s: float = 900.0

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job, now, rail = self.training(world), world.cluster.now, rail_of(self.rank)
        ports = [world.cluster.nodes[id].nics[rail] for id in told.nodes]
        # a packet is four kilobytes; a port at work sends 2e9 bytes a second
        lost = self.loss * 2e9 / 4096
        grows = {"node_infiniband_port_errors_received_total": (lost, now), "node_infiniband_symbol_error_total": (lost / 50, now)}
        for port in ports:
            port.grows |= grows
        more_s = 0.3 * job.shape.step_s
        job.work.drag.communication_s += more_s
        yield self.lasting_s
        job.work.drag.communication_s -= more_s
        for port in ports:
            for metric, (rate, since) in grows.items():
                if port.grows.get(metric) == (rate, since):  # a counter stands where it has come to
                    port.shown[metric] = port.grown(metric, world.cluster.now)
                    del port.grows[metric]
        told.ended_at = world.cluster.now


@dataclass(frozen=True, kw_only=True)
class LeafDown(OnLeaf):
    """A leaf switch is gone for a while: one port of every node of the pod has no link."""

    lasting_s: float = 300.0

    def play(self, world: World, told: Struck) -> Iterator[float]:
        rail = rail_of(self.rank)
        nodes = [(world.cluster.nodes[id], world.cluster.nodes[id].nics[rail]) for id in told.nodes]
        for node, port in nodes:
            port.up, port.downs = False, port.downs + 1
            node.holds.add(SWITCH + self.name)
            world.cluster.kernel(node, f"mlx5_core 0000:{0x14 + rail:02x}:00.0 {port.name}: Link down", level=6)
        yield self.lasting_s
        for node, port in nodes:
            port.up = True
            node.holds.discard(SWITCH + self.name)
        world.serve()
        told.ended_at = world.cluster.now

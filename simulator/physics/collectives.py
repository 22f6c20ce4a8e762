"""Seconds of a collective operation from message size, group and network, as latency and transfer: the alpha-beta model.

Sources: Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH, IJHPCA 2005, for
rings, trees and their steps; NCCL's own cost model (src/graph/tuning.cc) for its constants and for choosing the quicker.
"""

from math import log2
from typing import NamedTuple

from msgspec.structs import replace

from simulator.physics.devices import DeviceKind
from simulator.physics.fabric import Fabric, Group, Tier, hop_s, network_rate
from simulator.physics.tables import PhysicsError

_ROUNDS = {"all_reduce": 2, "reduce_scatter": 1, "all_gather": 1}
_TREE_SHARE = 0.9  # of a ring's bandwidth that a tree's reaches: NCCL's own factor


class Cost(NamedTuple):
    """Seconds of an operation: those of waiting for messages, and those of sending bytes, which a slower link stretches."""

    latency_s: float = 0.0
    transfer_s: float = 0.0

    @property
    def seconds(self) -> float:
        return self.latency_s + self.transfer_s

    def times(self, n: float) -> "Cost":
        """n of them, one after another."""
        return Cost(self.latency_s * n, self.transfer_s * n)

    def plus(self, other: "Cost") -> "Cost":
        """One after the other."""
        return Cost(self.latency_s + other.latency_s, self.transfer_s + other.transfer_s)


def collective(op: str, size_bytes: float, group: Group, device: DeviceKind, fabric: Fabric, *, algorithm: str = "auto") -> Cost:
    """The time of one operation in which every rank takes part.

    op: all_reduce, reduce_scatter, all_gather (size_bytes is the whole vector of a rank before or after), all_to_all
    (what a rank sends to all, itself included), barrier, send; algorithm: ring, tree, hierarchical, or auto: the quickest
    that exists for the operation
    raises PhysicsError: an unknown operation, or an algorithm it does not have
    """
    if group.size <= 1:
        return Cost()
    if op == "barrier":
        return collective("all_reduce", 4.0, group, device, fabric, algorithm="tree")
    if op == "send":
        return send(size_bytes, group, device, fabric)
    if op == "all_to_all":
        return _all_to_all(size_bytes, group, device, fabric)
    if op not in _ROUNDS:
        raise PhysicsError(f"no operation called {op!r}")
    ways = {name: way for name, way in _WAYS.items() if name != "tree" or op == "all_reduce"}
    if algorithm == "auto":
        return min((way(_ROUNDS[op], size_bytes, group, device, fabric) for way in ways.values()), key=lambda cost: cost.seconds)
    if algorithm not in ways:
        raise PhysicsError(f"{op} by {algorithm!r} does not exist; there are {', '.join(ways)}")
    return ways[algorithm](_ROUNDS[op], size_bytes, group, device, fabric)


def send(size_bytes: float, group: Group, device: DeviceKind, fabric: Fabric) -> Cost:
    """A message from one rank to another of a group."""
    if group.tier <= Tier.NODE:
        return Cost(fabric.node_hop_s, size_bytes / _scale_up(device, fabric))
    return Cost(hop_s(group, fabric), size_bytes / network_rate(group, device, fabric))


def _scale_up(device: DeviceKind, fabric: Fabric) -> float:
    return device.scale_up_bytes_per_s * fabric.scale_up_share


def _ring(rounds: int, size_bytes: float, group: Group, device: DeviceKind, fabric: Fabric) -> Cost:
    """Every rank sends (n - 1) / n of the vector per round; where it crosses nodes, all rails of the group carry a part."""
    rate = _scale_up(device, fabric)
    if group.nodes > 1:
        rate = min(rate, group.per_node * network_rate(group, device, fabric))
    between = rounds * (group.nodes - 1) if group.nodes > 1 else 0
    within = rounds * (group.size - 1) - between
    latency = fabric.launch_s + within * fabric.node_hop_s + between * hop_s(group, fabric)
    return Cost(latency, rounds * size_bytes * (group.size - 1) / group.size / rate)


def _tree(_: int, size_bytes: float, group: Group, device: DeviceKind, fabric: Fabric) -> Cost:
    """Up a binary tree of nodes and down again, chains within a node; the vector passes every link twice."""
    rate = _scale_up(device, fabric)
    if group.nodes > 1:
        rate = min(rate, group.per_node * network_rate(group, device, fabric))
    depth = log2(group.nodes) if group.nodes > 1 else 0.0
    latency = fabric.launch_s + 2 * ((group.per_node - 1) * fabric.node_hop_s + depth * hop_s(group, fabric))
    return Cost(latency, 2 * size_bytes / (_TREE_SHARE * rate))


def _hierarchical(rounds: int, size_bytes: float, group: Group, device: DeviceKind, fabric: Fabric) -> Cost:
    """Within the node, then each rail its part between nodes, then within the node again."""
    inner = Group(size=group.per_node, per_node=group.per_node)
    outer = replace(group, size=group.nodes, per_node=1)
    cost = Cost()
    if inner.size > 1:
        cost = _ring(rounds, size_bytes, inner, device, fabric)
    if outer.size > 1:
        cost = cost.plus(_ring(rounds, size_bytes / group.per_node, outer, device, fabric))
    return cost


_WAYS = {"ring": _ring, "tree": _tree, "hierarchical": _hierarchical}


def _all_to_all(size_bytes: float, group: Group, device: DeviceKind, fabric: Fabric) -> Cost:
    """Every rank sends a part to each other; what stays in the node and what leaves it go at once, the slower counts."""
    near = size_bytes * (group.per_node - 1) / group.size / _scale_up(device, fabric)
    far = 0.0
    if group.nodes > 1:
        far = size_bytes * (group.size - group.per_node) / group.size / network_rate(group, device, fabric)
    latency = fabric.launch_s + (group.per_node - 1) * fabric.peer_s + (group.nodes - 1) * hop_s(group, fabric)
    return Cost(latency, max(near, far))

"""The rail-optimised network as numbers: which tiers a group crosses, what a hop costs, who shares a link, how hashing collides."""

from enum import IntEnum

import msgspec
import numpy as np

from simulator.physics.devices import DEVICES_PER_NODE, DeviceKind


class Tier(IntEnum):
    """The highest part of the network that a group needs."""

    DEVICE = 0
    NODE = 1
    LEAF = 2
    POD = 3
    CLUSTER = 4


SWITCHES = {Tier.DEVICE: 0, Tier.NODE: 0, Tier.LEAF: 1, Tier.POD: 3, Tier.CLUSTER: 5}
"""Switches on the way between two nodes: one leaf; leaf, spine, leaf; leaf, spine, super-spine, spine, leaf."""


class Fabric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fabric of leaves (one a rail), spines and super-spines between nodes of eight devices.

    leaf_nodes, pod_nodes: nodes below one set of leaves and one set of spines. The defaults are switches of 64 ports at
    the NIC's rate without oversubscription at any tier: 32 ports down and 32 up, so 32 nodes a set of leaves, and 32
    leaves (four sets of eight rails, 128 nodes, 1,024 devices) a pod. MegaScale (arXiv:2402.15627, section 3.6) and
    Alibaba HPN (SIGCOMM'24) describe larger switches in the same pattern.
    leaf_over, pod_over: oversubscription of what leaves a leaf and a pod, 1.0 is none
    scale_up_share, network_share: of the line rate that large collectives reach. 235 of 300 GB/s is what NCCL's own cost
    model caps A100s at (src/graph/tuning.cc, v2.12); 95 % of the NIC's rate is what Baidu reports with load balancing
    launch_s, node_hop_s, nic_hop_s: per operation and step, NCCL's own constants of the ring (same file, Simple protocol)
    peer_s: per peer in the node of an all-to-all, which is as many sends: nccl-tests of eight A100 show 87 us for no bytes
    switch_s: per switch crossed, cut-through forwarding and cable, rounded up from vendors' 0.5 to 0.8 us
    flows: how many hashed flows a NIC's traffic is cut into (queue pairs); balanced: share of what hashing leaves uneven
    that the switches' load balancing takes away, 0 is plain ECMP
    """

    leaf_nodes: int = 32
    pod_nodes: int = 128
    leaf_over: float = 1.0
    pod_over: float = 1.0
    scale_up_share: float = 0.78
    network_share: float = 0.95
    launch_s: float = 8.4e-6
    node_hop_s: float = 3.4e-6
    nic_hop_s: float = 9.6e-6
    peer_s: float = 11e-6
    switch_s: float = 1.0e-6
    flows: int = 16
    balanced: float = 0.9


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """What timing needs to know of a process group.

    size: ranks; per_node: the most of them in one node; tier: the highest it crosses
    sharing: how many groups send through the same NIC at once; crossing, leaving: share of the job's NICs that send out of
    their leaf and out of their pod when all groups of this kind are at it; leaves: sets of leaves the job stands on
    """

    size: int
    per_node: int = 1
    tier: Tier = Tier.NODE
    sharing: float = 1.0
    crossing: float = 0.0
    leaving: float = 0.0
    leaves: int = 1

    @property
    def nodes(self) -> int:
        return max(1, -(-self.size // self.per_node))


def tier_of(slots: np.ndarray, fabric: Fabric) -> np.ndarray:
    """The tier each group crosses. slots: where in the cluster its members' nodes stand, shape (groups, size); answers (groups,)"""
    tiers = np.full(slots.shape[0], int(Tier.NODE))
    for tier, width in ((Tier.LEAF, 1), (Tier.POD, fabric.leaf_nodes), (Tier.CLUSTER, fabric.pod_nodes)):
        places = slots // width
        tiers[(places != places[:, :1]).any(axis=1)] = int(tier)
    return tiers


def group_of(groups: np.ndarray, slots: np.ndarray, fabric: Fabric) -> Group:
    """The widest of a job's groups of one kind, which sets the pace of all.

    groups: ranks, shape (groups, size); slots: place in the cluster of each node of the job, shape (nodes,)
    A ring visits its members in rank order, so what leaves a leaf is one flow for each neighbour that stands below another:
    few where ranks are placed in order, nearly all where they are scattered.
    """
    size = groups.shape[1]
    if size == 1:
        return Group(size=1, tier=Tier.DEVICE)
    where = slots[groups // DEVICES_PER_NODE]
    tiers = tier_of(where, fabric)
    widest = where[int(tiers.argmax())]
    nics = len(slots) * DEVICES_PER_NODE
    out = [
        min(1.0, float((where // width != np.roll(where, 1, axis=1) // width).sum()) * _per_node(widest) / nics)
        for width in (fabric.leaf_nodes, fabric.pod_nodes)
    ]
    leaves = len(np.unique(slots // fabric.leaf_nodes))
    return Group(
        size=size, per_node=_per_node(widest), tier=Tier(int(tiers.max())), crossing=out[0], leaving=out[1], leaves=leaves,
    )  # fmt: skip


def _per_node(nodes: np.ndarray) -> int:
    """The most members of a group in one node."""
    return int(np.unique(nodes, return_counts=True)[1].max())


def collision(group: Group, fabric: Fabric) -> float:
    """How much slower than its line the fullest uplink makes a group, at least 1.

    Each NIC's traffic is cut into `flows` that are hashed onto uplinks: balls into m bins. With a mean of c balls a bin
    the fullest holds about c + sqrt(2 c ln m) (Raab and Steger, Balls into Bins, RANDOM'98), so the price grows with the
    number of uplinks, that is with scale, and with how full they are; load balancing takes its share of the second term.
    """
    worst = 1.0
    for out, over in ((group.crossing, fabric.leaf_over), (group.leaving, fabric.leaf_over * fabric.pod_over)):
        mean = out * over  # of an uplink's rate
        bins = DEVICES_PER_NODE * fabric.leaf_nodes / over * group.leaves
        uneven = (1.0 - fabric.balanced) * float(np.sqrt(2.0 * mean * np.log(bins) / fabric.flows))
        worst = max(worst, mean + uneven)
    return worst


def network_rate(group: Group, device: DeviceKind, fabric: Fabric) -> float:
    """Bytes per second that one device of a group gets through the network, one direction."""
    return device.network_bytes_per_s * fabric.network_share / (group.sharing * collision(group, fabric))


def hop_s(group: Group, fabric: Fabric) -> float:
    """Seconds of latency of one step of a collective between nodes of a group."""
    return fabric.nic_hop_s + fabric.switch_s * SWITCHES[group.tier]

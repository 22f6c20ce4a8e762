"""Where the nodes stand: racks with their power, pods behind one leaf switch a rail, spines and super-spines above.

Rail-optimised: port `k` of every node of a pod ends at the pod's leaf `k`, so devices of one index reach each other over one
hop, and all else goes over a spine. Source: NVIDIA DGX SuperPOD reference architecture (H100), network fabrics.
"""

from collections.abc import Iterable

import msgspec

from simulator.nodes import DEVICES, Node


class Fabric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many nodes stand together.

    rack_nodes: a rack's, which share its power; pod_nodes: a pod's, which share its eight leaves; spine_pods: pods under one spine
    """

    rack_nodes: int = 4
    pod_nodes: int = 32
    spine_pods: int = 8

    def stand(self, node: Node) -> None:
        """Give a node its place by its number."""
        node.rack, node.pod = node.index // self.rack_nodes, node.index // self.pod_nodes

    def leaf(self, node: Node, rail: int) -> str:
        """The leaf switch a port of a node is plugged into."""
        return f"leaf-p{node.pod}-r{rail}"

    def behind(self, leaf: str, nodes: Iterable[Node]) -> list[Node]:
        """The nodes with a port at a leaf."""
        pod = int(leaf.split("-")[1][1:])
        return [node for node in nodes if node.pod == pod]

    def hops(self, one: Node, other: Node) -> int:
        """Switches between the same rail of two nodes: 0 in one machine, 1 a leaf, 3 over a spine, 5 over a super-spine."""
        if one is other:
            return 0
        if one.pod == other.pod:
            return 1
        return 3 if one.pod // self.spine_pods == other.pod // self.spine_pods else 5


def rail_of(rank: int) -> int:
    """The rail a rank's device uses: its index in the node."""
    return rank % DEVICES

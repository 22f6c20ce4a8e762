"""Tiers, contention and the time of collectives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.physics.collectives import collective, send
from simulator.physics.devices import device_kind
from simulator.physics.fabric import Fabric, Group, Tier, collision, group_of, hop_s, network_rate
from simulator.physics.layout import Layout
from simulator.physics.tables import PhysicsError

A100, H100 = device_kind("a100"), device_kind("h100")
FABRIC = Fabric()
NODE = Group(size=8, per_node=8)
MB, GB = 2**20, 2**30


@pytest.mark.parametrize(
    ("nodes", "tier"),
    [
        pytest.param([0], Tier.NODE, id="one node"),
        pytest.param([0, 31], Tier.LEAF, id="one set of leaves"),
        pytest.param([0, 32], Tier.POD, id="two sets of leaves"),
        pytest.param([100, 200], Tier.CLUSTER, id="two pods"),
    ],
)
def test_a_group_crosses_what_it_must(nodes: list[int], tier: Tier) -> None:
    ranks = np.arange(len(nodes) * 8)[None, :]
    group = group_of(ranks, np.array(nodes), FABRIC)
    assert (group.tier, group.per_node, group.nodes) == (tier, 8, len(nodes))


def test_a_hop_costs_more_the_higher_it_goes() -> None:
    hops = [hop_s(Group(size=2, tier=tier), FABRIC) for tier in (Tier.LEAF, Tier.POD, Tier.CLUSTER)]
    assert hops == sorted(hops)
    assert len(set(hops)) == 3


def test_a_ring_in_a_node_is_as_quick_as_was_measured() -> None:
    # nccl-tests on eight A100 publishes 230 GB/s of bus bandwidth for a gigabyte: 8.2 ms
    assert collective("all_reduce", GB, NODE, A100, FABRIC).seconds == pytest.approx(8.2e-3, rel=0.05)


def test_all_reduce_is_a_reduce_scatter_and_an_all_gather() -> None:
    whole = collective("all_reduce", GB, NODE, H100, FABRIC, algorithm="ring").transfer_s
    parts = [collective(op, GB, NODE, H100, FABRIC).transfer_s for op in ("reduce_scatter", "all_gather")]
    assert whole == pytest.approx(sum(parts))


def test_a_tree_is_quicker_for_little_among_many_and_a_ring_for_much() -> None:
    many = Group(size=256, tier=Tier.CLUSTER)
    ways = ("ring", "tree")
    small, large = (
        {way: collective("all_reduce", size, many, H100, FABRIC, algorithm=way).seconds for way in ways}
        for size in (4096, 4 * GB)
    )
    assert small["tree"] < small["ring"] / 10
    assert large["ring"] < large["tree"]
    assert collective("all_reduce", 4096, many, H100, FABRIC).seconds == small["tree"]


def test_rails_share_the_work_of_a_group_of_whole_nodes() -> None:
    wide, thin = Group(size=64, per_node=8, tier=Tier.LEAF), Group(size=8, per_node=1, tier=Tier.LEAF)
    assert collective("all_gather", GB, wide, H100, FABRIC).seconds < collective("all_gather", GB, thin, H100, FABRIC).seconds / 2
    ways = {way: collective("all_reduce", GB, wide, H100, FABRIC, algorithm=way) for way in ("ring", "hierarchical")}
    assert ways["hierarchical"].latency_s < ways["ring"].latency_s


def test_what_all_to_all_sends_out_of_the_node_sets_its_pace() -> None:
    inside = collective("all_to_all", GB, NODE, H100, FABRIC).seconds
    assert collective("all_to_all", GB, Group(size=64, per_node=8, tier=Tier.LEAF), H100, FABRIC).seconds > 4 * inside


def test_a_group_of_one_costs_nothing_and_a_message_what_its_link_takes() -> None:
    assert collective("all_reduce", GB, Group(size=1), H100, FABRIC).seconds == 0.0
    far = send(GB, Group(size=2, tier=Tier.LEAF), H100, FABRIC)
    assert far.transfer_s == pytest.approx(GB / (50e9 * 0.95))
    assert collective("send", GB, Group(size=2, tier=Tier.LEAF), H100, FABRIC) == far
    assert send(GB, NODE, H100, FABRIC).seconds < far.seconds / 5


def test_a_shared_nic_gives_each_its_part() -> None:
    alone, shared = (network_rate(Group(size=4, tier=Tier.LEAF, sharing=n), H100, FABRIC) for n in (1, 2))
    assert alone == 2 * shared


def test_hashing_costs_more_the_larger_the_job_and_nothing_below_one_leaf() -> None:
    ecmp = Fabric(balanced=0.0)
    prices = [collision(Group(size=64, tier=Tier.POD, crossing=1.0, leaves=leaves), ecmp) for leaves in (2, 8, 64)]
    assert prices == sorted(prices)
    assert 1.5 < prices[0] < prices[-1] < 3.0
    assert collision(Group(size=64, tier=Tier.LEAF), ecmp) == 1.0
    assert collision(Group(size=64, tier=Tier.POD, crossing=1.0, leaves=8), Fabric(balanced=1.0)) == 1.0
    few = Group(size=64, tier=Tier.POD, crossing=0.05, leaves=8)
    assert collision(few, ecmp) == 1.0  # so little is sent up that even the fullest uplink is not full


def test_oversubscription_is_felt_by_what_fills_the_uplinks() -> None:
    full = Group(size=64, tier=Tier.POD, crossing=1.0, leaves=8)
    assert collision(full, Fabric(leaf_over=2.0, balanced=1.0)) == 2.0


def test_ranks_placed_in_order_leave_their_leaf_rarely() -> None:
    layout = Layout(tp=8, pp=4, dp=64, global_batch=64)
    chance = np.random.Generator(np.random.Philox(3))
    tidy = group_of(layout.groups("dp"), np.arange(256), FABRIC)
    scattered = group_of(layout.groups("dp"), chance.permutation(256), FABRIC)
    assert tidy.crossing < 0.05
    assert scattered.crossing > 0.8
    assert network_rate(scattered, H100, Fabric(balanced=0.0)) < network_rate(tidy, H100, Fabric(balanced=0.0))


@pytest.mark.parametrize(
    ("op", "algorithm", "says"),
    [
        pytest.param("gossip", "auto", "no operation called 'gossip'", id="an unknown operation"),
        pytest.param("all_gather", "tree", "all_gather by 'tree' does not exist; there are ring", id="an algorithm the operation has not"),
    ],
)
def test_what_does_not_exist_is_refused(op: str, algorithm: str, says: str) -> None:
    with pytest.raises(PhysicsError, match=says):
        collective(op, 1.0, NODE, H100, FABRIC, algorithm=algorithm)


@given(
    st.sampled_from(("all_reduce", "reduce_scatter", "all_gather", "all_to_all", "send")),
    st.floats(1.0, 1e11), st.floats(1.0, 4.0), st.integers(1, 8), st.integers(1, 64), st.sampled_from(list(Tier)[2:]),
)  # fmt: skip
def test_more_bytes_take_longer(op: str, size: float, more: float, per_node: int, nodes: int, tier: Tier) -> None:
    group = Group(size=per_node * nodes, per_node=per_node, tier=tier if nodes > 1 else Tier.NODE)
    small, large = (collective(op, n, group, H100, FABRIC) for n in (size, size * more))
    assert 0.0 <= small.seconds <= large.seconds + 1e-12
    assert np.isfinite(large.seconds)

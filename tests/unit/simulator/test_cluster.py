"""The simulated cluster itself: where nodes stand, who gets them, and that every story can be played and leaves nothing behind."""

import numpy as np
import pytest

from simulator.chance import key_of, normals, uniforms
from simulator.fabric import Fabric
from simulator.gang import Gang, pick
from simulator.nodes import IDLE_BYTES_PER_S, Node, make_node
from simulator.scenario import JobRow, Scenario, ServiceRow, make
from simulator.stories.kinds import kinds
from simulator.world import Repairs


def nodes(count: int, fabric: Fabric | None = None) -> list[Node]:
    made = [make_node(n, 1) for n in range(count)]
    for node in made:
        (fabric or Fabric(rack_nodes=2, pod_nodes=4, spine_pods=2)).stand(node)
    return made


@pytest.mark.parametrize(
    ("one", "other", "hops"),
    [
        pytest.param(0, 0, 0, id="in one machine no switch"),
        pytest.param(0, 3, 1, id="in one pod a leaf"),
        pytest.param(0, 7, 3, id="between pods of a spine a leaf, a spine and a leaf"),
        pytest.param(0, 8, 5, id="beyond it over a super-spine"),
    ],
)
def test_hops(one: int, other: int, hops: int) -> None:
    fabric, made = Fabric(rack_nodes=2, pod_nodes=4, spine_pods=2), nodes(12)
    assert fabric.hops(made[one], made[other]) == hops


def test_a_leaf_has_one_port_of_every_node_of_its_pod() -> None:
    fabric, made = Fabric(pod_nodes=4), nodes(12)
    assert [node.index for node in fabric.behind(fabric.leaf(made[5], 3), made)] == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("free", "count", "near", "chosen"),
    [
        pytest.param([0, 1, 4, 5, 6, 7], 2, [], [0, 1], id="the tightest pod that holds all"),
        pytest.param([0, 1, 4, 5, 6, 7], 1, [6], [4], id="the pod the job is in already"),
        pytest.param([0, 4, 5, 6, 8, 9], 5, [], [4, 5, 6, 8, 9], id="as few pods as can be, the emptiest first"),
        pytest.param([3], 2, [], [3], id="not enough is not enough"),
    ],
)
def test_nodes_near_each_other_are_picked(free: list[int], count: int, near: list[int], chosen: list[int]) -> None:
    made = nodes(12)
    picked = pick([made[n] for n in free], count, near=[made[n] for n in near])
    assert [node.index for node in picked] == chosen


def test_the_highest_priority_is_placed_first_and_a_smaller_job_may_pass_what_does_not_fit() -> None:
    made, gang, placed = nodes(4), Gang(), list[tuple[str, int]]()
    free = list(made)

    def placing(name: str, count: int) -> None:
        def place(given: list[Node]) -> None:
            placed.append((name, len(given)))
            for node in given:
                free.remove(node)

        gang.submit(count, place, priority=int(name[0]))

    for name, count in (("0-low", 2), ("5-large", 9), ("3-high", 2)):
        placing(name, count)
    gang.serve(lambda barred: [node for node in free if node.id not in barred])
    assert placed == [("3-high", 2), ("0-low", 2)]
    assert len(gang) == 1


def test_a_node_goes_through_its_life_and_comes_back_as_it_was() -> None:
    world = make(Scenario(nodes=3, repair=Repairs(median_s=100.0), job=(JobRow(name="a", nodes=1),)))
    node = world.cluster.nodes["node0001"]
    seen, key = [node.life], node.key
    node.holds.add("something")
    seen.append(node.life)
    world.plan(world.cluster.now, world.repair(node))
    world.advance(world.cluster.now + 50.0)
    seen.append(node.life)
    world.advance(world.cluster.now + 60.0)
    assert [*seen, node.life] == ["healthy", "suspect", "in_repair", "healthy"]
    assert (node.key, node.usable, node.index) == (key, True, 1)


def test_repairs_that_sometimes_take_long_have_their_median() -> None:
    made = make_node(1, 1)
    times = sorted(Repairs(median_s=600.0, sigma=1.0).of(1, made, float(n)) for n in range(401))
    assert 480.0 < times[200] < 750.0
    assert times[-1] > 4 * 600.0


def test_traffic_is_added_up_over_what_was_sent() -> None:
    node = make_node(0, 1)
    node.sent = (0.0, 0.0, IDLE_BYTES_PER_S)
    node.flow(10.0, 1e9)
    node.flow(20.0, IDLE_BYTES_PER_S)
    assert node.traffic(30.0) == 20 * IDLE_BYTES_PER_S + 10 * 1e9


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_a_story_that_nobody_answers_is_played_and_what_is_repaired_leaves_no_drag(kind: str) -> None:
    jobs, services = (JobRow(name="train", nodes=4, pp=2, step_s=4.0),), (ServiceRow(name="chat", model="m"),)
    world = make(Scenario(nodes=12, text_share=0.0, fabric=Fabric(pod_nodes=4), job=jobs, service=services))
    world.advance(world.cluster.now + 30.0)
    job = world.jobs["train"]
    story = kinds()[kind].of("chat" if kinds()[kind].serves else "train", 0 if kinds()[kind].serves else 13)
    world.tell(story)
    (told,) = world.struck
    assert told.nodes
    assert set(told.nodes) <= set(world.cluster.nodes)
    world.advance(world.cluster.now + 30.0)
    for id in told.nodes:
        world.plan(world.cluster.now, world.repair(world.cluster.nodes[id]))
    job.place([node for node in world.cluster.nodes.values() if node.id not in told.nodes and node.job in ("", "train")][:4])
    if len(job.nodes) == 4 and job.state != "stopped":
        job.start(world.cluster.now, 5.0)
    world.advance(world.cluster.now + 920.0)
    drag = job.work.drag
    assert not drag.compute
    assert not drag.data_s
    assert drag.communication_s == pytest.approx(0.0, abs=1e-9)
    assert all(node.usable for node in world.cluster.nodes.values())


def test_a_counter_of_errors_stands_where_it_has_come_to_when_the_switch_is_mended() -> None:
    world = make(Scenario(nodes=4, job=(JobRow(name="train", nodes=4, step_s=4.0),)))
    world.tell(kinds()["leaf_loss"].of("train", 13))
    world.advance(world.cluster.now + 800.0)
    port, metric = world.cluster.nodes["node0003"].nics[5], "node_infiniband_port_errors_received_total"
    before = port.grown(metric, world.cluster.now)
    world.advance(world.cluster.now + 300.0)
    assert port.shown[metric] > before > 0
    assert metric not in port.grows


def test_a_job_beside_a_full_disk_crashes_again_and_in_the_end_its_owner_makes_room() -> None:
    world = make(Scenario(nodes=4, job=(JobRow(name="train", nodes=4, step_s=4.0),)))
    job = world.jobs["train"]
    world.advance(world.cluster.now + 60.0)
    world.tell(kinds()["disk_full"].of("train", 13))
    for attempt in (0, 1):
        world.advance(world.cluster.now + 60.0)
        assert (job.state, job.attempt) == ("failed", attempt)
        if not attempt:
            job.start(world.cluster.now, 20.0)
    world.advance(world.cluster.now + 500.0)
    assert (world.struck[0].over, job.trains, job.attempt) == (True, True, 2)


def test_numbers_of_one_thing_do_not_depend_on_the_others_and_are_what_they_should_be() -> None:
    keys = np.array([key_of(1, n) for n in range(2000)], dtype=np.uint64)
    drawn = normals(keys, 7, 4)
    assert np.array_equal(drawn[:50], normals(keys[:50], 7, 4))
    assert abs(float(drawn.mean())) < 0.05
    assert abs(float(drawn.std()) - 1.0) < 0.03
    assert abs(float(np.corrcoef(drawn[:, 0], normals(keys, 8, 4)[:, 0])[0, 1])) < 0.08
    flat = uniforms(keys, 3, 2)
    assert float(flat.min()) > 0.0
    assert float(flat.max()) < 1.0

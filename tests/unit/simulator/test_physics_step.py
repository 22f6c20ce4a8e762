"""Who waits for whom in a step, and what does not fit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator, Philox

from simulator.physics.devices import device_kind
from simulator.physics.layout import Layout
from simulator.physics.models import model_shape
from simulator.physics.noise import expected_maximum, jitter_of, spread_of
from simulator.physics.plan import Plan, plan
from simulator.physics.sequences import packed_squares, uneven_lengths
from simulator.physics.software import Software
from simulator.physics.step import PHASES, Conditions, Step
from simulator.physics.tables import PhysicsError

OWN = ("data", "host", "forward", "backward", "optimizer")
WAITS = ("tp_wait", "pp_wait", "dp_wait", "step_wait")


def job(**sizes: Any) -> Plan:
    layout = {"tp": 8, "pp": 2, "dp": 4, "global_batch": 32, "chunks": 1, **sizes}
    return plan(model_shape("qwen2.5-7b"), device_kind("h100"), Layout(**layout))


JOB = job()
WORLD = JOB.job.layout.world


def waits(step: Step) -> np.ndarray:
    return np.asarray(sum(step.phase(name) for name in WAITS))


def but(rank: int, value: float, usual: float = 1.0) -> np.ndarray:
    values = np.full(WORLD, usual)
    values[rank] = value
    return values


def test_every_rank_takes_the_same_step() -> None:
    step = JOB.step()
    np.testing.assert_allclose(step.phases.sum(axis=1), step.step_s)
    assert (step.phases >= -1e-12).all()
    assert JOB.step_s > step.step_s  # the slowest of many costs something
    np.testing.assert_allclose(JOB.phases.sum(axis=1), JOB.step_s)


@pytest.mark.parametrize("rank", [0, 13, 37, 63])
def test_a_slow_rank_waits_least_and_all_wait_for_it(rank: int) -> None:
    usual, slow = JOB.step(), JOB.step(Conditions(compute=but(rank, 1.5)))
    assert slow.step_s > 1.1 * usual.step_s  # less than by half: the last stage is the heavier one
    waited = waits(slow)
    assert waited.argmin() == rank
    layout = JOB.job.layout
    stage, lane, _, _ = (int(n[0]) for n in np.nonzero(layout.ranks == rank))
    mates, others = layout.ranks[stage, lane].ravel(), layout.ranks[stage, (lane + 1) % layout.dp].ravel()
    assert (slow.phase("tp_wait")[mates[mates != rank]] > 0.2 * usual.step_s).all()  # its tensor group, in every layer
    assert (slow.phase("pp_wait")[layout.ranks[1 - stage, lane]] > usual.phase("pp_wait").max()).all()  # its pipeline
    assert (slow.phase("dp_wait")[others] > 0.1 * usual.step_s).all()  # the other replicas, once
    assert slow.phase("dp_wait")[rank] == 0.0
    np.testing.assert_allclose(slow.phase("forward")[rank] / usual.phase("forward")[rank], 1.5)


def test_a_slow_nic_stretches_the_gradients_of_its_group_and_no_compute() -> None:
    slow = JOB.step(Conditions(network=but(5, 0.1)))
    group = next(members for members in JOB.job.layout.groups("dp") if 5 in members)
    comm = slow.phase("dp_comm")
    assert comm[group].min() > 2 * np.delete(comm, group).max()
    assert slow.phase("step_wait")[group].max() < np.delete(slow.phase("step_wait"), group).min()
    np.testing.assert_allclose(slow.phase("forward"), JOB.step().phase("forward"))


def test_a_slow_link_in_the_node_slows_its_tensor_group() -> None:
    slow = JOB.step(Conditions(scale_up=but(5, 0.25)))
    assert slow.phase("tp_comm")[:8].min() > 3 * slow.phase("tp_comm")[8:].max()


@pytest.mark.parametrize("name", ["data_s", "host_s"])
def test_a_late_rank_delays_all_by_what_it_is_late(name: str) -> None:
    late = JOB.step(Conditions(**{name: but(7, 0.5, 0.0)}))
    assert late.step_s == pytest.approx(JOB.step().step_s + 0.5, abs=0.05)
    assert late.phase(name.removesuffix("_s"))[7] == pytest.approx(0.5, abs=0.02)
    assert (late.phase("tp_wait")[:7] > 0.49).all()
    assert waits(late).argmin() == 7


def test_a_heavy_last_stage_waits_less_than_the_others() -> None:
    heavy = job(pp=4, dp=2, chunk_layers=(7, 7, 7, 7))  # the head makes it so
    light = job(pp=4, dp=2, chunk_layers=(7, 8, 8, 5))
    assert light.step_s < heavy.step_s
    waited = waits(heavy.step())
    assert set(heavy.job.layout.ranks[3].ravel()) >= {int(waited.argmin())}


def test_long_documents_make_one_replica_late_with_every_device_healthy() -> None:
    squares = np.full((8, 4), 0.1)
    squares[:, 2] = 1.0
    lengths = np.ones((8, 4))
    long = plan(model_shape("qwen2.5-7b"), device_kind("h100"), Layout(tp=8, pp=2, dp=4, global_batch=32, sequence=32_768))
    step = long.step(Conditions(lengths=lengths, squares=squares))
    late = long.job.layout.ranks[:, 2].ravel()
    assert step.phase("forward")[late].min() > 1.1 * np.delete(step.phase("forward"), late).max()
    assert step.phase("dp_wait")[late].max() == 0.0


def test_replicas_that_share_experts_have_one_pace() -> None:
    sparse = plan(
        model_shape("qwen3-30b-a3b"), device_kind("h100"), Layout(tp=4, pp=2, dp=8, ep=4, global_batch=64, micro_batch=1),
    )  # fmt: skip
    slow = sparse.step(Conditions(compute=but(0, 1.5)))
    lanes = sparse.job.layout.ranks[0]
    waited = slow.phase("tp_wait")
    assert waited[lanes[1].ravel()].min() > 0.05  # shares experts with replica 0
    assert waited[lanes[5].ravel()].max() == 0.0  # does not
    assert slow.phase("ep_comm").min() > 0.0


def test_long_contexts_are_divided() -> None:
    whole = plan(model_shape("llama3-8b"), device_kind("h200"), Layout(tp=8, dp=2, global_batch=4, sequence=131_072))
    parts = plan(model_shape("llama3-8b"), device_kind("h200"), Layout(tp=8, cp=2, global_batch=4, sequence=131_072))
    assert parts.step().phase("cp_comm").min() > 0.0
    assert parts.memory_bytes.max() < whole.memory_bytes.max()
    assert parts.mfu == pytest.approx(whole.mfu, rel=0.1)


@pytest.mark.parametrize(
    ("model", "device", "sizes", "says"),
    [
        pytest.param("qwen2.5-72b", "h100", {"tp": 8}, "stage 0 needs .* GB of 85.9 GB", id="a model too large for one node"),
        pytest.param("qwen2.5-7b", "ascend-910b", {"tp": 1, "sequence": 131_072}, "of activations; raise", id="a sequence too long"),
        pytest.param("qwen2.5-72b", "h100", {"tp": 8, "pp": 3}, "80 layers do not divide", id="stages that do not divide"),
    ],
)
def test_what_does_not_fit_is_refused(model: str, device: str, sizes: dict[str, Any], says: str) -> None:
    with pytest.raises(PhysicsError, match=says):
        plan(model_shape(model), device_kind(device), Layout(**sizes))


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        pytest.param(Conditions(compute=np.ones(3)), r"shape \(3,\) for 64 ranks", id="another number of ranks"),
        pytest.param(Conditions(network=np.zeros(64)), "it hangs", id="a dead link is no slow link"),
        pytest.param(Conditions(lengths=np.ones((2, 2))), r"not \(8, 4\)", id="another number of micro-batches"),
        pytest.param(Conditions(jitter=np.ones((1, 1, 1, 1))), "not", id="jitter of another shape"),
    ],
)
def test_conditions_of_another_job_are_refused(conditions: Conditions, says: str) -> None:
    with pytest.raises(PhysicsError, match=says):
        JOB.step(conditions)


def test_slots_of_another_job_and_shares_above_one_are_refused() -> None:
    with pytest.raises(PhysicsError, match="slots"):
        plan(model_shape("qwen2.5-7b"), device_kind("h100"), Layout(tp=8), slots=np.arange(2))
    with pytest.raises(PhysicsError, match=r"outside 0\.\.1"):
        Software(tp_overlap=1.5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([{}, {"chunks": 2}, {"pp": 4, "dp": 2}, {"tp": 2, "pp": 1, "dp": 8}, {"tp": 4, "cp": 2}]))
def test_whatever_happens_the_ranks_agree_on_the_step(seed: int, sizes: dict[str, int]) -> None:
    one = job(**sizes)
    chance, world = Generator(Philox(key=seed)), one.job.layout.world
    step = one.step(
        Conditions(
            compute=1.0 + chance.exponential(0.1, world),
            network=chance.uniform(0.2, 1.0, world),
            scale_up=chance.uniform(0.2, 1.0, world),
            data_s=chance.exponential(0.1, world),
            host_s=chance.exponential(0.1, world),
            jitter=jitter_of(chance, one.passes, one.job.software),
            lengths=uneven_lengths(chance, one.passes[2:]),
        )
    )
    np.testing.assert_allclose(step.phases.sum(axis=1), step.step_s, rtol=1e-9)
    assert step.phases.min() > -1e-9
    assert waits(step).argmin() in range(world)


@pytest.mark.parametrize("sizes", [{}, {"chunks": 2}, {"pp": 4, "dp": 2, "chunk_layers": (7, 7, 7, 7)}, {"tp": 4, "cp": 2}])
def test_a_varied_step_is_like_one_that_was_played(sizes: dict[str, Any]) -> None:
    one = job(**sizes)
    steady = Conditions(compute=spread_of(Generator(Philox(key=3)), one.job.layout.world, one.job.software))
    usual = one.step(steady)
    varied = [one.vary(usual, Generator(Philox(key=n))) for n in range(60)]
    for step in varied:
        np.testing.assert_allclose(step.phases.sum(axis=1), step.step_s)
        assert step.phases.min() > -1e-12
    noisy = [replace(steady, jitter=jitter_of(Generator(Philox(key=n)), one.passes, one.job.software)) for n in range(60)]
    played = [one.step(conditions) for conditions in noisy]
    lengths = [np.array([step.step_s for step in steps]) for steps in (varied, played)]
    assert lengths[0].mean() == pytest.approx(lengths[1].mean(), rel=0.01)
    assert lengths[0].std() == pytest.approx(lengths[1].std(), rel=0.8)
    assert usual.phases.tobytes() == one.step(steady).phases.tobytes()  # it is left as it was


def test_what_a_device_sends_is_gradients_parameters_and_messages() -> None:
    one = job(pp=4, dp=2, chunk_layers=(7, 7, 7, 7), tp=8)
    sent, message = one.costs.network_bytes, 4096 / 8 * 3584 * 2
    shared = one.costs.parameters * (4 + 2) / 2
    assert sent == pytest.approx(shared + np.array([1, 2, 2, 1]) * 16 * message)
    alone = job(pp=1, dp=1, tp=8, chunk_layers=())
    assert alone.costs.network_bytes.tolist() == [0.0]


def test_chance_is_an_argument() -> None:
    drawn = [
        JOB.step(Conditions(compute=spread_of(Generator(Philox(key=1)), WORLD, JOB.job.software))).phases.tobytes() for _ in range(2)
    ]
    assert drawn[0] == drawn[1]


def test_the_slowest_of_many_is_slower_than_the_slowest_of_few() -> None:
    chance = Generator(Philox(key=5))
    for n in (8, 32, 2048):
        assert expected_maximum(n) == pytest.approx(chance.standard_normal((400, n)).max(axis=1).mean(), abs=0.08)
    assert expected_maximum(1) == 0.0


def test_a_share_of_nodes_is_slow_as_a_whole() -> None:
    drawn = spread_of(Generator(Philox(key=2)), 8000, Software(slow_share=0.02, slower=1.2, spread=0.005))
    slow = drawn.reshape(-1, 8).mean(axis=1) > 1.1
    assert 5 < slow.sum() < 45
    assert drawn.mean() == pytest.approx(1.0 + 0.2 * slow.mean(), abs=0.002)


def test_packed_documents_fill_a_sequence_and_attend_less() -> None:
    squares = packed_squares(Generator(Philox(key=1)), (64, 16), sequence=4096)
    assert ((squares > 1 / 64) & (squares <= 1.0 + 1e-12)).all()
    assert 0.2 < squares.mean() < 0.8
    assert squares.std() > 0.1
    short = packed_squares(Generator(Philox(key=1)), (64, 16), sequence=131_072)
    assert short.mean() < squares.mean() / 2


def test_every_phase_has_a_name_of_its_own() -> None:
    assert len(set(PHASES)) == len(PHASES) == JOB.step().phases.shape[1]
    assert set(OWN) | set(WAITS) < set(PHASES)

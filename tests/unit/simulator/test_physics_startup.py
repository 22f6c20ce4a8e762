"""Start-up, checkpoints, pauses and late data, against what was published of them."""

import numpy as np
import pytest
from numpy.random import Generator, Philox

from simulator.physics.checkpoints import Storage
from simulator.physics.devices import device_kind
from simulator.physics.layout import Layout
from simulator.physics.models import model_shape
from simulator.physics.pauses import Collection, Loader, phases_of
from simulator.physics.plan import Plan, plan
from simulator.physics.reference import reference
from simulator.physics.startup import STARTUP, group_init_s, startup_s
from simulator.physics.tables import PhysicsError

REFERENCE = reference(2048)


def small(model: str, devices: int) -> Plan:
    return plan(model_shape(model), device_kind("a800"), Layout(tp=8, pp=devices // 8, global_batch=8))


@pytest.mark.parametrize(
    ("devices", "requeue_s", "in_place_s"),
    [
        pytest.param(2048, 454, 46, id="2,048"), pytest.param(4096, 545, 51, id="4,096"), pytest.param(8192, 635, 54, id="8,192"),
        pytest.param(16384, 768, 65, id="16,384"),
    ],
)  # fmt: skip
def test_starts_take_as_long_as_byterobust_reports(devices: int, requeue_s: float, in_place_s: float) -> None:
    whole = startup_s(devices, load_s=71.0, step_s=6.0)
    again = startup_s(devices, load_s=3.0, step_s=0.0, restart=True)
    assert tuple(whole) == STARTUP
    assert sum(whole.values()) == pytest.approx(requeue_s, rel=0.10)
    assert sum(again.values()) == pytest.approx(in_place_s, rel=0.10)


@pytest.mark.parametrize(
    ("devices", "store", "seconds"),
    [
        pytest.param(2048, "tcp", 1047, id="a blocking store"), pytest.param(2048, "redis", 361, id="another store"),
        pytest.param(2048, "ordered", 5, id="without needless barriers"), pytest.param(16_000, "ordered", 17, id="16,000"),
        pytest.param(22_000, "ordered", 30, id="22,000"), pytest.param(64_000, "ordered", 100, id="64,000"),
        pytest.param(98_000, "ordered", 200, id="98,000"),
    ],
)  # fmt: skip
def test_groups_stand_after_as_long_as_was_published(devices: int, store: str, seconds: float) -> None:
    assert group_init_s(devices, store=store) == pytest.approx(seconds, rel=0.20)


@pytest.mark.parametrize("devices", [1, 8, 256])
def test_a_small_job_starts_sooner_and_never_at_once(devices: int) -> None:
    phases = startup_s(devices, load_s=0.0, step_s=1.0)
    assert min(phases[name] for name in ("schedule", "image_pull", "process_start", "group_init")) > 0
    assert sum(phases.values()) < sum(startup_s(2048, load_s=0.0, step_s=1.0).values())
    assert startup_s(devices, load_s=0.0, step_s=1.0, cached=True)["image_pull"] == 0.0


def test_a_plan_knows_its_start() -> None:
    cold, warm = REFERENCE.startup_s(), REFERENCE.startup_s(restart=True, in_memory=True)
    assert cold["checkpoint_load"] > 50 > 1 > warm["checkpoint_load"]
    assert sum(warm.values()) < sum(cold.values()) / 5
    with pytest.raises(PhysicsError, match="no store called 'etcd'"):
        REFERENCE.startup_s(store="etcd")


@pytest.mark.parametrize(
    ("model", "devices", "at_once_s", "behind_s"),
    [
        pytest.param("qwen2.5-7b", 8, 35, 2.5, id="7B on a node"),
        pytest.param("llama3-70b", 40, 143, 4, id="70B on five nodes"),
    ],
)
def test_checkpoints_stall_as_long_as_baidu_documents(model: str, devices: int, at_once_s: float, behind_s: float) -> None:
    one = small(model, devices)
    assert one.checkpoint("sync").stall_s == pytest.approx(at_once_s, rel=0.25)
    assert one.checkpoint("async").stall_s == pytest.approx(behind_s, rel=0.35)
    assert one.checkpoint("memory").stall_s < 0.2


def test_a_checkpoint_behind_the_scenes_is_durable_later_and_in_memory_never() -> None:
    at_once, behind, memory = (REFERENCE.checkpoint(mode) for mode in ("sync", "async", "memory"))
    assert behind.stall_s < at_once.stall_s / 100
    assert behind.durable_s == at_once.durable_s
    assert memory.durable_s == float("inf")
    assert at_once.bytes == 14 * model_shape("qwen2.5-72b").parameters == REFERENCE.checkpoint_bytes


def test_slow_storage_stalls_who_writes_at_once() -> None:
    assert REFERENCE.checkpoint("sync", slower=5.0).stall_s > 4 * REFERENCE.checkpoint("sync").stall_s
    assert REFERENCE.checkpoint("async", slower=5.0).stall_s == REFERENCE.checkpoint("async").stall_s
    assert REFERENCE.checkpoint("sync", Storage(shared_bytes_per_s=1e12)).stall_s < 5
    with pytest.raises(PhysicsError, match="no checkpoint mode called 'tape'; known: async, memory, sync"):
        REFERENCE.checkpoint("tape")
    with pytest.raises(PhysicsError, match="below 1"):
        REFERENCE.checkpoint("sync", slower=0.5)


@pytest.mark.parametrize(
    ("ranks", "planned", "seconds"),
    [
        pytest.param(1, False, 0.0006, id="alone it is nothing"),
        pytest.param(2048, False, 0.295, id="of many, one pauses in nearly every step"),
        pytest.param(2048, True, 0.0006, id="all at once it is nothing again"),
    ],
)
def test_collections_out_of_step_cost_every_step(ranks: int, planned: bool, seconds: float) -> None:
    collection = Collection(planned=planned)
    assert collection.expected_s(ranks) == pytest.approx(seconds, rel=0.02)
    at = phases_of(Generator(Philox(key=1)), ranks, collection)
    paused = [collection.pauses_s(step, at) for step in range(500)]
    assert np.mean([one.max() for one in paused]) == pytest.approx(seconds, rel=0.05, abs=1e-3)
    assert {one.shape for one in paused} == {(ranks,)}
    assert np.sum(paused) == pytest.approx(0.3 * ranks)  # each rank once in its cycle


def test_data_is_late_only_when_it_takes_longer_than_a_step() -> None:
    loader = Loader(sample_s=0.5, workers=2, prefetch=2)
    assert loader.batch_s(16) == 4.0
    assert loader.late_s(16, 5.0) == 0.0
    assert loader.late_s(16, 5.0, slower=2.0) == 3.0
    lags = [loader.late_s(16, 5.0, slower=2.0, since_steps=n) for n in range(6)]
    assert lags == [0.0, 0.0, 0.0, 2.0, 3.0, 3.0]  # what was kept ready carries the first steps

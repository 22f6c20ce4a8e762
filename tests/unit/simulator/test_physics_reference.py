"""The training reference: 72B on 32 to 2,048 devices, MFU and linearity as published (simulated)."""

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.random import Generator, Philox

from simulator.physics.devices import device_kind
from simulator.physics.fabric import Fabric
from simulator.physics.models import model_shape
from simulator.physics.noise import jitter_of, spread_of
from simulator.physics.plan import plan
from simulator.physics.reference import (
    DEVICE,
    ELSEWHERE,
    LAYOUT,
    LINEARITY,
    MFU,
    SCALES,
    SOFTWARE,
    TOLERANCE,
    linearity,
    reference,
)  # fmt: skip
from simulator.physics.software import Software
from simulator.physics.step import Conditions

PLANS = {devices: reference(devices) for devices in SCALES}


def test_mfu_and_linearity_are_as_published() -> None:
    assert {n: PLANS[n].mfu for n in MFU} == pytest.approx(MFU, abs=TOLERANCE)
    assert {n: linearity(PLANS, n) for n in LINEARITY} == pytest.approx(LINEARITY, abs=TOLERANCE)


def test_one_constant_is_free() -> None:
    assert replace(SOFTWARE, kernel_efficiency=Software().kernel_efficiency) == Software()


def test_more_devices_are_less_efficient_for_reasons_that_can_be_named() -> None:
    mfus = [PLANS[n].mfu for n in SCALES]
    assert mfus == sorted(mfus, reverse=True)
    lost = [1 - linearity(PLANS, n) for n in SCALES]
    assert np.diff(lost).min() > 0
    assert lost[-1] - lost[-2] > lost[-2] - lost[-3]  # the batch stays: bubble and gradients weigh twice as much each time
    waits = {name: PLANS[2048].steady.phase(name).mean() / PLANS[2048].step_s for name in ("pp_wait", "step_wait", "dp_comm")}
    assert waits["pp_wait"] + waits["step_wait"] > waits["dp_comm"] > 0.02


def test_it_fits_in_memory_at_every_scale() -> None:
    assert max(one.memory_bytes.max() for one in PLANS.values()) < 0.9 * device_kind(DEVICE).memory_bytes
    assert PLANS[32].memory_bytes.max() > PLANS[2048].memory_bytes.max()  # optimizer states are divided among replicas


def test_the_expectation_is_what_drawn_steps_take() -> None:
    one, taken = PLANS[512], []
    for seed in range(6):
        chance = Generator(Philox(key=seed))
        drawn = Conditions(compute=spread_of(chance, 512, SOFTWARE), jitter=jitter_of(chance, one.passes, SOFTWARE))
        taken.append(one.step(drawn).step_s)
    assert np.mean(taken) == pytest.approx(one.step_s, rel=0.01)


def test_placement_matters_where_switches_do_not_balance() -> None:
    layout = replace(LAYOUT, dp=64)
    slots = Generator(Philox(key=1)).permutation(1024)[: layout.nodes]
    scattered = plan(
        model_shape("qwen2.5-72b"), device_kind(DEVICE), layout, software=SOFTWARE, fabric=Fabric(balanced=0.0), slots=slots,
    )  # fmt: skip
    assert scattered.mfu < reference(2048, fabric=Fabric(balanced=0.0)).mfu - 0.02


def test_runs_published_by_others_come_out_near_without_being_fitted_to() -> None:
    megascale, small, large = ELSEWHERE
    assert megascale.plan(SOFTWARE).mfu == pytest.approx(megascale.mfu, abs=0.03)
    fitted = replace(SOFTWARE, kernel_efficiency=SOFTWARE.kernel_efficiency * small.mfu / small.plan(SOFTWARE).mfu)
    assert small.plan(fitted).mfu == pytest.approx(small.mfu, abs=0.02)
    assert large.plan(fitted).mfu / small.plan(fitted).mfu == pytest.approx(400 / 430, abs=0.03)

"""MFU and linearity of the training reference from the simulator's physics, and what each assumption does to them.

python -m bench.training_reference [--quick]

All figures are simulated. --quick leaves out drawn steps and sensitivities.
"""

import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.random import Generator, Philox

from simulator.physics.devices import device_kind
from simulator.physics.fabric import Fabric
from simulator.physics.noise import jitter_of, spread_of
from simulator.physics.plan import Plan
from simulator.physics.reference import (
    DEVICE,
    ELSEWHERE,
    LAYOUT,
    LINEARITY,
    MFU,
    SCALES,
    SOFTWARE,
    linearity,
    reference,
)
from simulator.physics.step import PHASES, Conditions

DRAWS = 12
SHOWN = {
    "compute": ("forward", "backward"), "tp": ("tp_comm", "tp_wait"), "pipeline": ("pp_wait", "step_wait"),
    "replicas": ("dp_comm",), "stragglers": ("dp_wait",), "rest": ("data", "host", "optimizer"),
}  # fmt: skip
POINTS = (32, 1024, 2048)


def table() -> dict[int, Plan]:
    """Print the reference by scale."""
    plans = {devices: reference(devices) for devices in SCALES}
    print("Training reference (simulated): Qwen2.5-72B's shape, P800-class devices, data parallel grown")
    print(f"{'devices':>8} {'step s':>8} {'MFU':>7} {'linearity':>10} {'published':>16}  of the step:" + "".join(f"{n:>11}" for n in SHOWN))
    for devices, one in plans.items():
        published = " ".join(f"{what} {known[devices]:.0%}" for what, known in (("MFU", MFU), ("lin", LINEARITY)) if devices in known)
        parts = [one.phases[:, [PHASES.index(p) for p in names]].sum(axis=1).mean() / one.step_s for names in SHOWN.values()]
        figures = f"{devices:>8} {one.step_s:>8.2f} {one.mfu:>7.1%} {linearity(plans, devices):>10.1%} {published:>16}"
        print(figures + " " * 14 + "".join(f"{part:>11.2%}" for part in parts))
    return plans


def drawn_conditions(plan: Plan, seed: int) -> Conditions:
    """Devices and passes as chance has them."""
    chance, software = Generator(Philox(key=seed)), plan.job.software
    return Conditions(compute=spread_of(chance, plan.job.layout.world, software), jitter=jitter_of(chance, plan.passes, software))


def drawn(plan: Plan, seed: int) -> float:
    """Mean seconds of steps with drawn devices and passes, to set beside the expectation."""
    return float(np.mean([plan.step(drawn_conditions(plan, seed * 1000 + n)).step_s for n in range(DRAWS)]))


def draws(plans: dict[int, Plan]) -> None:
    """Print the expectation of stragglers beside the mean of drawn steps."""
    print(f"\nThe wait for stragglers: expected by formula, and the mean of {DRAWS} drawn steps (simulated)")
    means = {devices: drawn(plan, devices) for devices, plan in plans.items()}
    base = means[SCALES[0]] * SCALES[0]
    for devices, plan in plans.items():
        mfu, growth = plan.mfu * plan.step_s / means[devices], base / (means[devices] * devices)
        print(f"{devices:>8} {plan.step_s:>9.3f} s {means[devices]:>9.3f} s   MFU {mfu:.1%} linearity {growth:.1%}")


SOFTWARES = (
    "kernel_efficiency", "tp_overlap", "dp_overlap", "spread", "jitter", "network_jitter", "bucket_bytes", "host_s",
)  # fmt: skip
FABRICS = ("network_share", "scale_up_share", "nic_hop_s", "switch_s")
LINKS = ("scale_up_bytes_per_s", "nic_bytes_per_s", "memory_bytes_per_s")
LAYOUTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("global batch 1,536", {"global_batch": 1536}), ("global batch 2,560", {"global_batch": 2560}),
    ("sequence x 0.8", {"sequence": 3277}), ("sequence x 1.2", {"sequence": 4915}), ("one chunk a stage", {"chunks": 1}),
    ("four chunks a stage", {"chunks": 4}), ("16-bit gradients", {"gradient_bytes": 2}),
    ("stages nearer than replicas", {"order": ("tp", "cp", "pp", "dp")}),
)  # fmt: skip
CHOICES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("plain ECMP", {"balanced": 0.0}), ("leaves 2 : 1 oversubscribed", {"leaf_over": 2.0}), ("leaves of 16 nodes", {"leaf_nodes": 16}),
)  # fmt: skip


def changes() -> Iterator[tuple[str, dict[int, Plan]]]:
    """Each quantity assumed, a fifth less and more, and each choice made, otherwise."""
    kind = device_kind(DEVICE)
    for factor in (0.8, 1.2):
        for name in SOFTWARES:
            value = getattr(SOFTWARE, name) * factor
            software = replace(SOFTWARE, **{name: min(value, 1.0) if "overlap" in name else value})
            yield f"{name} x {factor}", {n: reference(n, software=software) for n in POINTS}
        for name in LINKS:
            other = replace(kind, **{name: getattr(kind, name) * factor})
            yield f"{name} x {factor}", {n: reference(n, device=other) for n in POINTS}
        other = replace(kind, peak_flops={"bf16": kind.peak("bf16") * factor})
        yield f"peak_flops x {factor}", {n: reference(n, device=other) for n in POINTS}
        for name in FABRICS:
            value = getattr(Fabric(), name) * factor
            fabric = Fabric(**{name: min(value, 1.0) if "share" in name else value})
            yield f"{name} x {factor}", {n: reference(n, fabric=fabric) for n in POINTS}
    for what, changed in LAYOUTS:
        yield what, {n: reference(n, layout=replace(LAYOUT, **changed)) for n in POINTS}
    for what, changed in CHOICES:
        yield what, {n: reference(n, fabric=Fabric(**changed)) for n in POINTS}
    yield "global batch grows with dp", {n: reference(n, layout=replace(LAYOUT, global_batch=n)) for n in POINTS}


def figures(plans: dict[int, Plan]) -> tuple[float, float, float]:
    """MFU on 2,048, linearity on 1,024 and on 2,048."""
    return plans[2048].mfu, linearity(plans, 1024), linearity(plans, 2048)


def sensitivity(plans: dict[int, Plan]) -> None:
    """Print what each change does to the three figures, in points."""
    usual = figures(plans)
    print("\nSensitivity (simulated), in points: MFU on 2,048, linearity on 1,024, on 2,048")
    print(f"{'as it is':>30} " + "".join(f"{100 * one:>8.2f}" for one in usual))
    rows = {what: [100 * (one - was) for one, was in zip(figures(other), usual, strict=True)] for what, other in changes()}
    for what, row in sorted(rows.items()):
        print(f"{what:>30} " + "".join(f"{one:>+8.2f}" for one in row))


def elsewhere() -> None:
    """Print what the physics says of runs published by others: with the reference's constant, and by ratio."""
    print(f"\nRuns published by others, not fitted to (simulated), kernel_efficiency {SOFTWARE.kernel_efficiency}")
    for run in ELSEWHERE:
        print(f"{run.name:>32}: MFU {run.plan(SOFTWARE).mfu:.1%}, published {run.mfu:.1%}")
    small, large = ELSEWHERE[1:]
    fitted = replace(SOFTWARE, kernel_efficiency=SOFTWARE.kernel_efficiency * small.mfu / small.plan(SOFTWARE).mfu)
    ratio = large.plan(fitted).mfu / small.plan(fitted).mfu
    print(f"{'Llama 3, 16,384 over 8,192':>32}: {ratio:.3f}, published 0.930 (400 over 430 TFLOPs a GPU)")


def speed(plans: dict[int, Plan]) -> None:
    """Print what a step costs to compute, in processor time, at the reference's scale and at eight times that."""
    large = reference(16_384, layout=replace(LAYOUT, global_batch=16_384))
    print("\nProcessor time of one step for every rank, best of 8: played anew, and varied from one like it")
    for plan in (plans[2048], large):
        played, varied, usual = [], [], plan.step()
        for n in range(8):
            conditions = drawn_conditions(plan, n)
            begun = time.process_time()
            plan.step(conditions)
            middle = time.process_time()
            plan.vary(usual, Generator(Philox(key=n)))
            played.append(middle - begun)
            varied.append(time.process_time() - middle)
        print(f"{plan.job.layout.world:>8} ranks: {min(played) * 1e3:.1f} ms, {min(varied) * 1e3:.1f} ms")


def main() -> None:
    plans = table()
    elsewhere()
    speed(plans)
    if "--quick" not in sys.argv[1:]:
        draws(plans)
        sensitivity(plans)


if __name__ == "__main__":
    main()

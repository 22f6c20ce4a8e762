"""Seconds of each phase from the decision to start a job to its first step at full speed, by scale.

Totals are calibrated on ByteRobust (SOSP'25, arXiv:2509.16293): requeueing a whole job takes 454, 545, 635 and 768 s on
2,048, 4,096, 8,192 and 16,384 GPUs, updating its processes in place 46, 51, 54 and 65 s. How a total divides into phases
is not published; group initialisation is, and the rest is split here. tests/unit/simulator/test_physics_startup.py holds
both totals to 10 %.
"""

from math import log2

from simulator.physics.tables import pick

STARTUP = ("schedule", "image_pull", "process_start", "group_init", "checkpoint_load", "warm_up")
"""In the order in which they pass."""

_REFERENCE = 2048


def _doublings(devices: int) -> float:
    """How often the reference has been doubled, negative below it."""
    return log2(max(devices, 1) / _REFERENCE)


def schedule_s(devices: int) -> float:
    """A gang waits for its last pod: creation, binding and admission of as many pods as nodes."""
    return max(5.0, 100.0 + 20.0 * _doublings(devices))


def image_pull_s(devices: int, *, cached: bool = False) -> float:
    """The last node has its image: handed on from node to node, so it grows with the doublings. cached: nothing to pull"""
    return 0.0 if cached else max(60.0, 235.0 + 65.0 * _doublings(devices))


def process_start_s(devices: int) -> float:
    """The last rank has imported its libraries and taken its device: the tail of many."""
    return max(15.0, 38.0 + 2.0 * _doublings(devices))


def group_init_s(devices: int, *, store: str = "ordered") -> float:
    """All process groups stand.

    store: "tcp" is the blocking store with barriers among all, "redis" with another store, "ordered" with barriers only
    where they are needed: 1,047, 361 and 5 s on 2,048 GPUs in MegaScale (NSDI'24, arXiv:2402.15627, section 3.5), which
    says that the first two grow with the square. Above, FT-HSDP (arXiv:2602.00277) reports 17 s on 16,000 GPUs, 30 on
    22,000, 100 on 64,000 and 200 on 98,000: four seconds and 13 that grow with the power 1.5 pass within 20 % of each.
    """
    square = (devices / _REFERENCE) ** 2
    laws = {"tcp": 1047.0 * square, "redis": 361.0 * square, "ordered": 0.0}
    return float(pick(laws, store, "store") + 4.0 + 13.0 * (devices / 16_000) ** 1.5)


def warm_up_s(step_s: float, *, steps: int = 2, slower: float = 1.5) -> float:
    """What the first steps take longer than usual: compilation, allocation, first connections. steps, slower: assumed"""
    return steps * (slower - 1.0) * step_s


def startup_s(
    devices: int, *, load_s: float, step_s: float, restart: bool = False, cached: bool = False, store: str = "ordered"
) -> dict[str, float]:
    """Seconds of each phase of STARTUP.

    load_s: of reading the checkpoint; step_s: of a usual step; restart: processes anew in pods that are there, their
    state in memory; raises PhysicsError: an unknown store
    """
    return {
        "schedule": 0.0 if restart else schedule_s(devices),
        "image_pull": image_pull_s(devices, cached=cached or restart),
        "process_start": process_start_s(devices),
        "group_init": group_init_s(devices, store=store),
        "checkpoint_load": load_s,
        "warm_up": warm_up_s(step_s),
    }

"""How uneven devices, passes and transfers are, and what the slowest of many costs a job in which all wait for it."""

from math import sqrt
from statistics import NormalDist

import numpy as np

from simulator.physics.software import Software

_FARTHEST = 4.0  # standard deviations: what is slower than that is a fault, not noise


def expected_maximum(n: int) -> float:
    """The greatest of n standard normal numbers on average: Blom's approximation of a normal score (Blom, 1958), 1 % off at most.

    It is what makes a synchronous job slower the more ranks it has: 2.1 of 32, 3.4 of 2,048, 4.0 of 16,384.
    """
    return NormalDist().inv_cdf((n - 0.375) / (n + 0.25)) if n > 1 else 0.0


def spread_of(chance: np.random.Generator, ranks: int, software: Software, *, per_node: int = 8) -> np.ndarray:
    """How much longer than usual each rank's device computes, shape (ranks,): lasting, drawn once for a placement.

    Normal about 1; a share of nodes is slower as a whole.
    """
    own = np.clip(chance.standard_normal(ranks), -_FARTHEST, _FARTHEST) * software.spread
    nodes = chance.random(-(-ranks // per_node)) < software.slow_share
    return np.asarray(1.0 + own + np.repeat(nodes, per_node)[:ranks] * (software.slower - 1.0))


def jitter_of(chance: np.random.Generator, shape: tuple[int, ...], software: Software) -> np.ndarray:
    """How much longer than usual each pass over a micro-batch takes this time, of the given shape."""
    return np.asarray(1.0 + np.clip(chance.standard_normal(shape), -_FARTHEST, _FARTHEST) * software.jitter)


def straggle_s(busy_s: float, passes: np.ndarray, *, world: int, lanes: int, software: Software) -> float:
    """Seconds that the slowest add to a step of a healthy job, on average.

    busy_s: what the busiest stage computes in a step; passes: seconds of its passes; world: devices; lanes: pipelines that
    run side by side times their stages. The slowest device holds up its whole pipeline for its share of every pass; the
    jitter of many passes averages out within a pipeline, and the unluckiest pipeline counts. Independent causes add in
    squares. `bench/training_reference.py` shows it beside the mean of drawn steps.
    """
    lasting = software.spread * busy_s * expected_maximum(world)
    passing = software.jitter * float(np.sqrt((passes * passes).sum())) * expected_maximum(lanes)
    return sqrt(lasting**2 + passing**2)


def network_stretch(groups: int, software: Software) -> float:
    """How much longer the slowest of many groups of replicas transfers, as a factor."""
    return 1.0 + software.network_jitter * expected_maximum(groups)

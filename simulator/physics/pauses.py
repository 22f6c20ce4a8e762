"""Seconds by which hosts are late: garbage collection in step or out of step, and data that is not there in time."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Python's garbage collector in the training process.

    every: steps between collections of one rank; pause_s: of one collection; planned: all ranks collect in the same step.
    Out of step, a job of many ranks waits for one of them in almost every step: Lin et al., Understanding Stragglers in
    Large Model Training Using What-if Analysis (OSDI'25, arXiv:2505.05713) name it as a cause and planned collection as
    the cure.
    """

    every: int = 500
    pause_s: float = 0.3
    planned: bool = True

    def expected_s(self, ranks: int) -> float:
        """Seconds that collections add to a step on average: of all ranks at once, or of any of them."""
        share = 1.0 / self.every
        return self.pause_s * (share if self.planned else 1.0 - (1.0 - share) ** ranks)

    def pauses_s(self, step: int, phases: np.ndarray) -> np.ndarray:
        """How long each rank is late in a step, shape (ranks,). phases: where in the cycle each rank is, 0 to every - 1"""
        at = 0 if self.planned else phases
        return np.asarray(np.where((step + at + np.zeros_like(phases)) % self.every == 0, self.pause_s, 0.0))


def phases_of(chance: np.random.Generator, ranks: int, collection: Collection) -> np.ndarray:
    """Where each rank is in its cycle of collections, shape (ranks,): drawn once for an attempt."""
    return chance.integers(0, collection.every, ranks)


@dataclass(frozen=True, kw_only=True)
class Loader:
    """A rank's data loader.

    sample_s: work to read and tokenise one sequence; workers: that share it; prefetch: steps of batches kept ready;
    rank_bytes_per_s: what a rank gets from storage; sample_bytes: of one sequence as stored
    """

    sample_s: float = 0.02
    workers: int = 2
    prefetch: int = 2
    rank_bytes_per_s: float = 50e6
    sample_bytes: float = 32e3

    def batch_s(self, samples: float) -> float:
        """Seconds to make a step's batch of one replica."""
        return samples * max(self.sample_s / self.workers, self.sample_bytes / self.rank_bytes_per_s)

    def late_s(self, samples: float, step_s: float, *, slower: float = 1.0, since_steps: int | None = None) -> float:
        """Seconds a step waits for its batch.

        slower: how much slower than usual storage or host are; since_steps: for how many steps already, None for long.
        What is kept ready carries the first steps; after that a step takes as long as its batch takes to make.
        """
        lag = self.batch_s(samples) * slower - step_s
        if lag <= 0.0:
            return 0.0
        if since_steps is None:
            return lag
        stored = self.prefetch * step_s
        return min(lag, max(0.0, (since_steps + 1) * lag - stored))

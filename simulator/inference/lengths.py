"""How long prompts and outputs are: distributions about a given mean."""

import math
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.random import Generator

Mean = Annotated[float, msgspec.Meta(ge=1, le=10_000_000)]


class Lengths(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens, at least 1.

    mean: of the distribution; shape: "uniform" within mean x (1 +- spread), "lognormal" with a sigma of `spread`, or "fixed"
    """

    mean: Mean
    shape: Literal["fixed", "uniform", "lognormal"] = "uniform"
    spread: Annotated[float, msgspec.Meta(ge=0, le=3)] = 0.1

    def draw(self, chance: Generator, count: int) -> np.ndarray:
        """`count` lengths, int64."""
        if self.shape == "fixed" or self.spread == 0:
            values = np.full(count, self.mean)
        elif self.shape == "uniform":
            half = self.mean * min(self.spread, 1.0)
            values = chance.uniform(self.mean - half, self.mean + half, count)
        else:
            values = self.mean * np.exp(chance.normal(-0.5 * self.spread**2, self.spread, count))
        lengths: np.ndarray = np.maximum(1, np.rint(values)).astype(np.int64)
        return lengths

    def share_below(self, bounds: np.ndarray) -> np.ndarray:
        """Share of lengths that are at most each bound, 0..1."""
        if self.shape == "fixed" or self.spread == 0:
            return np.where(bounds >= round(self.mean), 1.0, 0.0)
        if self.shape == "uniform":
            half = self.mean * min(self.spread, 1.0)
            share: np.ndarray = np.clip((bounds - self.mean + half) / (2 * half), 0.0, 1.0)
            return share
        return lognormal_below(bounds, self.mean, self.spread)


def lognormal_below(bounds: np.ndarray, mean: float, sigma: float) -> np.ndarray:
    """Share of a lognormal distribution of this mean that is at most each bound. sigma: of its logarithm, above 0."""
    middle = math.log(mean) - 0.5 * sigma**2
    scale = sigma * math.sqrt(2.0)
    return np.array([0.5 * (1.0 + math.erf((math.log(b) - middle) / scale)) if b > 0 else 0.0 for b in bounds.tolist()])

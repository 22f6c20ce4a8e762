"""Chance as an argument: numbers of one thing alone, so that adding a target changes no other's."""

import hashlib

import numpy as np
from numpy.random import Generator, Philox

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SCALE = 2.0**-53


def stream(seed: int, *names: object) -> Generator:
    """The numbers of one thing of the simulated cluster. names: which thing, and for what."""
    text = "/".join(map(str, (seed, *names)))
    key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")
    return Generator(Philox(key=key))


def key_of(seed: int, *names: object) -> int:
    """The 64-bit key of one thing, for `normals` and `uniforms`."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def uniforms(keys: np.ndarray, moment: int, channels: int) -> np.ndarray:
    """Numbers in (0, 1) of many things at one moment, shape (len(keys), channels), each of its own key alone.

    keys: uint64; moment: which draw. A counter through SplitMix64's finaliser: one call for a whole cluster, where a
    generator of its own for every thing would cost a thousand times as much.
    Source: Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        counters = (np.arange(channels, dtype=np.uint64) + np.uint64(1 + moment * channels)) * _GOLDEN
        mixed = _finalise(_finalise(keys.astype(np.uint64))[:, None] + counters[None, :])
    return np.asarray(((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * _SCALE)


def normals(keys: np.ndarray, moment: int, channels: int) -> np.ndarray:
    """Standard normal numbers, shape (len(keys), channels); see `uniforms`. By Box and Muller's transform."""
    drawn = uniforms(keys, moment, 2 * channels)
    return np.asarray(np.sqrt(-2.0 * np.log(drawn[:, :channels])) * np.cos(2.0 * np.pi * drawn[:, channels:]))


def _finalise(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))

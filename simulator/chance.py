"""Chance as an argument: a stream of numbers per target, so that adding a target changes no other's numbers."""

import hashlib

from numpy.random import Generator, Philox


def stream(seed: int, *names: object) -> Generator:
    """The numbers of one thing of the simulated cluster. names: which thing, and for what."""
    text = "/".join(map(str, (seed, *names)))
    key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")
    return Generator(Philox(key=key))

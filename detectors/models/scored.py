"""Persistence, once for all models: what stands out long enough is sure, and over when it has not for long enough."""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from holdfast.topology import Target

MOST_STANDING = 65_536


class Out(msgspec.Struct, frozen=True):
    """One target, one signal (or model), one look. compared: with whom; peers: how many others"""

    target: Target
    job: str
    signal: str
    value: float
    middle: float
    z: float
    peers: int
    compared: str


class Standing(msgspec.Struct):
    """What stands out. since, last: first and last look that showed it; odd, even: such looks, and others in a row since."""

    out: Out
    since: float
    last: float
    odd: int = 1
    even: int = 0
    sure: bool = False


@dataclass
class Hold:
    """hold_s: so long it has to stand out, in at least `looks` looks, at most one in a row without; clear_s: so long not, to be over

    forget_s: so long without any reading it is over as well
    """

    hold_s: float
    clear_s: float
    looks: int
    forget_s: float
    standing: dict[tuple[Target, str], Standing] = field(default_factory=dict)

    def look(self, now: float, found: list[Out], is_read: Callable[[Target, str], bool]) -> None:
        """One look. is_read: whether a signal of a target was read since the look before; what was not says neither yes nor no."""
        told = set()
        for out in found:
            key = out.target, out.signal
            told.add(key)
            one = self.standing.get(key)
            if one is None:
                if len(self.standing) < MOST_STANDING:
                    one = self.standing[key] = Standing(out, now, now)
                continue
            one.out, one.last, one.odd, one.even = out, now, one.odd + 1, 0
            one.sure = one.sure or (one.odd >= self.looks and now - one.since >= self.hold_s)
        for key in [key for key in self.standing if key not in told]:
            one = self.standing[key]
            one.even += is_read(*key)
            over = one.even >= 2 and (not one.sure or now - one.last >= self.clear_s)
            if over or now - one.last >= self.forget_s:
                del self.standing[key]

    def sure(self) -> dict[Target, list[Standing]]:
        """What is sure of each target."""
        found: dict[Target, list[Standing]] = {}
        for one in self.standing.values():
            if one.sure:
                found.setdefault(one.out.target, []).append(one)
        return found

    def forget(self, fits: Callable[[Out], bool]) -> None:
        """What concerns these is known no more."""
        for key in [key for key, one in self.standing.items() if fits(one.out)]:
            del self.standing[key]

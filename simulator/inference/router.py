"""Which instance a request goes to: in turn, to the one with the least under way, or to the one that knows its beginning."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from simulator.inference.request import Request

Policy = Literal["round_robin", "least_outstanding", "prefix_aware"]

_MOST_KNOWN = 200_000


class Routed(Protocol):
    """What a router sees of an instance: whether it answers, and what it has under way."""

    dead: bool

    @property
    def outstanding(self) -> int: ...


@dataclass
class Router:
    """Chooses among instances that answer; one that is only stalled answers, as its health page still does.

    weights: relative share of each instance in turn (a fault sets it: all to one is an imbalance); empty, every one the same
    crowded: the prefix-aware policy leaves the instance that knows the prefix when it has so many times the mean under way
    """

    policy: Policy = "least_outstanding"
    weights: tuple[float, ...] = ()
    crowded: float = 1.5
    _credit: list[float] = field(default_factory=list)
    _known: OrderedDict[int, int] = field(default_factory=OrderedDict)

    def pick(self, request: Request, instances: Sequence[Routed]) -> int | None:
        """The place of the instance; None when none answers."""
        alive = [n for n, instance in enumerate(instances) if not instance.dead]
        if not alive:
            return None
        if self.weights or self.policy == "round_robin":
            return self._in_turn(alive, len(instances))
        least = min(alive, key=lambda n: instances[n].outstanding)
        if self.policy == "prefix_aware":
            return self._by_prefix(request, alive, instances, least)
        return least

    def _in_turn(self, alive: list[int], count: int) -> int:
        """Smooth weighted round robin: who has waited longest for its share is next."""
        if len(self._credit) != count:
            self._credit = [0.0] * count
        shares = [self.weights[n] if n < len(self.weights) else 1.0 for n in range(count)]
        for n in alive:
            self._credit[n] += shares[n]
        chosen = max(alive, key=lambda n: (self._credit[n], -n))
        self._credit[chosen] -= sum(shares[n] for n in alive)
        return chosen

    def _by_prefix(self, request: Request, alive: list[int], instances: Sequence[Routed], least: int) -> int:
        pieces = request.pieces
        knower = next((self._known[piece] for piece in reversed(pieces) if piece in self._known), None)
        mean = sum(instances[n].outstanding for n in alive) / len(alive)
        if knower is None or knower not in alive or instances[knower].outstanding > self.crowded * mean + 1:
            knower = least
        for piece in pieces:
            self._known[piece] = knower
            self._known.move_to_end(piece)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return knower

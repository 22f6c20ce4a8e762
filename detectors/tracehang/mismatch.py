"""Collectives that do not fit: ranks of one group that call different operations, types or sizes at one number."""

from collections.abc import Iterator
from dataclasses import dataclass

from detectors.tracehang.case import Case
from detectors.tracehang.ring import Op
from detectors.tracehang.words import numbers
from holdfast.verdict import Json

# Which side of an operation must be alike on all ranks; other operations may differ by rank (root, splits) and only
# their names are compared.
_ALIKE_BOTH = ("all_reduce", "allreduce", "broadcast")
_ALIKE_OUT = ("all_gather", "allgather")
_ALIKE_IN = ("reduce_scatter",)


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """sides: call -> ranks, the largest side first; odd: the ranks of the minority, empty where no side is larger."""

    group: str
    seq: int
    sides: dict[str, list[int]]
    odd: tuple[int, ...]

    def sentence(self, rank: int, case: Case) -> str:
        """What a rank calls, and what its peers call."""
        mine = next(call for call, ranks in self.sides.items() if rank in ranks)
        most, ranks = next(iter(self.sides.items()))
        return (
            f"at #{self.seq} of group {case.describe(self.group)} it calls {mine}, ranks {numbers(ranks)} call {most}"
        )

    def calls(self) -> dict[str, Json]:
        return {call: list[Json](ranks) for call, ranks in self.sides.items()}


def mismatches(case: Case) -> Iterator[Mismatch]:
    """Every collective that is pending on some of its ranks and was entered with different calls, lowest number first."""
    fronts = {(op.group, op.seq) for rank in case.recordings for op in case.waiting(rank) if not op.p2p}
    for group, seq in sorted(fronts, key=lambda front: (front[1], front[0])):
        sides: dict[str, list[int]] = {}
        for rank in case.members.get(group, ()):
            op = case.find(rank, group, seq)
            if op is not None and not op.done:
                sides.setdefault(_call(op), []).append(rank)
        if len(sides) > 1:
            ranked = dict(sorted(sides.items(), key=lambda side: -len(side[1])))
            sizes = [len(ranks) for ranks in ranked.values()]
            odd = [rank for ranks in list(ranked.values())[1:] for rank in ranks] if sizes[0] > sum(sizes[1:]) else []
            yield Mismatch(group=group, seq=seq, sides=ranked, odd=tuple(sorted(odd)))


def _call(op: Op) -> str:
    name = op.name.rsplit(":", 1)[-1].lower()
    put, _, got = op.shape.partition("->")
    if "all_to_all" in name or "alltoall" in name or "coalesced" in name:
        return op.name
    if any(word in name for word in _ALIKE_IN):
        return f"{op.name} {put}"
    if any(word in name for word in _ALIKE_OUT):
        return f"{op.name} {got}"
    return f"{op.name} {op.shape}" if any(word in name for word in _ALIKE_BOTH) else op.name

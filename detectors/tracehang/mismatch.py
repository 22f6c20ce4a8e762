"""Collectives that do not fit: ranks of one group that call different operations, types or sizes at one number."""

from collections.abc import Iterator
from dataclasses import dataclass

from detectors.tracehang.case import Case
from detectors.tracehang.ring import Op
from detectors.tracehang.roles import usual_call
from detectors.tracehang.words import numbers
from holdfast.verdict import Json

# Which side of an operation must be alike on all ranks; other operations may differ by rank (root, splits) and only
# their names are compared.
_ALIKE_BOTH = ("all_reduce", "allreduce", "broadcast")
_ALIKE_OUT = ("all_gather", "allgather")
_ALIKE_IN = ("reduce_scatter",)

# Where more than one and more than this part of a group call something else, the program took two ways; no rank is the odd one.
_ODD_SHARE = 0.13

# How sure it is who is odd: by a clear majority of its own group, or of two by what other groups of the kind call.
_BY_PEERS, _BY_LIKE = 0.9, 0.75


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """sides: call -> ranks, the largest side first; odd: the ranks to blame, empty where no side is the odd one

    usual: what other groups of the kind call there, "" where nothing is known of them; confidence: of the blame
    """

    group: str
    seq: int
    sides: dict[str, list[int]]
    odd: tuple[int, ...]
    confidence: float = _BY_PEERS
    usual: str = ""

    def sentence(self, rank: int, case: Case) -> str:
        """What a rank calls, and what its peers call."""
        mine = next(call for call, ranks in self.sides.items() if rank in ranks)
        others = [f"ranks {numbers(ranks)} call {call}" for call, ranks in self.sides.items() if rank not in ranks]
        like = f"; so do other groups of the kind: {self.usual}" if self.usual else ""
        return f"at #{self.seq} of group {case.describe(self.group)} it calls {mine}, {', '.join(others[:3])}{like}"

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
            yield _judged(case, group, seq, dict(sorted(sides.items(), key=lambda side: -len(side[1]))))


def _judged(case: Case, group: str, seq: int, sides: dict[str, list[int]]) -> Mismatch:
    """Who of them is odd: few outside a clear majority, or of a pair the one that calls what no other group of the kind does."""
    members = case.members.get(group, ())
    called, most = sum(map(len, sides.values())), len(next(iter(sides.values())))
    usual = usual_call(case, group, seq)
    known = call_text(*usual[0]) if usual is not None and call_text(*usual[0]) in sides else ""
    right = known if known and len(sides[known]) == most else next(iter(sides))
    odd = sorted(rank for call, ranks in sides.items() if call != right for rank in ranks)
    clear = most * 2 > called and (len(odd) == 1 or len(odd) <= _ODD_SHARE * len(members))
    if not clear and not (known and len(odd) == 1 and len(members) == called):
        odd = []
    # those of whom nothing is known may be on the smaller side: then the program took two ways
    sure = clear and 2 * (len(members) - most) < len(members)
    return Mismatch(group=group, seq=seq, sides=sides, odd=tuple(odd), confidence=_BY_PEERS if sure else _BY_LIKE, usual=known)


def _call(op: Op) -> str:
    return call_text(op.name, op.shape)


def call_text(operation: str, shape: str) -> str:
    """A call as it must be alike on all ranks."""
    name = operation.rsplit(":", 1)[-1].lower()
    put, _, got = shape.partition("->")
    if "all_to_all" in name or "alltoall" in name or "coalesced" in name:
        return operation
    if any(word in name for word in _ALIKE_IN):
        return f"{operation} {put}"
    if any(word in name for word in _ALIKE_OUT):
        return f"{operation} {got}"
    return f"{operation} {shape}" if any(word in name for word in _ALIKE_BOTH) else operation

"""Ranks that run the same part of the program, and what most of them call where one calls something else.

Copies of one program differ in their data only, so a rank whose calls are not those of its like has gone astray itself. Parts are told
apart by the place in the groups that transfer between them: the stages of a pipeline.
"""

from collections import Counter
from itertools import islice

import msgspec

from detectors.tracehang.case import Case

# So many witnesses are enough.
_MOST_LIKE = 64

Call = tuple[str, str]
Transfer = tuple[bool, int]


class Strayed(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rank's transfers leave those of its like. missing: what they did and it did not, (sends, group-local peer)"""

    group: str
    seq: int
    missing: tuple[Transfer, ...]
    like: int


def usual_call(case: Case, group: str, seq: int) -> tuple[Call, int] | None:
    """What other groups of the same kind, of ranks that run the same part, call at a number, and how many of them do.

    None where nothing is known of them or they are divided too.
    """
    members = case.members.get(group, ())
    calls: Counter[Call] = Counter()
    for other in case.kind_of(group):
        own = case.members[other]
        if other == group or len(own) != len(members) or not own or case.part(own[0]) != case.part(members[0]):
            continue
        heard = Counter((op.name, op.shape) for rank in own if (op := case.find(rank, other, seq)) is not None and op.shape)
        if heard:
            calls[heard.most_common(1)[0][0]] += 1
    ranked = calls.most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0]


def strayed(case: Case, rank: int) -> Strayed | None:
    """Where the transfers of a rank first differ from those of most of its like; None where they do not, or it has no like."""
    for group in case.transfers:
        if rank not in case.members.get(group, ()):
            continue
        mine = _transfers(case, rank, group)
        others = (r for r in case.recordings if r != rank and case.part(r) == case.part(rank))
        owned = ((other, own) for other in others if (own := case.own_of_kind(other, group)) is not None)
        like = [theirs for other, own in islice(owned, _MOST_LIKE) if (theirs := _transfers(case, other, own))]
        for seq in [*sorted(mine), max(mine, default=0) + 1]:
            calls = Counter(theirs[seq] for theirs in like if seq in theirs)
            if not calls:
                continue
            usual, count = calls.most_common(1)[0]
            here = mine.get(seq, frozenset())
            if 2 * count > calls.total() and usual != here and (seq in mine or _is_past(case, rank, group, seq)):
                return Strayed(group=group, seq=seq, missing=tuple(sorted(usual - here)), like=count)
    return None


def _is_past(case: Case, rank: int, group: str, seq: int) -> bool:
    """Whether a rank has called what its like call only after their transfer of that number, which it has not."""
    recording = case.recordings[rank]
    last = next((op for op in reversed(list(recording.ring)) if not op.p2p), None)
    if last is None:
        return False
    said: list[bool] = []
    for other in case.recordings:
        if other == rank or case.part(other) != case.part(rank) or len(said) >= _MOST_LIKE:
            continue
        own, of_last = case.own_of_kind(other, group), case.own_of_kind(other, last.group)
        at = next((order for n, _, _, order in case.recordings[other].ring.transfers_of(own or "") if n == seq), None)
        same = case.find(other, of_last, last.seq) if of_last else None
        if at is not None and same is not None:
            said.append(same.order > at)
    return 2 * sum(said) > len(said)


def _transfers(case: Case, rank: int, group: str) -> dict[int, frozenset[Transfer]]:
    """A rank's transfers in a group by their number: those of one launch share it."""
    recording = case.recordings.get(rank)
    found: dict[int, frozenset[Transfer]] = {}
    for seq, sends, peer, _ in recording.ring.transfers_of(group) if recording else ():
        found[seq] = found.get(seq, frozenset()) | {(sends, peer)}
    return found

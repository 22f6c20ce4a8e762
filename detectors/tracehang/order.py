"""The habit of a rank: a program repeats its operations step by step, and a rank that departs from its own order shows."""

from collections import Counter
from collections.abc import Sequence

from detectors.tracehang.ring import Op

# How much of what came before must look alike, and how often it must have gone on the same way.
_CONTEXT = 12
_LEAST_CONTEXT = 2
_TIMES = 2

Call = tuple[str, str, int, bool]


def call(op: Op) -> Call:
    """What makes two operations the same call of the program: all but its number and its sizes, which may differ by batch."""
    return op.group, op.name, op.peer, op.sends


def followers(before: Sequence[Op]) -> list[Op]:
    """What has come next, by a rank's own history, whenever it stood where it stands now, the most usual first.

    The longest context that occurred at least twice before decides (prediction by longest suffix match); [] where the
    history is too short to say.
    """
    calls = [call(op) for op in before]
    for length in range(min(_CONTEXT, len(calls)), _LEAST_CONTEXT - 1, -1):
        tail = calls[-length:]
        nexts = [n + length for n in range(len(calls) - length) if calls[n : n + length] == tail]
        if len(nexts) >= _TIMES:
            usual = Counter(calls[n] for n in nexts).most_common()
            return [before[max(n for n in nexts if calls[n] == one)] for one, _ in usual]
    return []


def habit(before: Sequence[Op]) -> Op | None:
    """What a rank most usually calls next; None where its history is too short."""
    return next(iter(followers(before)), None)


def departed(ops: Sequence[Op], here: Op) -> Op | None:
    """What a rank should have called instead of `here` by its habit; None if `here` has come there before, or nothing is known."""
    usual = followers([op for op in ops if op.order < here.order])
    return None if call(here) in {call(op) for op in usual} else next(iter(usual), None)

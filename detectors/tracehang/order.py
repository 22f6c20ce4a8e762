"""The habit of a rank: a program repeats its operations step by step, and a rank that departs from its own order shows."""

from collections.abc import Sequence

from detectors.tracehang.flightrecorder import Op

# How much of what came before must look alike, and how often it must have gone on the same way.
_CONTEXT = 12
_LEAST_CONTEXT = 2
_TIMES = 2

Call = tuple[str, str, str, int, bool]


def call(op: Op) -> Call:
    """What makes two operations the same call of the program: all but its number."""
    return op.group, op.name, op.shape, op.peer, op.sends


def habit(before: Sequence[Op]) -> Op | None:
    """What a rank calls next by its own history: an earlier operation that always followed what stands at the end now.

    The longest context that occurred at least twice before decides (a prediction by longest suffix match); None where the
    history is too short, or went on in different ways.
    """
    calls = [call(op) for op in before]
    for length in range(min(_CONTEXT, len(calls)), _LEAST_CONTEXT - 1, -1):
        tail = calls[-length:]
        nexts = [n + length for n in range(len(calls) - length) if calls[n : n + length] == tail]
        followed = {calls[n] for n in nexts}
        if len(nexts) >= _TIMES:
            return before[nexts[-1]] if len(followed) == 1 else None
    return None


def departed(ops: Sequence[Op], here: Op) -> Op | None:
    """What a rank should have called instead of `here` by its habit; None if `here` is what it always does, or unknown."""
    before = [op for op in ops if op.order < here.order]
    usual = habit(before)
    return usual if usual is not None and call(usual) != call(here) else None

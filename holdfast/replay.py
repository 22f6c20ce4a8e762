"""Decide a journal again: to get a service's state back after a crash, or to prove that it decides the same."""

from typing import NamedTuple

from holdfast.journal import Journal
from holdfast.pipeline import Pipeline
from holdfast.wire import canonical


class Difference(NamedTuple):
    """The first place where a replay and its journal part. wrote, says: canonical lines, "" where one has none."""

    step: int
    at: float
    wrote: str
    says: str


class Replayed(NamedTuple):
    """How a replay went. at: the time of the last step, 0.0 if there was none."""

    steps: int
    at: float
    difference: Difference | None


def replay(journal: Journal, pipeline: Pipeline, *, from_first: bool = False) -> Replayed:
    """Restore the newest snapshot (or the oldest kept) and decide every later step again, stopping for nothing."""
    start, memory = journal.last_snapshot(first=from_first)
    pipeline.restore(memory)
    count, at, difference = 0, 0.0, None
    for written in journal.steps(after=start):
        says = [canonical(event) for event in pipeline.decide(written.at, written.inputs)]
        difference = difference or _compare(written.step, written.at, written.said, says)
        count, at = count + 1, written.at
    return Replayed(count, at, difference)


def _compare(step: int, at: float, wrote: list[str], says: list[str]) -> Difference | None:
    for n in range(max(len(wrote), len(says))):
        one, other = wrote[n] if n < len(wrote) else "", says[n] if n < len(says) else ""
        if one != other:
            return Difference(step, at, one, other)
    return None

"""Dumps that were not taken at one moment: what a rank's says cannot be true while its peers' is."""

from collections.abc import Mapping

from detectors.tracehang.case import Case
from detectors.tracehang.waits import synchronises


def outdated(case: Case) -> Mapping[int, str]:
    """Ranks whose dump is older than others' -> what shows it.

    A synchronising collective ends on no rank before all have entered it: a dump in which a rank has not entered what a peer's dump
    calls complete was taken before that, in the job's healthy life. Groups with transfers are left out, their numbers are mixed; so
    are dumps without records, which say nothing of what went before.
    """
    found: dict[int, str] = {}
    for group, members in case.members.items():
        if group in case.transfers or len(members) < 2:
            continue
        reached = {rank: case.reached(rank, group) for rank in members if rank in case.recordings}
        finished, witness = max(((done, rank) for rank, (_, done) in reached.items()), default=(-1, -1))
        op = case.find(witness, group, finished) if finished >= 0 else None
        if op is None or not synchronises(op.name):
            continue
        for rank, (entered, _) in reached.items():
            if 0 <= entered < finished:
                text = f"its dump is older than others: rank {witness} has completed {op.name} #{finished} of group {case.describe(group)}"
                found.setdefault(rank, f"{text}, which needs this rank, and by it its last there is #{entered}")
    return found

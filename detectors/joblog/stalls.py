"""Who held up a job that ended in timeouts: who waits is a victim, who had nothing to wait for, or was behind, is the suspect."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from detectors.joblog.marks import Mark
from holdfast.faults import HangCause

MOST_NAMED = 64

_QUEUED = re.compile(
    r"last enqueued(?: NCCL)? work: (-?\d{1,12}).{0,80}?last completed(?: NCCL)? work: (-?\d{1,12})", re.IGNORECASE
)
_GROUP = re.compile(r"\[PG (?:ID \d{1,6} )?(?:PG )?(?:GUID )?([\w.-]{1,64})(?:\s?\([\w.-]{0,64}\))? Rank")
_AT_WORK = re.compile(r"(?:at work sequence id|at work|at NCCL work): (\d{1,12})")
_WORK = re.compile(r"SeqNum=(\d{1,12}), OpType=(\w{1,32})")
_SOME = r"\[?(\d{1,6}(?:, ?\d{1,6}){0,63})"
_FIRST = re.compile(r"retrieving ncclUniqueId from \[(\d{1,6})\]")
_ABSENT = re.compile(rf"[Rr]anks?:? {_SOME}\]? failed to pass|[Mm]issing [Rr]anks?:? ?{_SOME}")


class Suspects(msgspec.Struct):
    """Ranks that held others up, and why: a word of HangCause. sure: said by others, or by numbers of their own."""

    ranks: list[int] = []
    cause: str = HangCause.HOST_STUCK.value
    sure: bool = False


class _Told(msgspec.Struct):
    """What one rank said of one group. -2: not told."""

    enqueued: int = -2
    completed: int = -2
    work: int = -2
    op: str = ""


def suspects(live: Sequence[Mark], waiting: Iterable[int]) -> Suspects:
    """Compare what the ranks say of the same group. waiting: ranks that timed out themselves.

    Equal numbers of enqueued and completed work mean that the rank was outside a collective when all was over; those
    that are behind have not come to what their peers wait in. Numbers of different groups say nothing of each other.
    """
    absent = _absent(live)
    if absent:
        return Suspects(absent[:MOST_NAMED], HangCause.HOST_STUCK.value, sure=True)
    waited = set(waiting)
    for told in _groups(live).values():
        found = _of_group(told, waited)
        if found is not None and 2 * len(found.ranks) <= max(len(told), 2):
            return found
    return Suspects()


def _absent(live: Sequence[Mark]) -> list[int]:
    """Ranks that others say did not come: by name, or as the one from which at least two waited for the first word."""
    marks = [mark for mark in live if mark.meaning.id == "collective.absent"]
    named = [said for mark in marks if (said := _ABSENT.search(mark.text))]
    ranks = {int(rank) for said in named for rank in re.split(r", ?", said.group(1) or said.group(2))}
    waited = {(int(said.group(1)), mark.rank, mark.file) for mark in marks if (said := _FIRST.search(mark.text))}
    return sorted(ranks | {rank for rank, many in Counter(rank for rank, _, _ in waited).items() if many >= 2})


def _groups(live: Sequence[Mark]) -> dict[str, dict[int, _Told]]:
    """Group -> rank -> what it said of it, the largest group first."""
    found: dict[str, dict[int, _Told]] = {}
    of_work: dict[tuple[int, int], str] = {}  # rank and number of its work -> group: the line of the timeout names none
    told_groups = set()
    for mark in live:
        at, named = _AT_WORK.search(mark.text), _GROUP.search(mark.text)
        if mark.rank >= 0 and named:
            told_groups.add(mark.rank)
            if at:
                of_work[mark.rank, int(at.group(1))] = named.group(1)
    for mark in live:
        queued, work, named = _QUEUED.search(mark.text), _WORK.search(mark.text), _GROUP.search(mark.text)
        if mark.rank < 0 or not (queued or work):
            continue
        group = named.group(1) if named else of_work.get((mark.rank, int(work.group(1)))) if work else None
        if group is None and mark.rank in told_groups:
            continue
        told = found.setdefault(group or "", {}).setdefault(mark.rank, _Told())
        if queued and told.enqueued == -2:
            told.enqueued, told.completed = int(queued.group(1)), int(queued.group(2))
        if work and told.work == -2:
            told.work, told.op = int(work.group(1)), work.group(2)
    return dict(sorted(found.items(), key=lambda one: -len(one[1])))


def _of_group(told: Mapping[int, _Told], waited: set[int]) -> Suspects | None:
    counted = {rank: one for rank, one in told.items() if one.enqueued > -2}
    idle = sorted(rank for rank, one in counted.items() if one.enqueued == one.completed and rank not in waited)
    if idle:
        return Suspects(idle[:MOST_NAMED], HangCause.HOST_STUCK.value, sure=True)
    worked = {rank: one for rank, one in told.items() if one.work > -2}
    ops = Counter(one.op for one in worked.values() if one.work == max(other.work for other in worked.values()))
    if len(worked) >= 3 and len(ops) > 1:
        usual = ops.most_common(1)[0][0]
        odd = sorted(rank for rank, one in worked.items() if one.op != usual)
        return Suspects(odd[:MOST_NAMED], HangCause.MISMATCH.value)
    for numbers in ({r: o.work for r, o in worked.items()}, {r: o.enqueued for r, o in counted.items()}):
        behind = sorted(rank for rank, number in numbers.items() if number < max(numbers.values()))
        if len(numbers) >= 3 and behind and 2 * len(behind) < len(numbers):
            return Suspects(behind[:MOST_NAMED], HangCause.HOST_STUCK.value)
    return None

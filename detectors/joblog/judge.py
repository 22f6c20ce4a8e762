"""Tells root, victim, cascade and tear-down apart, and says what ended a job and who is to blame."""

from collections.abc import Mapping, Sequence

import msgspec

from detectors.joblog.blame import blamed, culprit, device_in
from detectors.joblog.clocks import aligned, filled, last_step_at, year_of
from detectors.joblog.errorfile import Failure
from detectors.joblog.marks import Mark, Step
from detectors.joblog.places import Places
from detectors.joblog.stalls import suspects
from holdfast.faults import Action, Fault, Judgement, Symptom
from holdfast.topology import Kind
from holdfast.verdict import Culprit

# A machine's word explains what follows it; it may have been written long before the job noticed.
MACHINE_DEPTH = 80
_SPECIFIC_DEPTH = 40
_AFTER_S, _BEFORE_S = 120.0, 3600.0
MEMORY_S = 172_800.0  # an uncorrectable error of the last two days explains a device that is out of memory now
_TOGETHER_S = 60.0
_PASSED_S = 1.0
_GOES_ON = 10  # lines after which an output did not end where it failed
_OUTSIDE = frozenset({"slurm.cancelled", "signal.interrupt", "signal.hangup", "signal.terminated"})
_DEVICE_FAULTS = frozenset({Fault.GPU_MEM, Fault.GPU_HW, Fault.NVLINK})


class Judged(msgspec.Struct, kw_only=True):
    """What ended the job. domain: a word of the contract; cascade: how many lines only followed; rank: -1 unknown."""

    judgement: Judgement
    symptom: Symptom = Symptom.NONE
    fault: Fault = Fault.NONE
    domain: str = "unknown"
    action: Action = Action.NONE
    root: Mark | None = None
    cascade: int = 0
    confidence: float = 0.0
    culprits: tuple[Culprit, ...] = ()
    missing: list[str] = []
    suspects: list[str] = []
    others: list[Mark] = []
    rank: int = -1


class Case(msgspec.Struct, kw_only=True):
    """What is known beside the marks.

    steps: file -> its last step lines, so that what the job survived is not its end; ended: files that say it is done
    failures: the launcher's own list; nodes: how many were heard; places: where ranks sit
    ahead: file -> seconds by which its clock is ahead; history: what nodes had told before this job's attempt
    lengths: file -> number of its last line
    """

    steps: Mapping[str, Sequence[Step]] = {}
    ended: Mapping[str, int] = {}
    failures: Sequence[Failure] = ()
    nodes: int = 0
    places: Places = msgspec.field(default_factory=Places)
    ahead: Mapping[str, float] = {}
    history: Sequence[Mark] = ()
    lengths: Mapping[str, int] = {}


def judge(marks: Sequence[Mark], case: Case) -> Judged:
    """Judge the marks of one job."""
    year = year_of(marks, case.steps)
    passed_at = last_step_at(case.steps, case.ahead, year)
    dated = aligned(marks, case.ahead, year)
    live = _timely(filled([mark for mark in dated if not _survived(mark, case, passed_at)]))
    roots = [mark for mark in live if mark.meaning.role == "root"]
    victims = [mark for mark in live if mark.meaning.role == "victim"]
    cascade = sum(mark.count for mark in live if mark.meaning.role in ("cascade", "teardown", "victim"))
    strong = [mark for mark in roots if not mark.meaning.weak and mark.meaning.depth >= _SPECIFIC_DEPTH]
    sudden = [m for m in roots if m.meaning.cause == "killed" and victims and _comes_before(m, victims)]
    if case.ended and not victims and all(mark.meaning.depth >= MACHINE_DEPTH or mark.meaning.weak for mark in roots):
        return Judged(judgement=Judgement.HEALTHY, cascade=cascade)  # it was done all the same
    if strong:
        # a rank that was stopped from outside says so before anybody suffers from it
        stopped = [m for m in roots if m.meaning.id in _OUTSIDE and _comes_before(m, [o for o in strong if o is not m])]
        told = _of_root(_first([*strong, *stopped], case, stopped), strong, cascade, case)
        hung = victims and all(_of_kernel(mark) for mark in strong)  # no rank has said anything but that it waits
        return msgspec.structs.replace(told, symptom=Symptom.HANG) if hung else told
    if victims and not sudden:
        return _of_preparation(victims, live, cascade) or _of_hang(victims, live, cascade)
    generic = [mark for mark in roots if not mark.meaning.weak]
    if generic:
        return _of_root(_first(generic, case), generic, cascade, case)
    failed = _of_failures(case.failures, cascade)
    if failed is not None and not any(mark.meaning.weak for mark in roots):
        return failed
    if roots:
        return _of_root(_first(roots, case), roots, cascade, case)
    if cascade:
        return _of_cascade([mark for mark in live if mark.meaning.role == "cascade"], cascade)
    return Judged(judgement=Judgement.HEALTHY)


def _survived(mark: Mark, case: Case, passed_at: float) -> bool:
    """Whether the job went on: to its end, or three steps more, in its output or by the clock.

    Of a machine only the kernel's word can be: what ranks say of their devices they do not go on from.
    """
    if mark.meaning.depth >= MACHINE_DEPTH:
        return _of_kernel(mark) and 0.0 < mark.at < passed_at - _PASSED_S
    if case.ended.get(mark.file, 0) > mark.last_line and mark.meaning.role == "root":
        return True
    last = case.steps.get(mark.file, ())
    if len(last) >= 3:
        return last[-3].line > mark.last_line
    went_on = case.lengths.get(mark.file, 0) >= mark.last_line + _GOES_ON
    return went_on and mark.count == 1 and 0.0 < mark.at < passed_at - _PASSED_S


def _timely(live: list[Mark]) -> list[Mark]:
    """Without what kernels said long before the job suffered, or long after, unless it explains how the job began."""
    shown = min((mark.at for mark in live if mark.at and not _of_kernel(mark)), default=0.0)
    own = [mark for mark in live if not _of_kernel(mark)]
    return [
        mark
        for mark in live
        if not _of_kernel(mark) or not mark.at or not shown or shown - _BEFORE_S <= mark.at <= shown + _AFTER_S or _remembered(mark, own)
    ]


def _of_kernel(mark: Mark) -> bool:
    return mark.meaning.depth >= MACHINE_DEPTH and mark.meaning.id.startswith("kernel.")


def _first(roots: Sequence[Mark], case: Case, stopped: Sequence[Mark] = ()) -> Mark:
    """The root that explains the others: a machine's word in time, then who came first, then who lies deepest."""
    timed = [mark.at for mark in roots if mark.at]
    start = min(timed, default=0.0)
    candidates = [*roots, *(mark for mark in case.history if _remembered(mark, roots))]
    outside = {id(mark) for mark in stopped}

    machine_at = min((m.at for m in candidates if m.meaning.depth >= MACHINE_DEPTH and m.at), default=0.0)

    def key(mark: Mark) -> tuple[int, float, int, float, int, str]:
        depth = mark.meaning.depth
        at = float(int(mark.at)) if mark.at else start
        if id(mark) in outside:
            return (1, at, -depth, at, mark.line, mark.file)
        if mark.meaning.domain == "scheduler":
            tier = 2 if _earlier_than_all(mark, roots) else 4
        elif depth >= MACHINE_DEPTH:
            late = 1.0 if mark.at and machine_at and mark.at > machine_at + _TOGETHER_S else 0.0
            return (0, late, -depth, at, mark.line, mark.file)
        else:
            tier = 3 if depth >= _SPECIFIC_DEPTH else 6
        return (tier, at, -depth, at, mark.line, mark.file)

    return min(candidates, key=key)


def _comes_before(mark: Mark, others: Sequence[Mark]) -> bool:
    """Whether a mark is told before each of the others: in the same output, or by the clock."""
    return all(
        (mark.file == other.file and mark.line < other.line)
        or (mark.file != other.file and mark.at and other.at and mark.at < other.at)
        for other in others
    )


def _earlier_than_all(mark: Mark, roots: Sequence[Mark]) -> bool:
    """Whether nothing but the scheduler's words is told before a mark."""
    for other in roots:
        if other is mark or other.meaning.domain == "scheduler":
            continue
        if mark.at and other.at and int(other.at) < int(mark.at):
            return False
        if other.file == mark.file and other.line < mark.line:
            return False
    return True


def _remembered(mark: Mark, roots: Sequence[Mark]) -> bool:
    """Whether a device's error explains that a device of its node is out of memory at the start of a job."""
    if mark.meaning.fault not in _DEVICE_FAULTS or mark.meaning.depth < MACHINE_DEPTH:
        return False
    out = [m for m in roots if m.meaning.blame == "memory" and m.early]
    alike = [m for m in out if not m.node or not mark.node or m.node == mark.node]
    return len(alike) == len(out) > 0 and all(
        not m.at or not mark.at or -_AFTER_S <= m.at - mark.at <= MEMORY_S for m in alike
    )


def _of_root(root: Mark, roots: Sequence[Mark], cascade: int, case: Case) -> Judged:
    meaning = root.meaning
    others = [mark for mark in roots if mark is not root]
    culprits, missing = blamed(root, roots, case.failures, nodes=case.nodes, places=case.places)
    judgement = Judgement.CULPRIT if culprits else Judgement.NOBODY
    if not culprits and meaning.blame not in ("", "memory"):
        judgement = Judgement.UNDECIDED
    confidence = 0.9 if meaning.depth >= MACHINE_DEPTH else 0.8
    if meaning.ambiguous:
        confidence = 0.5
        missing = [*missing, "kernel log of the node (XID, oom-killer)"]
        if not culprits or meaning.id != "cuda.launch_failure":
            judgement, culprits = Judgement.UNDECIDED, ()
    elif meaning.fault is Fault.UNKNOWN:
        judgement, culprits = Judgement.UNDECIDED, ()
        missing = [*missing, "rank logs that show what was first"]
    return Judged(
        judgement=judgement, symptom=meaning.symptom, fault=meaning.fault, domain=meaning.domain, action=meaning.action, root=root,
        cascade=cascade + sum(mark.count for mark in others), confidence=confidence, culprits=culprits, missing=missing, others=others,
        rank=_rank(root, others, case),
    )  # fmt: skip


def _rank(root: Mark, others: Sequence[Mark], case: Case) -> int:
    """The rank a root is about: its own, else who sits on the device, else who says the same of its device on that node."""
    if root.rank >= 0 or root.meaning.depth < MACHINE_DEPTH:
        return root.rank
    device = device_in(root.text)
    rank = case.places.rank_at(root.node, device) if device else -1
    beside = [m for m in others if m.rank >= 0 and m.node == root.node and m.meaning.domain == root.meaning.domain]
    return rank if rank >= 0 else (beside[0].rank if beside else -1)


def _of_preparation(victims: Sequence[Mark], live: Sequence[Mark], cascade: int) -> Judged | None:
    """Timeouts before the first step, while the data was still being prepared: longer than the others were told to wait."""
    preparing = [mark for mark in live if mark.meaning.cause == "data_preparation" and "100%" not in mark.text]
    if not preparing or not all(mark.early for mark in victims):
        return None
    root = max(preparing, key=lambda mark: (mark.at, mark.line))
    return Judged(
        judgement=Judgement.NOBODY, symptom=Symptom.HANG, fault=root.meaning.fault, domain=root.meaning.domain, action=root.meaning.action,
        root=root, cascade=cascade, confidence=0.6, others=[*victims[:5]],
    )  # fmt: skip


def _of_hang(victims: Sequence[Mark], live: Sequence[Mark], cascade: int) -> Judged:
    """Only timeouts: they name no cause, and at most who did not come."""
    root = min(victims, key=lambda mark: (mark.at or float("inf"), -mark.meaning.depth, mark.file, mark.line))
    found = suspects(live, (mark.rank for mark in victims if mark.meaning.id == "nccl.timeout"))
    culprits = tuple(culprit(Kind.RANK, str(rank), root, 0.7 if found.sure else 0.6, cause=found.cause) for rank in found.ranks)
    missing = ["flight recorder dumps of all ranks", "stacks of all ranks", "logs of the ranks that did not time out"]
    return Judged(
        judgement=Judgement.CULPRIT if culprits else Judgement.UNDECIDED, symptom=Symptom.HANG, fault=Fault.UNKNOWN,
        domain="software" if culprits else "unknown", action=Action.RESTART, root=root, cascade=cascade, confidence=0.6, culprits=culprits,
        missing=[] if culprits else missing, suspects=[str(rank) for rank in found.ranks],
    )  # fmt: skip


def _of_failures(failures: Sequence[Failure], cascade: int) -> Judged | None:
    """The launcher's list alone: how a worker went, not why."""
    if not failures:
        return None
    return Judged(
        judgement=Judgement.UNDECIDED, symptom=Symptom.CRASH, fault=Fault.UNKNOWN, action=Action.RESTART, cascade=cascade,
        confidence=0.4, missing=["the output of the rank that failed first", "kernel log of its node"],
    )  # fmt: skip


def _of_cascade(marks: Sequence[Mark], cascade: int) -> Judged:
    """Every line follows from another's end: whose end is not in these files."""
    if not marks:  # tear-down only
        return Judged(
            judgement=Judgement.UNDECIDED, cascade=cascade, missing=["what was said before the job was ended"]
        )
    root = min(marks, key=lambda mark: (mark.at or float("inf"), -mark.meaning.depth, mark.line))
    return Judged(
        judgement=Judgement.UNDECIDED, symptom=Symptom.CRASH, fault=Fault.UNKNOWN, domain="unknown", action=Action.RESTART, root=root,
        cascade=cascade, confidence=0.3, missing=["the output of the rank that ended first", "kernel logs of the nodes"],
    )  # fmt: skip

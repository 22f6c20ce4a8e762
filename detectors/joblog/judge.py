"""Tells root, victim, cascade and tear-down apart, and says what ended a job and who is to blame."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from detectors.joblog.errorfile import Failure
from detectors.joblog.marks import Mark, Step
from holdfast.faults import Action, Fault, Judgement, Symptom
from holdfast.topology import Kind
from holdfast.verdict import Culprit

# A machine's word explains what follows it; it may have been written long before the job noticed.
_MACHINE_DEPTH = 80
_SPECIFIC_DEPTH = 40
_AFTER_S = 120.0
_BEFORE_S = 3600.0
_MEMORY_S = 172_800.0  # an uncorrectable error of the last two days explains a device that is out of memory now
_PCI = re.compile(r"\b((?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)\b")
_PEER = re.compile(r"(?:peer|remotePeer|from|remote) \[?([\w.-]{1,128}?)(?:<\d{1,5}>|:\d{1,5}|\])")
_QUEUED = re.compile(
    r"last enqueued(?: NCCL)? work: (-?\d{1,12}).{0,80}?last completed(?: NCCL)? work: (-?\d{1,12})", re.IGNORECASE
)


class Judged(msgspec.Struct, kw_only=True):
    """What ended the job. domain: a word of the contract; cascade: how many lines only followed."""

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


def judge(
    marks: Sequence[Mark], *, steps: Mapping[str, Sequence[Step]], failures: Sequence[Failure] = (), nodes: int = 0
) -> Judged:
    """Judge the marks of one job.

    steps: file -> numbers of its last step lines, so that what the job survived is not its end
    failures: the launcher's own list; nodes: how many nodes were heard
    """
    live = [mark for mark in marks if not _survived(mark, steps)]
    roots = [mark for mark in live if mark.meaning.role == "root"]
    victims = [mark for mark in live if mark.meaning.role == "victim"]
    cascade = sum(mark.count for mark in live if mark.meaning.role in ("cascade", "teardown", "victim"))
    strong = [mark for mark in roots if not mark.meaning.weak and mark.meaning.depth >= _SPECIFIC_DEPTH]
    if strong:
        return _of_root(_first(strong, live), strong, cascade, failures, nodes)
    if victims:
        return _of_hang(victims, live, cascade)
    generic = [mark for mark in roots if not mark.meaning.weak]
    if generic:
        return _of_root(_first(generic, live), generic, cascade, failures, nodes)
    failed = _of_failures(failures, cascade)
    if failed is not None and not any(mark.meaning.weak for mark in roots):
        return failed
    if roots:
        return _of_root(_first(roots, live), roots, cascade, failures, nodes)
    if cascade:
        return _of_cascade([mark for mark in live if mark.meaning.role == "cascade"], cascade)
    return Judged(judgement=Judgement.HEALTHY)


def _survived(mark: Mark, steps: Mapping[str, Sequence[Step]]) -> bool:
    """Whether the same output went on stepping: at least three steps after the line. A machine's word is kept."""
    last = steps.get(mark.file, ())
    return mark.meaning.depth < _MACHINE_DEPTH and len(last) >= 3 and last[-3].line > mark.last_line


def _first(roots: Sequence[Mark], live: Sequence[Mark]) -> Mark:
    timed = [mark.at for mark in roots if mark.at]
    start = min(timed, default=0.0)
    shown = min((mark.at for mark in live if mark.at and mark.meaning.depth < _MACHINE_DEPTH), default=start)

    def key(mark: Mark) -> tuple[int, float, int, int, str]:
        depth = mark.meaning.depth
        in_time = not mark.at or not shown or shown - _BEFORE_S <= mark.at <= shown + _AFTER_S
        if mark.meaning.domain == "scheduler":
            tier = 2 if _earlier_than_all(mark, roots) else 4
        elif depth >= _MACHINE_DEPTH:
            tier = 0 if in_time or _remembered(mark, roots) else 5
        else:
            tier = 3 if depth >= _SPECIFIC_DEPTH else 6
        at = float(int(mark.at)) if mark.at else start
        return (tier, 0.0 if tier == 0 else at, -depth, mark.line, mark.file)

    return min(roots, key=key)


def _earlier_than_all(mark: Mark, roots: Sequence[Mark]) -> bool:
    for other in roots:
        if other is mark or other.meaning.domain == "scheduler":
            continue
        if mark.at and other.at and other.at < mark.at:
            return False
        if other.file == mark.file and other.line < mark.line:
            return False
    return True


def _remembered(mark: Mark, roots: Sequence[Mark]) -> bool:
    out = [m for m in roots if m.meaning.id == "cuda.oom"]
    return mark.meaning.fault is Fault.GPU_MEM and any(
        m.at and mark.at and 0 <= m.at - mark.at <= _MEMORY_S and (not m.node or not mark.node or m.node == mark.node)
        for m in out
    )


def _of_root(root: Mark, roots: Sequence[Mark], cascade: int, failures: Sequence[Failure], nodes: int) -> Judged:
    meaning = root.meaning
    others = [mark for mark in roots if mark is not root]
    culprits, missing = _blamed(root, roots, failures, nodes)
    judgement = Judgement.CULPRIT if culprits else (Judgement.UNDECIDED if meaning.blame else Judgement.NOBODY)
    confidence = 0.9 if meaning.depth >= _MACHINE_DEPTH else 0.8
    fault = meaning.fault
    if meaning.ambiguous:
        confidence = 0.5
        missing = [*missing, "kernel log of the node (XID, oom-killer)"]
        if not culprits or meaning.id != "cuda.launch_failure":
            judgement, culprits = Judgement.UNDECIDED, ()
    elif fault is Fault.UNKNOWN:
        judgement, culprits = Judgement.UNDECIDED, ()
        missing = [*missing, "rank logs that show what was first"]
    return Judged(
        judgement=judgement, symptom=meaning.symptom, fault=fault, domain=meaning.domain, action=meaning.action, root=root,
        cascade=cascade + sum(mark.count for mark in others), confidence=confidence, culprits=culprits, missing=missing, others=others,
    )  # fmt: skip


def _blamed(
    root: Mark, roots: Sequence[Mark], failures: Sequence[Failure], nodes: int
) -> tuple[tuple[Culprit, ...], list[str]]:
    """Who is to blame for a root, and what would be needed to name them."""
    meaning = root.meaning
    if meaning.domain == "storage" and nodes >= 2 and root.node:
        alike = {mark.node for mark in roots if mark.meaning.domain == "storage"}
        return ((_culprit(Kind.NODE, root.node, root, 0.7),), []) if alike == {root.node} else ((), [])
    if meaning.blame == "peer":
        return _blamed_peer([mark for mark in roots if mark.meaning.id == meaning.id])
    if not meaning.blame:
        return (), []
    first = next((failure for failure in failures if failure.first), None)
    rank = root.rank if root.rank >= 0 else (first.rank if first else -1)
    confidence = 0.9 if not meaning.ambiguous else 0.5
    if meaning.blame == "rank" and rank >= 0:
        alike_ranks = [
            m
            for m in roots
            if m.meaning.id == meaning.id and m.rank >= 0 and m.rank != rank and abs(m.at - root.at) <= 1
        ]
        named = [rank, *dict.fromkeys(m.rank for m in alike_ranks)][:16]
        return tuple(_culprit(Kind.RANK, str(r), root, confidence if len(named) == 1 else 0.6) for r in named), []
    node = root.node or (first.host if first and meaning.blame == "rank" else "")
    if node:
        return (_culprit(Kind.NODE, node, root, confidence),), []
    device = _PCI.search(root.text) if root.meaning.id.startswith("kernel.xid") else None
    if device:
        return (_culprit(Kind.DEVICE, device.group(1), root, confidence),), []
    return (), ["which rank or node wrote the line (file names or prefixes that say so)"]


def _blamed_peer(seen: Sequence[Mark]) -> tuple[tuple[Culprit, ...], list[str]]:
    """A link has two ends: who is named by several, or names several, is the end that is broken."""
    pairs = {(_observer(mark), match.group(1), mark.file) for mark in seen if (match := _PEER.search(mark.text))}
    named = Counter(peer for _, peer in {(who, peer) for who, peer, _ in pairs})
    namers = Counter(who for who, _ in {(who, peer) for who, peer, _ in pairs})
    for counts in (named, namers):
        if counts and (top := counts.most_common(2))[0][1] >= 2 and (len(top) == 1 or top[1][1] < top[0][1]):
            mark = seen[0]
            kind = Kind.RANK if counts is namers and top[0][0].isdigit() else Kind.NODE
            return (_culprit(kind, top[0][0], mark, 0.75),), []
    return (), ["port counters of both ends of the link", "logs of the other nodes"]


def _observer(mark: Mark) -> str:
    return mark.node or (str(mark.rank) if mark.rank >= 0 else mark.file)


def _culprit(kind: Kind, name: str, mark: Mark, confidence: float) -> Culprit:
    cause = mark.meaning.cause or mark.meaning.id
    return Culprit(
        kind=kind,
        id=name,
        cause=cause,
        confidence=confidence,
        evidence=(f"{mark.file}:{mark.line}: {mark.text[:300]}",),
    )


def _of_hang(victims: Sequence[Mark], live: Sequence[Mark], cascade: int) -> Judged:
    """Only timeouts: who waited is a victim; who had nothing to wait for, or was behind, is the suspect.

    A rank whose enqueued and completed numbers are equal was outside the collective (interop: counter rule).
    """
    root = min(victims, key=lambda mark: (mark.at or float("inf"), -mark.meaning.depth, mark.file, mark.line))
    queued: dict[int, tuple[int, int]] = {}
    for mark in live:
        match = _QUEUED.search(mark.text)
        if match and mark.rank >= 0:
            queued.setdefault(mark.rank, (int(match.group(1)), int(match.group(2))))
    waiting = {mark.rank for mark in victims if mark.meaning.id == "nccl.timeout"}
    idle = sorted(
        rank for rank, (enqueued, completed) in queued.items() if enqueued == completed and rank not in waiting
    )
    furthest = max((enqueued for enqueued, _ in queued.values()), default=0)
    behind = sorted(rank for rank, (enqueued, _) in queued.items() if enqueued < furthest and rank not in idle)
    if len(queued) > len(behind) * 2 and not idle:
        idle = behind
    culprits = (
        tuple(_culprit(Kind.RANK, str(rank), root, 0.7) for rank in idle[:64])
        if len(idle) * 2 <= max(len(queued), 2)
        else ()
    )
    culprits = tuple(msgspec.structs.replace(culprit, cause="host_stuck") for culprit in culprits)
    missing = (
        []
        if culprits
        else ["flight recorder dumps of all ranks", "stacks of all ranks", "logs of the ranks that did not time out"]
    )
    return Judged(
        judgement=Judgement.CULPRIT if culprits else Judgement.UNDECIDED, symptom=Symptom.HANG, fault=Fault.UNKNOWN,
        domain="software" if culprits else "unknown", action=Action.RESTART, root=root, cascade=cascade, confidence=0.6, culprits=culprits,
        missing=missing, suspects=[str(rank) for rank in idle],
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

"""The verdict of a hang: rules in the order in which they are tried, the first that can speak does."""

from collections.abc import Callable, Mapping, Sequence

from detectors.tracehang import words
from detectors.tracehang.absent import excuse
from detectors.tracehang.answer import Finding, verdict_of, without
from detectors.tracehang.blame import MISSED, MISSING, Blame, host_blames
from detectors.tracehang.case import Case
from detectors.tracehang.devices import odd_ones
from detectors.tracehang.facts import Process
from detectors.tracehang.mismatch import mismatches
from detectors.tracehang.moments import outdated
from detectors.tracehang.order import departed, habit
from detectors.tracehang.ras import behind
from detectors.tracehang.roles import strayed
from detectors.tracehang.waits import Graph, Why, build, cycles, sinks
from holdfast.faults import Action, Fault, HangCause, Judgement, Symptom
from holdfast.verdict import Json, Verdict

_HOST_ACTION = {
    HangCause.DEVICE_STUCK: Action.REPLACE,
    HangCause.MISMATCH: Action.STOP,
}
# What tells a device that has stalled from those that wait for it.
_BESIDE = ("device utilisation and power of each rank", "XIDs and link errors of the nodes", "NCCL RAS")

# Where no more of the dumps than this are older than the rest they are put aside; else nothing fits together.
_MOST_OLD_SHARE = 0.25

# What a peer's own error, or a launcher, never sends; within this time of the first they count as its equals.
_FROM_OUTSIDE = frozenset({4, 7, 8, 9, 11})
_AT_ONCE_S = 1.0


def judge(case: Case) -> Verdict:
    """Say who holds up the job, or that nobody does, or what is missing to say so."""
    old = outdated(case)
    if old and len(old) <= _MOST_OLD_SHARE * len(case.recordings):
        case = case.without(old)
    graph = build(case)
    excuse(case, graph)
    found = _many_moments(old) if set(old) & set(case.recordings) else None
    found = found or next(answer for rule in RULES if (answer := rule(case, graph)) is not None)
    if old:
        found.extra = found.extra | {"outdated": {str(rank): text for rank, text in sorted(old.items())}}
    return verdict_of(case, graph, found)


def _many_moments(old: Mapping[int, str]) -> Finding:
    rank, text = min(old.items())
    why = f"the dumps are of different moments, and do not fit together: rank {rank}, {text}"
    return Finding(judgement=Judgement.UNDECIDED, fault=Fault.UNKNOWN, missing=["dumps of all ranks, taken at one moment"], why=why)


# --- the rules


def _process_facts(case: Case, graph: Graph) -> Finding | None:
    """The kernel's word is the shortest road: who is stopped, or gone with an error, holds up the rest."""
    stopped = [r for r, p in case.processes.items() if p.state in ("T", "t")]
    ended = {} if stopped else _ended(case)
    if not stopped and not ended:
        return None
    blames = [Blame(r, HangCause.STOPPED, 0.97, [words.process(case, r)]) for r in sorted(stopped)]
    blames += [Blame(r, HangCause.EXITED, 0.95, [words.process(case, r)]) for r in sorted(ended)]
    return _culprits(case, blames, why="a process that is stopped or gone enters no collective")


def _ended(case: Case) -> dict[int, Process]:
    """Processes that ended of themselves: once the first is gone its peers fail too, or are told to go by the launcher."""
    ended = {r: p for r, p in case.processes.items() if p.state == "X" and (p.signal or p.exit_code)}
    if not ended:  # a zombie's end is not told yet, only that it has come
        return {r: p for r, p in case.processes.items() if p.state == "Z"}
    first = min((p.since for p in ended.values()), default=0.0)
    early = {r: p for r, p in ended.items() if p.since - first <= _AT_ONCE_S}
    return {r: p for r, p in early.items() if p.signal in _FROM_OUTSIDE} or {
        r: p for r, p in early.items() if p.since == first
    }


def _mismatch(case: Case, graph: Graph) -> Finding | None:
    """Ranks that entered one collective with different operations or sizes wait for ever."""
    found = list(mismatches(case))
    if not found:
        return None
    clear = [one for one in found if one.odd]
    first = (clear or found)[0]
    extra: dict[str, Json] = {"mismatch": {"group": first.group, "seq": first.seq, "calls": first.calls()}}
    if not clear:
        # halves that took different branches, as in a ring of waits: the order of the program, not one call that is wrong
        why = f"the ranks of group {case.describe(first.group)} call different operations at #{first.seq}, no side is the odd one"
        return Finding(judgement=Judgement.NOBODY, fault=Fault.SOFTWARE, action=Action.RESTART, why=why, extra=extra)
    blames: dict[int, Blame] = {}
    for one in clear:
        for rank in one.odd:
            blames.setdefault(rank, Blame(rank, HangCause.MISMATCH, one.confidence, [one.sentence(rank, case)]))
    return _culprits(case, list(blames.values()), why="its call does not fit that of its peers", extra=extra)


def _host(case: Case, graph: Graph) -> Finding | None:
    """Host stuck: the walk ends at ranks that wait for nobody and never entered what their peers wait in."""
    blames = [b for b in host_blames(case, graph, _ends(graph)) if b.cause is not HangCause.NO_DUMP]
    if not blames:
        return None
    if not case.recordings and len(blames) * 2 > len(case.expected) > 2:
        missing = ["flight recorder dumps: most ranks are in no communication, so the stacks alone name nobody"]
        return Finding(judgement=Judgement.UNDECIDED, missing=missing, why="more ranks work than wait")
    return _culprits(case, [*blames, *_absent_blames(case, graph)], why="the others wait for what it has not entered")


def _absent(case: Case, graph: Graph) -> Finding | None:
    """Nobody of whom anything is known holds up the rest: it is one of whom nothing is."""
    blames = _absent_blames(case, graph)
    silent = [blame for blame in blames if not case.stands(blame.rank) and blame.rank not in case.partial]
    if silent:
        return _culprits(case, silent, why="the others wait for it, and it has left no dump")
    if not blames:
        return None
    ranks = words.numbers(blame.rank for blame in blames)
    why = f"the others wait for ranks {ranks}, whose dumps are missing or broken, and nothing shows that they are not victims too"
    missing = [f"whole dumps of ranks {ranks}", *_BESIDE]
    return Finding(judgement=Judgement.UNDECIDED, fault=Fault.UNKNOWN, missing=missing, why=why)


def _absent_blames(case: Case, graph: Graph) -> list[Blame]:
    return [b for b in host_blames(case, graph, _ends(graph)) if b.cause is HangCause.NO_DUMP]


def _ends(graph: Graph) -> list[int]:
    return sinks(graph, graph.waiters)


def _ring(case: Case, graph: Graph) -> Finding | None:
    """Ranks that wait for each other: who has left its own habit has skipped something; else the program's order is wrong."""
    rings = cycles(graph)
    if not rings:
        return None
    blames = [blame for ring in rings for blame in _skippers(case, graph, ring)]
    if blames:
        return _culprits(case, blames, why="it went past an operation that its peers wait in")
    unknown = [rank for ring in rings for rank in ring if rank not in case.recordings and rank not in case.stacks]
    if unknown:
        text = "its peers wait for each other and for it, and none of those whose dumps are there has left its order"
        if len(unknown) == 1:
            return _culprits(case, [Blame(unknown[0], HangCause.NO_DUMP, 0.5, [text])], why="one of a ring of waits has left no dump")
        missing = [f"dumps of ranks {words.numbers(unknown)}", *_BESIDE]
        why = "ranks without a dump are in a ring of waits"
        return Finding(judgement=Judgement.UNDECIDED, fault=Fault.UNKNOWN, missing=missing, why=why)
    ranks: list[Json] = [list[Json](ring) for ring in rings]
    why = f"ranks {words.numbers(rings[0])} wait for each other: the order of their operations does not fit, no machine is to blame"
    return Finding(
        judgement=Judgement.NOBODY, fault=Fault.SOFTWARE, action=Action.RESTART, why=why, extra={"rings": ranks}
    )


def _device(case: Case, graph: Graph) -> Finding | None:
    """Device stuck: a peer has completed a synchronising operation that this rank still has pending."""
    if not graph.ahead:
        return None
    blames = []
    for rank, op in sorted(graph.ahead.items()):
        members = case.members.get(op.group, ())
        done = [m for m in members if case.is_done(m, op.group, op.seq)]
        sure = 0.85 if 2 * (len(members) - len(done)) <= len(members) else 0.5
        text = f"{op.name} #{op.seq} of group {case.describe(op.group)} is pending here and complete on ranks {words.numbers(done)}"
        blames.append(Blame(rank, HangCause.DEVICE_STUCK, sure, [text], group=op.group, seq=op.seq, op=op.name))
    return _culprits(case, blames, why="every rank had entered the operation, and this one's device did not finish it")


def _odd_device(case: Case, graph: Graph) -> Finding | None:
    """All wait, and all devices spin but some: what those were given first they did not finish, or their kernel has not begun."""
    waiting = {rank: one for rank, one in case.devices.items() if case.pending(rank) is not None or rank not in case.recordings}
    blames = []
    for rank, text in sorted(odd_ones(waiting).items()):
        op = case.pending(rank)
        lines = [f"{op.name} #{op.seq} of group {case.describe(op.group)} is enqueued here"] if op else []
        blames.append(Blame(rank, HangCause.DEVICE_STUCK, 0.75, [*lines, text, *words.stack_lines(case, rank)]))
    return _culprits(case, blames, why="every device spins in its operation but this one") if blames else None


def _not_started(case: Case, graph: Graph) -> Finding | None:
    """Equal dumps with the recorder's timing on: a rank whose kernel has not begun where its peers' have is held up before it."""
    blames = []
    for ops in _fronts(case).values():
        waiting = [r for r, started in ops.items() if not started]
        if waiting and 2 * len(waiting) <= len(ops) and len(waiting) < len(ops):
            op = case.pending(waiting[0])
            text = f"its kernel of {op.name} #{op.seq} has not begun, its peers' have" if op else ""
            blames += [Blame(r, HangCause.DEVICE_STUCK, 0.7, [text]) for r in waiting]
    return _culprits(case, blames, why="its device stands before the operation") if blames else None


def _ras(case: Case, graph: Graph) -> Finding | None:
    """NCCL's own counts: a rank that has launched fewer collectives of a communicator than its peers, and is in none itself."""
    blames = [
        Blame(rank, HangCause.NO_DUMP if not answers else HangCause.HOST_STUCK, 0.8, [text])
        for rank, text, answers in behind(case.communicators)
        if case.pending(rank) is None
    ]
    return _culprits(case, blames, why="NCCL counts fewer launches for it than for its peers") if blames else None


def _odd_stacks(case: Case, graph: Graph) -> Finding | None:
    """Stacks alone, all in some communication: an odd one stands in another call than the rest."""
    if case.recordings or len(case.stacks) < 3:
        return None
    places: dict[str, list[int]] = {}
    for rank, stack in case.stacks.items():
        places.setdefault(f"{stack.doing.value} at {words.own_frame(stack)}", []).append(rank)
    if len(places) < 2 or not all(stack.waits for stack in case.stacks.values()):
        return None
    extra: dict[str, Json] = {"places": {place: list[Json](sorted(ranks)) for place, ranks in places.items()}}
    most = max(places.values(), key=len)
    odd = sorted(r for ranks in places.values() if ranks is not most for r in ranks)
    if 4 * len(odd) > len(case.stacks):
        why = (
            "the ranks stand in different communication calls: the program's order does not fit, no machine is to blame"
        )
        return Finding(judgement=Judgement.NOBODY, fault=Fault.SOFTWARE, action=Action.RESTART, why=why, extra=extra)
    blames = [Blame(r, HangCause.MISMATCH, 0.6, [words.stack(case, r)]) for r in odd]
    return _culprits(case, blames, why="it stands in another call than all its peers", extra=extra)


def _nobody_waits(case: Case, graph: Graph) -> Finding | None:
    """Nothing is pending anywhere."""
    if any(case.pending(r) is not None for r in case.recordings) or any(s.waits for s in case.stacks.values()):
        return None
    if case.recordings and len(case.recordings) == len(case.expected):
        return Finding(judgement=Judgement.HEALTHY, symptom=Symptom.NONE, why="no operation is pending on any rank")
    missing = [] if case.recordings else ["flight recorder dumps"]
    missing += [] if case.stacks else ["stacks of all ranks"]
    missing += [f"dumps of ranks {words.numbers(without(case))}"] if case.recordings and without(case) else []
    return Finding(judgement=Judgement.UNDECIDED, missing=missing, why="no rank is seen to wait for another")


def _all_equal(case: Case, graph: Graph) -> Finding:
    """Every rank has entered the same operation and none has completed it."""
    missing = ["stacks of all ranks"] if not case.stacks else []
    missing += ["flight recorder dumps of all ranks"] if without(case) else []
    missing += _BESIDE
    why = "all ranks stand in the same operation: a device or link has stalled before or in it, the dumps alone cannot say whose"
    return Finding(judgement=Judgement.UNDECIDED, fault=Fault.UNKNOWN, missing=missing, why=why)


Rule = Callable[[Case, Graph], Finding | None]
RULES: tuple[Rule, ...] = (
    _process_facts, _mismatch, _host, _ring, _device, _odd_device, _not_started, _absent, _ras, _odd_stacks, _nobody_waits, _all_equal,
)  # fmt: skip


# --- what they share


def _culprits(case: Case, blames: Sequence[Blame], *, why: str, extra: dict[str, Json] | None = None) -> Finding:
    first = max(blames, key=lambda blame: blame.confidence)
    fault = words.fault_of(case, first.rank, first.cause)
    action = _HOST_ACTION.get(first.cause, Action.RESTART)
    ranked = sorted(blames, key=lambda blame: (-blame.confidence, blame.rank))
    return Finding(judgement=Judgement.CULPRIT, blames=ranked, fault=fault, action=action, why=why, extra=extra or {})


def _skippers(case: Case, graph: Graph, ring: Sequence[int]) -> list[Blame]:
    skipped: dict[int, Blame] = {}
    for rank in ring:
        cause, text = _skipped(case, graph, rank)
        if text:
            wanted = next((e for e in graph.into(rank) if e.why in _NOT_COME), None)
            blame = Blame(rank, cause, 0.85, [text, *words.stack_lines(case, rank)])
            if wanted is not None:
                blame.group, blame.seq, blame.op = wanted.group, wanted.seq, wanted.op
            skipped[rank] = blame
    return list(skipped.values()) if 2 * len(skipped) <= len(ring) else []


_NOT_COME = (Why.NOT_ENQUEUED, Why.NO_RECV, Why.NO_SEND)


def _skipped(case: Case, graph: Graph, rank: int) -> tuple[HangCause, str]:
    """Why a rank of a ring is to blame, and a sentence on the operation that it has gone past; "" if it has not."""
    wanted = [edge for edge in graph.into(rank) if edge.why in _NOT_COME]
    recording = case.recordings.get(rank)
    if not wanted or recording is None:
        return HangCause.HOST_STUCK, ""
    gone = strayed(case, rank) if case.transfers else None
    waited = next((edge.why for edge in wanted if edge.why in MISSING), None)
    if gone is not None and (gone.missing or waited is not None):
        return MISSING[waited] if waited else MISSED[gone.missing[0][0]], words.strayed(case, gone)
    here = case.pending(rank)
    if here is not None:
        usual = departed(list(recording.ring), here)
        said = f"it is in {here.name} #{here.seq} of group {case.describe(here.group)}"
    else:
        # its stack waits in a transfer that the recorder does not hold: it has gone past what its peers wait in
        usual = habit(list(recording.ring)) or next((case.find(e.waiter, e.group, e.seq) for e in wanted), None)
        said = words.stack(case, rank)
    if usual is None or not any(edge.group == usual.group for edge in wanted):
        return HangCause.HOST_STUCK, ""
    cause = MISSED[usual.sends] if usual.p2p else HangCause.HOST_STUCK
    group = case.describe(usual.group)
    return cause, f"{said}, where by its own order {usual.name} in group {group} comes next: it has skipped it"


def _fronts(case: Case) -> dict[tuple[str, int], dict[int, bool]]:
    """Group and number of each pending collective -> rank -> whether its kernel has begun."""
    fronts: dict[tuple[str, int], dict[int, bool]] = {}
    for rank in case.recordings:
        op = case.pending(rank)
        if op is not None and not op.p2p:
            fronts.setdefault((op.group, op.seq), {})[rank] = op.started
    return fronts

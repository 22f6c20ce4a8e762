"""Findings -> incidents: opens, moves and ends them by the table of `lifecycle`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from holdfast.events import Finding, Order, Outcome, Request, Tick, Transition
from holdfast.faults import Action, Fault, Judgement, Perception, Severity, Symptom, Verb
from holdfast.incident import ENDED, Incident, State, Trigger
from holdfast.verdict import Verdict
from remedier.belongs import busy_beside, key_in, moved_away
from remedier.correlate import place
from remedier.history import History
from remedier.lifecycle import advance
from remedier.record import Record, targets_of, verdict_of

_OPENS = frozenset({Severity.FATAL, Severity.ERROR})
_STEPS_PROVE = frozenset({Symptom.HANG, Symptom.CRASH, Symptom.LOSS, Symptom.SLOW})
_UNSETTLED = frozenset({State.OPEN, State.DIAGNOSING})

# Findings that are news of a job rather than claims (detectors/processes.py says them).
PROGRESS, FINISHED = "job.progress", "job.finished"


# What a person may say of an incident, instead of naming a verb.
_WORDS = {"approve": Trigger.APPROVED, "reject": Trigger.REJECTED, "close": Trigger.CLOSED}
MOST_REQUESTS = 4096


class _Memory(msgspec.Struct):
    records: dict[str, Record]
    history: History
    opened: int
    now: float
    requests: list[str]


@dataclass(kw_only=True)
class Book:
    """Keeps the incidents.

    grace_s: how long a claim waits for others that explain it before anything is decided
    evidence_s: how long a claim waits at most for the evidence it has asked for; a backend that gives it up says so sooner
    verify_s: how long after a repair the job may take to pass the step where it broke
    approval_s: how long an order waits for a person's word
    watch_s: how long something that is only watched may take to heal
    """

    grace_s: float = 2.0
    evidence_s: float = 80.0
    verify_s: float = 900.0
    watch_s: float = 600.0
    approval_s: float = 3600.0
    _records: dict[str, Record] = field(default_factory=dict, init=False)
    _history: History = field(default_factory=History, init=False)
    _opened: int = field(default=0, init=False)
    _now: float = field(default=0.0, init=False)
    _requests: dict[str, None] = field(default_factory=dict, init=False)

    def on_finding(self, finding: Finding) -> Iterator[Transition]:
        """Open an incident, join one, or move one."""
        if finding.check in (PROGRESS, FINISHED):
            yield from self._on_news(finding)
            return
        record = self._records.get(key_in(self._records, finding))
        if finding.cleared:
            if record is not None:
                yield from self._clear(record, finding)
        elif record is None:
            if finding.severity in _OPENS:
                yield self._open(finding)
        elif record.state in _UNSETTLED:
            yield self._join(record, finding)
        elif record.state is State.VERIFYING:
            if self._is_new(record, finding) and not moved_away(record.incident, finding):
                yield self._recur(record, finding)
        elif finding.severity in _OPENS:
            yield from self._meanwhile(record, finding)

    def on_request(self, request: Request) -> Iterator[Transition | Outcome]:
        """Do what a person asks, once for each request; what cannot be is an outcome with the reason."""
        if request.id in self._requests:
            return
        self._requests[request.id] = None
        while len(self._requests) > MOST_REQUESTS:
            del self._requests[next(iter(self._requests))]
        if request.verb in _WORDS:
            yield self._hear(request)
        elif request.verb in set(Verb):
            yield self._ask(request)

    def on_order(self, order: Order) -> Iterator[Transition]:
        """Note that an incident has an order now."""
        record = self._by_id(order.incident)
        if record is None or order.id in record.incident.orders:
            return
        was = record.incident
        if order.verb is Verb.COLLECT:
            record.asked = True
            yield self._move(record, Trigger.ASKED, orders=(*was.orders, order.id))
            return
        verdict = msgspec.structs.replace(was.verdict, action=order.verb.value)  # what is recommended is what is done
        yield self._move(
            record, Trigger.DECIDED, orders=(*was.orders, order.id), verb=order.verb, tries=was.tries + 1,
            decided_at=order.at, verdict=verdict, note=order.reason,
        )  # fmt: skip

    def on_outcome(self, outcome: Outcome) -> Iterator[Transition]:
        """Move an incident by what became of its order; a late outcome changes nothing."""
        incident, verb, _ = (*outcome.order.rsplit("/", 2), "", "")[:3]  # an agent may say what it likes
        record = self._by_id(incident)
        if record is None:
            return
        if verb == Verb.COLLECT:
            # the evidence itself comes as an observation and is judged: that finding settles it
            wait_s = 2 * self.grace_s if outcome.done else 0.0
            left_s = record.settle_at - self._now if record.settle_in_s is None else record.settle_in_s
            record.settle_in_s = min(wait_s, left_s)
        elif outcome.done:
            yield self._acted(record, verb, outcome)
            yield from self._heard_meanwhile(record)
        else:
            for finding in record.later.values():
                record.join(finding)
            record.later.clear()
            trigger = Trigger.HELD if outcome.held else Trigger.REFUSED if outcome.refused else Trigger.FAILED
            if outcome.held:
                record.due_at = self._now + self.approval_s
            yield self._move(record, trigger, note=outcome.note)

    def on_tick(self, tick: Tick) -> Iterator[Transition]:
        """Decide what is due."""
        self._now = tick.at
        for record in list(self._records.values()):
            if record.settle_in_s is not None:
                # counted from here: what an agent sent late, out of its spool, is given the same time as fresh news
                record.settle_at, record.settle_in_s = tick.at + record.settle_in_s, None
            if record.state in _UNSETTLED and record.settle_at <= tick.at:
                yield self._diagnose(record)
            elif record.state is State.AWAITING_APPROVAL and record.due_at <= tick.at:
                yield self._move(record, Trigger.EXPIRED, note=f"nobody has approved it in {self.approval_s:.0f} s")
            elif record.state is State.VERIFYING and record.due_at <= tick.at:
                if busy_beside(self._records, record.incident.job, record) is not None:
                    continue  # the job is repaired for another fault: no step can be expected now
                # what was only watched and said no more is over; a repaired job that does not step is not repaired
                trigger = Trigger.EXPIRED if record.incident.verb else Trigger.CLEARED
                yield self._move(
                    record, trigger, note="no step in time" if record.incident.verb else "no more was heard of it"
                )

    # --- what people say

    def _hear(self, request: Request) -> Transition | Outcome:
        record, trigger = self._by_id(request.incident), _WORDS[request.verb]
        if record is None:
            return _refused(request, self._now, f"no live incident {request.incident!r}")
        if advance(record.state, trigger) is record.state:
            return _refused(request, self._now, f"incident {request.incident} is {record.state}: nothing to {request.verb}")
        return self._move(record, trigger, note=_said_by(request))

    def _ask(self, request: Request) -> Transition | Outcome:
        at = f"job {request.job}" if request.job else place(request.targets[0]) if request.targets else ""
        record = self._by_id(request.incident) if request.incident else self._records.get(at)
        if record is None and (request.incident or not at):
            return _refused(request, self._now, f"no live incident {request.incident!r}" if request.incident else "neither job nor target")
        busy = busy_beside(self._records, request.job or (record.incident.job if record else ""))
        for one in (record, busy):
            if one is not None and one.state is State.RECOVERING:
                return _refused(request, self._now, f"incident {one.incident.id}: {one.incident.verb} is under way")
        if record is None:
            record = self._open_for(request, at)
        detail = {"request": request.id, "asked": request.verb, "actor": request.actor}
        targets = request.targets or record.incident.targets
        return self._move(record, Trigger.REQUESTED, note=_said_by(request), detail=detail, targets=targets)

    def _open_for(self, request: Request, at: str) -> Record:
        self._opened += 1
        verdict = Verdict(verdict=Judgement.UNDECIDED, action=Action(request.verb) if request.verb in set(Action) else Action.NONE)
        incident = Incident(
            id=f"i{self._opened}", at=self._now, job=request.job, perception=None, check="request", verdict=verdict,
        )  # fmt: skip
        record = self._records[at] = Record(key=at, incident=incident)
        return record

    # --- the moves

    def _open(self, finding: Finding) -> Transition:
        self._opened += 1
        incident = Incident(
            id=f"i{self._opened}", at=finding.at, job=finding.job, perception=finding.perception,
            check=finding.check, verdict=verdict_of((finding,)),
        )  # fmt: skip
        record = Record(key=key_in(self._records, finding), incident=incident)
        self._records[record.key] = record
        return self._join(record, finding)

    def _join(self, record: Record, finding: Finding) -> Transition:
        record.join(finding)
        best = record.best()
        undecided = best.judgement is Judgement.UNDECIDED
        wants = () if record.asked else best.wants
        answered = record.asked and not finding.wants and finding.perception is best.perception
        wait_s = 0.0 if answered else self.evidence_s if undecided and (wants or record.asked) else self.grace_s
        record.settle_in_s = wait_s
        return self._move(record, Trigger.CLAIMED, wants=wants, **_known(record, finding))

    def _recur(self, record: Record, finding: Finding) -> Transition:
        # another fault than the one that was repaired begins at the foot of the ladder
        another = finding.judgement is Judgement.CULPRIT and finding.fault not in (Fault.UNKNOWN, record.incident.verdict.fault)
        tries = 0 if another else record.incident.tries
        if record.incident.verb is not None:  # what was only watched stands still, and may explain what comes
            record.findings.clear()
        record.asked = False
        record.join(finding)
        record.settle_in_s = self.evidence_s if finding.wants else self.grace_s
        return self._move(record, Trigger.RECURRED, wants=finding.wants, tries=tries, **_known(record, finding))

    def _meanwhile(self, record: Record, finding: Finding) -> Iterator[Transition]:
        """What comes while an order is under way, or a person is waited for, opens nothing and is not lost."""
        if record.state is State.RECOVERING:
            # processes say much on their way out; a fault of a machine is there still when the order is done
            if finding.perception is Perception.NODE_FAULT and not moved_away(record.incident, finding):
                record.keep(finding)
        else:
            record.join(finding)
            yield self._move(record, Trigger.CLAIMED, **_known(record, finding))

    def _heard_meanwhile(self, record: Record) -> Iterator[Transition]:
        found = [finding for finding in record.later.values() if not moved_away(record.incident, finding)]
        record.later.clear()
        for finding in found:
            if record.state is State.VERIFYING:
                yield self._recur(record, finding)
            elif record.state in _UNSETTLED:
                yield self._join(record, finding)

    def _clear(self, record: Record, finding: Finding) -> Iterator[Transition]:
        repaired = record.state is State.VERIFYING and record.incident.verb is not None
        steps = bool(record.incident.job) and record.incident.verdict.symptom in _STEPS_PROVE
        if record.clear(finding) and not (repaired and steps):  # a job's repair is proved by a step, not by silence
            if repaired:
                self._history.mended(record.incident.job)
            yield self._move(
                record, Trigger.CLEARED, note=finding.evidence[0].text if finding.evidence else "it went away"
            )

    def _diagnose(self, record: Record) -> Transition:
        best = record.best()
        repeated, times = self._history.note(record.incident.job, best, record.findings.values())
        detail = {"cause": best.cause, "repeated": repeated, "times": times}
        return self._move(record, Trigger.DIAGNOSED, diagnosed_at=self._now, detail=detail)

    def _acted(self, record: Record, verb: str, outcome: Outcome) -> Transition:
        watched = verb == "watch"
        record.due_at = self._now + (self.watch_s if watched else self.verify_s)
        trigger = Trigger.WATCHED if watched else Trigger.STOPPED if verb == Verb.STOP else Trigger.DONE
        note = outcome.note or record.incident.note
        return self._move(record, trigger, note=note, acted_at=None if watched else outcome.at)

    def _on_news(self, news: Finding) -> Iterator[Transition]:
        self._history.progress(news.job, news.detail)
        for record in [r for r in self._records.values() if r.incident.job == news.job]:
            if news.check == FINISHED:
                yield self._move(record, Trigger.CLOSED, note="the job finished")
            elif record.state is State.NEEDS_HUMAN and news.at > (record.incident.ended_at or self._now):
                yield self._move(record, Trigger.CLEARED, note="the job was started again and steps")
            elif news.detail.get("new_ground") and news.at > (record.incident.acted_at or record.incident.at):
                yield self._move(
                    record, Trigger.STEPPED, note=f"stepped past where it broke: step {news.detail.get('step')}"
                )

    def _move(self, record: Record, trigger: Trigger, **known: Any) -> Transition:
        before = record.state
        state = advance(before, trigger)
        known.setdefault("wants", ())
        ended_at = self._now if state in ENDED and before is not state else record.incident.ended_at
        record.incident = msgspec.structs.replace(record.incident, state=state, ended_at=ended_at, **known)
        record.moves += 1
        if state is State.RESOLVED:
            del self._records[record.key]
        id = f"{record.incident.id}/{record.moves}"
        return Transition(at=self._now, id=id, incident=record.incident, before=before, trigger=trigger)

    def _by_id(self, id: str) -> Record | None:
        return next((record for record in self._records.values() if record.incident.id == id), None)

    @staticmethod
    def _is_new(record: Record, finding: Finding) -> bool:
        """What the old processes still said on their way out is no recurrence."""
        return finding.severity in _OPENS and finding.at > (record.incident.acted_at or record.incident.at)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(_Memory(self._records, self._history, self._opened, self._now, list(self._requests)))

    def restore(self, memory: bytes) -> None:
        kept = msgspec.msgpack.decode(memory, type=_Memory)
        self._records, self._history, self._opened, self._now = kept.records, kept.history, kept.opened, kept.now
        self._requests = dict.fromkeys(kept.requests)


def _said_by(request: Request) -> str:
    return f"{request.actor} says {request.verb}" + (f": {request.reason}" if request.reason else "")


def _refused(request: Request, at: float, note: str) -> Outcome:
    return Outcome(at=at, order=f"{request.id}/{request.verb}/0", done=False, refused=True, note=note)


def _known(record: Record, finding: Finding) -> dict[str, Any]:
    best = record.best()
    return {
        "verdict": verdict_of(record.findings.values()),
        "perception": best.perception,
        "check": best.check,
        "targets": targets_of(best),
        "findings": (*record.incident.findings, finding.id)[-64:],
    }

"""Transitions -> orders: first evidence, then a verb of the ladder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from holdfast.events import Order, Outcome, Transition
from holdfast.faults import Action, Verb
from holdfast.incident import Incident, State, Trigger
from holdfast.topology import JobId
from remedier.playbook import Playbook

LADDER = (Verb.RESTART, Verb.REPLACE, Verb.RESUBMIT)

_DECIDES = frozenset({Trigger.DIAGNOSED, Trigger.FAILED, Trigger.EXPIRED, Trigger.APPROVED, Trigger.REQUESTED})


@dataclass(kw_only=True)
class Ladder:
    """Orders what the playbook says, and the next verb up each time the last did not help.

    ladder: the verbs this backend has, the gentlest first; a verb may stand there twice to be tried twice
    grace_s: how long processes may take to end by themselves before they are killed
    """

    playbook: Playbook = field(default_factory=Playbook.read)
    ladder: Sequence[Verb] = LADDER
    grace_s: float = 5.0
    evidence_s: float = 20.0

    def on_transition(self, moved: Transition) -> Iterator[Order | Outcome]:
        """Ask for evidence when an incident wants some; give an order, or say why not, when it is to recover."""
        incident = moved.incident
        if incident.wants and moved.trigger in (Trigger.CLAIMED, Trigger.RECURRED):
            arguments = {"what": ",".join(incident.wants)}
            yield self._order(moved, Verb.COLLECT, "evidence before anything is done", arguments, self.evidence_s)
        elif incident.state is State.RECOVERING and moved.trigger in _DECIDES:
            yield self._decide(moved)

    def _decide(self, moved: Transition) -> Order | Outcome:
        incident = moved.incident
        if "asked" in incident.detail:
            return self._requested(moved)
        row = self.playbook.decide(incident)
        if row.verb in (Action.WATCH, Action.NONE):
            return _answer(moved, "watch", done=True, note=row.why)
        verb: Verb | None = Verb(row.verb.value)
        if verb is not Verb.STOP:
            verb = self._rung(incident, Verb(row.verb.value))
        if verb is None:
            return _answer(moved, row.verb.value, done=False, note="the ladder is at its end: a person is needed")
        return self._order(moved, verb, row.why, {"grace_s": str(self.grace_s)}, 300.0)

    def _requested(self, moved: Transition) -> Order | Outcome:
        """What a person has asked for is done as it was said, and nothing else if that does not help."""
        detail = moved.incident.detail
        verb = Verb(str(detail["asked"]))
        if moved.trigger is not Trigger.REQUESTED:
            return _answer(moved, verb.value, done=False, note="what was asked for has not helped: a person is needed")
        arguments = {"grace_s": str(self.grace_s), "request": str(detail["request"])}
        return self._order(moved, verb, f"asked for by {detail['actor']}", arguments, 300.0)

    def _rung(self, incident: Incident, wanted: Verb) -> Verb | None:
        # a verb this backend has not is entered at the gentlest it has
        entry = self.ladder.index(wanted) if wanted in self.ladder else 0
        rung = entry + incident.tries
        return self.ladder[rung] if rung < len(self.ladder) else None

    def _order(self, moved: Transition, verb: Verb, reason: str, arguments: dict[str, str], deadline_s: float) -> Order:
        incident = moved.incident
        return Order(
            at=moved.at, id=f"{incident.id}/{verb}/{len(incident.orders) + 1}", incident=incident.id,
            job=JobId(incident.job), verb=verb, targets=() if verb is Verb.COLLECT else incident.targets, reason=reason,
            arguments=arguments, deadline_s=deadline_s,
        )  # fmt: skip


def _answer(moved: Transition, verb: str, *, done: bool, note: str) -> Outcome:
    incident = moved.incident
    id = f"{incident.id}/{verb}/{len(incident.orders) + 1}"
    return Outcome(at=moved.at, order=id, done=done, refused=not done, note=note)

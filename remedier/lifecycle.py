"""How an incident may move: one table, and nothing beside the table."""

from holdfast.incident import State, Trigger

NEXT: dict[tuple[State, Trigger], State] = {
    (State.OPEN, Trigger.ASKED): State.DIAGNOSING,
    (State.OPEN, Trigger.DIAGNOSED): State.RECOVERING,
    (State.DIAGNOSING, Trigger.DIAGNOSED): State.RECOVERING,
    # a fault that goes away by itself before anything was done needs no repair
    (State.OPEN, Trigger.CLEARED): State.RESOLVED,
    (State.DIAGNOSING, Trigger.CLEARED): State.RESOLVED,
    (State.AWAITING_APPROVAL, Trigger.CLEARED): State.RESOLVED,
    (State.RECOVERING, Trigger.HELD): State.AWAITING_APPROVAL,
    (State.AWAITING_APPROVAL, Trigger.APPROVED): State.RECOVERING,
    (State.AWAITING_APPROVAL, Trigger.REJECTED): State.NEEDS_HUMAN,
    (State.AWAITING_APPROVAL, Trigger.EXPIRED): State.NEEDS_HUMAN,
    # a person's word is carried out from wherever an incident stands, but not beside an order that is under way
    (State.OPEN, Trigger.REQUESTED): State.RECOVERING,
    (State.DIAGNOSING, Trigger.REQUESTED): State.RECOVERING,
    (State.AWAITING_APPROVAL, Trigger.REQUESTED): State.RECOVERING,
    (State.VERIFYING, Trigger.REQUESTED): State.RECOVERING,
    (State.NEEDS_HUMAN, Trigger.REQUESTED): State.RECOVERING,
    (State.RECOVERING, Trigger.DONE): State.VERIFYING,
    (State.RECOVERING, Trigger.FAILED): State.RECOVERING,  # with the next verb of the ladder
    (State.RECOVERING, Trigger.REFUSED): State.NEEDS_HUMAN,  # a guard said no, or the ladder is at its end
    (State.RECOVERING, Trigger.STOPPED): State.NEEDS_HUMAN,  # the job is stopped for good: a person has to mend it
    (State.RECOVERING, Trigger.WATCHED): State.VERIFYING,  # nothing is done; it heals, or comes back as more
    (State.VERIFYING, Trigger.STEPPED): State.RESOLVED,  # past the step where it broke
    (State.VERIFYING, Trigger.RECURRED): State.DIAGNOSING,  # it came back: look again, then the next verb
    (State.VERIFYING, Trigger.EXPIRED): State.RECOVERING,  # no step in time: the next verb
    (State.VERIFYING, Trigger.CLEARED): State.RESOLVED,  # what was only watched has healed
    (State.NEEDS_HUMAN, Trigger.STEPPED): State.RESOLVED,  # somebody has mended it
    (State.NEEDS_HUMAN, Trigger.CLEARED): State.RESOLVED,
    # a job that ended well, or a person, closes whatever is still open
    (State.OPEN, Trigger.CLOSED): State.RESOLVED,
    (State.DIAGNOSING, Trigger.CLOSED): State.RESOLVED,
    (State.AWAITING_APPROVAL, Trigger.CLOSED): State.RESOLVED,
    (State.RECOVERING, Trigger.CLOSED): State.RESOLVED,
    (State.VERIFYING, Trigger.CLOSED): State.RESOLVED,
    (State.NEEDS_HUMAN, Trigger.CLOSED): State.RESOLVED,
}


def advance(state: State, trigger: Trigger) -> State:
    """Return the next state; a trigger that means nothing here changes nothing."""
    return NEXT.get((state, trigger), state)

"""The table of an incident's moves: every state can end, and what comes too late changes nothing."""

import pytest

from holdfast.incident import ENDED, LIVE, State, Trigger
from remedier.lifecycle import NEXT, advance


def _reachable(start: State) -> set[State]:
    seen, line = {start}, [start]
    while line:
        state = line.pop()
        for trigger in Trigger:
            after = advance(state, trigger)
            if after not in seen:
                seen.add(after)
                line.append(after)
    return seen


@pytest.mark.parametrize("state", list(State))
def test_every_state_can_end(state: State) -> None:
    assert _reachable(state) & ENDED


@pytest.mark.parametrize("state", sorted(LIVE))
def test_a_job_that_ends_closes_every_live_incident(state: State) -> None:
    assert advance(state, Trigger.CLOSED) is State.RESOLVED


@pytest.mark.parametrize("trigger", list(Trigger))
def test_nothing_opens_a_resolved_incident_again(trigger: Trigger) -> None:
    assert advance(State.RESOLVED, trigger) is State.RESOLVED


@pytest.mark.parametrize("trigger", [Trigger.DONE, Trigger.FAILED, Trigger.REFUSED, Trigger.STOPPED])
@pytest.mark.parametrize("state", [State.OPEN, State.DIAGNOSING, State.VERIFYING, State.RESOLVED, State.NEEDS_HUMAN])
def test_a_late_outcome_changes_nothing(state: State, trigger: Trigger) -> None:
    assert advance(state, trigger) is state


def test_the_table_holds_only_moves() -> None:
    assert [pair for pair, after in NEXT.items() if pair[0] is after] == [(State.RECOVERING, Trigger.FAILED)]

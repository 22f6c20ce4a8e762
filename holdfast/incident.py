"""An incident as everybody sees it: one fault, what is known of it, and how far its repair has come."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from holdfast.faults import Perception, Verb
from holdfast.topology import Target
from holdfast.verdict import Json, Verdict


class State(StrEnum):
    """How far an incident has come; the table of moves is `remedier/lifecycle.py`."""

    OPEN = "open"
    DIAGNOSING = "diagnosing"
    AWAITING_APPROVAL = "awaiting_approval"
    RECOVERING = "recovering"
    VERIFYING = "verifying"
    RESOLVED = "resolved"
    NEEDS_HUMAN = "needs_human"


class Trigger(StrEnum):
    """What moves an incident."""

    CLAIMED = "claimed"
    ASKED = "asked"
    DIAGNOSED = "diagnosed"
    DECIDED = "decided"
    HELD = "held"
    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    STOPPED = "stopped"
    WATCHED = "watched"
    STEPPED = "stepped"
    RECURRED = "recurred"
    CLEARED = "cleared"
    EXPIRED = "expired"
    CLOSED = "closed"


LIVE = frozenset({State.OPEN, State.DIAGNOSING, State.AWAITING_APPROVAL, State.RECOVERING, State.VERIFYING})
ENDED = frozenset({State.RESOLVED, State.NEEDS_HUMAN})


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One fault and its repair; a snapshot, replaced and never altered.

    at: when it was opened; diagnosed_at, decided_at, acted_at, ended_at: Unix seconds, None while not yet
    verb: the last verb ordered for it; tries: how many orders of any verb but `collect` it has had
    perception: how it was seen first; None: a person asked, nothing had been seen
    findings, orders: ids, oldest first
    wants: evidence to be asked for now; set only in the snapshot of the transition that asks
    """

    id: str
    at: float
    job: str = ""
    targets: tuple[Target, ...] = ()
    state: State = State.OPEN
    perception: Perception | None
    check: str
    verdict: Verdict
    findings: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()
    verb: Verb | None = None
    tries: int = 0
    diagnosed_at: float | None = None
    decided_at: float | None = None
    acted_at: float | None = None
    ended_at: float | None = None
    wants: tuple[str, ...] = ()
    note: str = ""
    detail: Mapping[str, Json] = {}

    @property
    def ended(self) -> bool:
        return self.state in ENDED

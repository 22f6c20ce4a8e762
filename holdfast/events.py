"""What travels: observation -> finding -> transition -> order -> outcome, and the tick of time.

Everything is frozen and carries its own time `at` in Unix seconds. Rare facts are one object each; streams travel as
batches with one numpy column per signal, because one Python object per sample would cost a core at a thousand nodes.
"""

from collections.abc import Mapping

import msgspec
import numpy as np

from holdfast.faults import Action, Fault, Judgement, NodeAction, Perception, Severity, Symptom, Verb
from holdfast.incident import Incident, State, Trigger
from holdfast.topology import JobId, NodeId, Target
from holdfast.verdict import Culprit, Evidence, Json


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Anything that travels. at: Unix seconds."""

    at: float


class Tick(Event, frozen=True, kw_only=True, tag="tick"):
    """Time has passed."""


# --- observations: what the outside says, keyed by the job placed on the node (by the node while it is idle)


class Observation(Event, frozen=True, kw_only=True):
    """What a source saw. source: who says so ("agent:n3", "kmsg:n3"); job and node: "" where there is none."""

    source: str
    job: JobId = JobId("")
    node: NodeId = NodeId("")


class Samples(Observation, frozen=True, kw_only=True, tag="samples"):
    """Readings of many targets taken together.

    signals: nouns, unit last: ("gpu.temp_c", "gpu.power_w")
    values: float64, shape (len(targets), len(signals)); NaN where a target has no such reading.
    """

    targets: tuple[Target, ...]
    signals: tuple[str, ...]
    values: np.ndarray


class Steps(Observation, frozen=True, kw_only=True, tag="steps"):
    """Completed training steps, one row each; a rank may have several rows.

    ranks, steps: int64, shape (rows,); ended_at: float64, Unix seconds, shape (rows,)
    signals: ("step_s", "loss", "tokens", "phase.forward_s", ...)
    values: float64, shape (rows, len(signals)); NaN where not reported.
    """

    ranks: np.ndarray
    steps: np.ndarray
    ended_at: np.ndarray
    signals: tuple[str, ...]
    values: np.ndarray


class Lines(Observation, frozen=True, kw_only=True, tag="lines"):
    """Log lines of one file or stream. first: number of the first line, from 1; rank: whose output, None if unknown."""

    file: str
    first: int
    lines: tuple[str, ...]
    rank: int | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A target is now in `state`.

    Processes: running, stopped, uninterruptible, zombie, exited, gone; jobs: started, restarting, finished, failed,
    stopped, suspended (paused on purpose: nothing is expected of it until it is started again); pods: pending, running, finished,
    failed, deleted, evicted; nodes: ready, not_ready, cordoned, deleted.
    at: when it happened, Unix seconds; exit_code: 0..255; signal: number; None where it does not apply.
    """

    target: Target
    state: str
    at: float
    exit_code: int | None = None
    signal: int | None = None
    attempt: int = 0
    reason: str = ""
    detail: Mapping[str, Json] = {}


class Changes(Observation, frozen=True, kw_only=True, tag="changes"):
    """States of processes, pods, jobs and nodes that changed."""

    changes: tuple[Change, ...]


class Dump(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of collected evidence.

    name: file name it would have on disk ("fr_rank3", "stacks_rank3.json", "rank3.json", "processes.json")
    error: why there is no data; then `data` is empty.
    """

    target: Target
    name: str
    data: bytes = b""
    error: str = ""


class Dumps(Observation, frozen=True, kw_only=True, tag="dumps"):
    """The answer to a `collect` order; `complete` on the last batch of one source."""

    order: str
    dumps: tuple[Dump, ...]
    complete: bool = True


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life of one rank.

    step: last completed step, -1 before the first; stepped_at: when it ended, 0.0 before the first
    phase: announced phase open now ("" none); phase_at: when it was entered
    cpu_s: CPU seconds of its process tree so far; io_bytes: bytes read and written through storage so far
    """

    rank: int
    step: int = -1
    stepped_at: float = 0.0
    phase: str = ""
    phase_at: float = 0.0
    cpu_s: float = 0.0
    io_bytes: int = 0


class Beats(Observation, frozen=True, kw_only=True, tag="beats"):
    """An agent lives and says what its ranks do. dropped: records it had to drop so far."""

    attempt: int = 0
    beats: tuple[Beat, ...] = ()
    dropped: int = 0


class Received(Observation, frozen=True, kw_only=True, tag="received"):
    """One numbered batch of an agent has come in; its contents are the observations beside it.

    Committed with them, so that a repeat is known after a restart too. dropped: records the agent gave up so far.
    """

    agent: str
    boot: str
    sequence: int
    attempt: int = 0
    dropped: int = 0


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Another monitor's alert. status: firing or resolved; starts_at, ends_at: Unix seconds, ends_at None while it fires."""

    fingerprint: str
    name: str
    status: str
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    starts_at: float = 0.0
    ends_at: float | None = None


class Alerts(Observation, frozen=True, kw_only=True, tag="alerts"):
    """Alerts that were handed on together."""

    alerts: tuple[Alert, ...]


class Request(Observation, frozen=True, kw_only=True, tag="request"):
    """A person or a script wants something done.

    id: the same for every repeat of one request; actor: who asks, never a token
    verb: a verb for the job or the targets; approve, reject or close for the incident
    """

    id: str
    actor: str
    verb: str
    targets: tuple[Target, ...] = ()
    incident: str = ""
    reason: str = ""


# --- what the stages say


class Finding(Event, frozen=True, kw_only=True, tag="finding"):
    """A claim about one target: something is wrong, or no longer is.

    check: which rule or model ("xid.79", "tracehang.host_stuck")
    culprits: who is to blame when it is not just the target itself; empty with `nobody` and `undecided`
    wants: what evidence would decide ("stacks", "flight_recorder"); an incident asks for it before it acts
    """

    id: str
    job: JobId = JobId("")
    target: Target
    perception: Perception
    symptom: Symptom = Symptom.NONE
    fault: Fault
    check: str
    judgement: Judgement = Judgement.CULPRIT
    severity: Severity = Severity.ERROR
    cause: str = ""
    confidence: float
    share: float | None = None
    culprits: tuple[Culprit, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    action: Action = Action.NONE
    node_action: NodeAction = NodeAction.NONE
    wants: tuple[str, ...] = ()
    count: int = 1
    cleared: bool = False
    detail: Mapping[str, Json] = {}


class Transition(Event, frozen=True, kw_only=True, tag="transition"):
    """An incident has moved from `before` to its present state. id: "<incident>/<n>"."""

    id: str
    incident: Incident
    before: State
    trigger: Trigger


class Order(Event, frozen=True, kw_only=True, tag="order"):
    """Something a backend shall do. id: "<incident>/<verb>/<n>", so that the same order twice acts once.

    targets: what it is about; avoid: nodes the job must not come back to; arguments: strings for the backend
    """

    id: str
    incident: str
    job: JobId = JobId("")
    verb: Verb
    targets: tuple[Target, ...] = ()
    avoid: tuple[NodeId, ...] = ()
    reason: str = ""
    deadline_s: float = 300.0
    arguments: Mapping[str, str] = {}


class Outcome(Event, frozen=True, kw_only=True, tag="outcome"):
    """What became of an order.

    done: it was carried out; refused: somebody said no; held: it waits for a person's approval; else it failed
    note: why
    """

    order: str
    done: bool
    refused: bool = False
    held: bool = False
    note: str = ""


class Claims(Observation, frozen=True, kw_only=True, tag="claims"):
    """What another part of ours claims of a node it looks at. whole: these are all that stand, what is not among them is over."""

    findings: tuple[Finding, ...] = ()
    whole: bool = False


Said = Finding | Transition | Order | Outcome
Seen = Samples | Steps | Lines | Changes | Dumps | Beats | Received | Alerts | Request | Claims

"""A picture of jobs, nodes, incidents and requests as they stand, kept from what goes by; what the API and the reports show."""

from collections.abc import Sequence

import msgspec

from holdfast.events import (
    Beats,
    Change,
    Changes,
    Event,
    Finding,
    Observation,
    Order,
    Outcome,
    Request,
    Samples,
    Transition,
)
from holdfast.incident import ENDED, Incident, State, Trigger
from holdfast.topology import Kind

MOST_INCIDENTS = 1000
MOST_JOBS = 1000
MOST_NODES = 65_536
MOST_ACTIONS = 1000

_OVER = frozenset({"finished", "failed", "stopped"})


class Job(msgspec.Struct, kw_only=True):
    """A job as it stands.

    state: started, restarting, finished, failed or stopped; step: the last completed of any rank, -1 none
    nodes, devices: where it runs, as far as its agents or its scheduler have said
    """

    id: str
    state: str = "started"
    attempt: int = 0
    exit_code: int | None = None
    signal: int | None = None
    started_at: float = 0.0
    ended_at: float | None = None
    step: int = -1
    heard_at: float = 0.0
    nodes: Sequence[str] = ()
    devices: int = 0


class Node(msgspec.Struct, kw_only=True):
    """A node as it stands. state: ready, not_ready, cordoned or deleted by the scheduler's word; silent: its agent says nothing."""

    id: str
    state: str = "ready"
    reason: str = ""
    job: str = ""
    devices: int = 0
    heard_at: float = 0.0
    silent: bool = False


class Action(msgspec.Struct, kw_only=True):
    """What somebody asked for. state: accepted, ordered, done, failed, refused or held; order: the one it led to, "" none."""

    id: str
    verb: str
    actor: str
    at: float
    job: str = ""
    incident: str = ""
    state: str = "accepted"
    order: str = ""
    note: str = ""


class _Memory(msgspec.Struct):
    jobs: dict[str, Job]
    nodes: dict[str, Node]
    incidents: dict[str, Incident]
    actions: dict[str, Action]


class Board:
    """The view; of each kind the oldest are forgotten past a bound."""

    most_actions = MOST_ACTIONS

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.nodes: dict[str, Node] = {}
        self.incidents: dict[str, Incident] = {}
        self.actions: dict[str, Action] = {}

    def on_event(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, Observation):
            self._on_observation(event)
        elif isinstance(event, Transition):
            self.incidents[event.incident.id] = event.incident
            self._bound()
            self._on_asked(event)
        elif isinstance(event, Order):
            self._on_order(event)
        elif isinstance(event, Outcome):
            self._on_outcome(event)
        elif isinstance(event, Finding) and event.check == "heartbeat.silent" and event.target.node:
            self._node(event.target.node).silent = not event.cleared

    def over(self, job: str) -> bool:
        """Whether a job has ended and nothing more will be done about it."""
        known = self.jobs.get(job)
        return known is not None and known.state in _OVER and not self.live(job)

    def stuck(self, job: str) -> bool:
        """Whether a job needs a person while it has not ended."""
        needs = any(i.job == job and i.state is State.NEEDS_HUMAN for i in self.incidents.values())
        return needs and not self.live(job)

    def live(self, job: str) -> list[Incident]:
        """The incidents of a job that are not ended."""
        return [i for i in self.incidents.values() if i.job == job and i.state not in ENDED]

    def troubles(self) -> dict[str, list[str]]:
        """Node -> ids of the incidents about it that are not resolved."""
        found: dict[str, list[str]] = {}
        for incident in self.incidents.values():
            if incident.state is not State.RESOLVED:
                nodes = {t.node or (t.id if t.kind is Kind.NODE else "") for t in incident.targets}
                for node in sorted(nodes - {""}):
                    found.setdefault(node, []).append(incident.id)
        return found

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(_Memory(self.jobs, self.nodes, self.incidents, self.actions))

    def restore(self, memory: bytes) -> None:
        kept = msgspec.msgpack.decode(memory, type=_Memory)
        self.jobs, self.nodes, self.incidents, self.actions = kept.jobs, kept.nodes, kept.incidents, kept.actions

    # --- jobs and nodes

    def _on_observation(self, seen: Observation) -> None:
        if seen.node:
            node = self._node(seen.node)
            node.heard_at, node.job = seen.at, seen.job
            if isinstance(seen, Samples) and seen.targets and seen.targets[0].kind is Kind.DEVICE:
                node.devices = max(node.devices, len(seen.targets))
        if isinstance(seen, Beats) and seen.job and seen.beats:
            job = self._job(seen.job)
            job.heard_at = seen.at
            job.step = max(job.step, *(beat.step for beat in seen.beats))
        elif isinstance(seen, Changes):
            for change in seen.changes:
                self._on_change(change, seen.at)
        elif isinstance(seen, Request):
            self._on_request(seen)

    def _on_change(self, change: Change, at: float) -> None:
        if change.target.kind is Kind.NODE:
            node = self._node(change.target.id)
            node.state, node.reason = change.state, change.reason
        elif change.target.kind is Kind.JOB:
            self._on_job(change, at)

    def _on_job(self, change: Change, at: float) -> None:
        job = self._job(change.target.id)
        if change.attempt < job.attempt:
            return  # late news of an attempt that has been replaced
        job.attempt, job.state, job.heard_at = change.attempt, change.state, at
        job.exit_code, job.signal = change.exit_code, change.signal
        job.ended_at = change.at if change.state in _OVER else None
        job.started_at = job.started_at or change.at
        nodes, devices = change.detail.get("nodes"), change.detail.get("devices")
        if isinstance(nodes, list | tuple):
            job.nodes = [str(node) for node in nodes]
        if isinstance(devices, int):
            job.devices = devices

    def _job(self, id: str) -> Job:
        if id not in self.jobs:
            self.jobs[id] = Job(id=id)
            if len(self.jobs) > MOST_JOBS:
                del self.jobs[min(self.jobs, key=lambda old: self.jobs[old].heard_at)]
        return self.jobs[id]

    def _node(self, id: str) -> Node:
        if id not in self.nodes:
            self.nodes[id] = Node(id=id)
            if len(self.nodes) > MOST_NODES:
                del self.nodes[min(self.nodes, key=lambda old: self.nodes[old].heard_at)]
        return self.nodes[id]

    # --- what people ask for

    def _on_request(self, seen: Request) -> None:
        if seen.id not in self.actions:
            self.actions[seen.id] = Action(
                id=seen.id, verb=seen.verb, actor=seen.actor, at=seen.at, job=seen.job, incident=seen.incident
            )
            while len(self.actions) > MOST_ACTIONS:
                del self.actions[next(iter(self.actions))]

    def _on_asked(self, moved: Transition) -> None:
        action = self.actions.get(str(moved.incident.detail.get("request", "")))
        if action is not None and moved.trigger is Trigger.REQUESTED:
            action.incident = moved.incident.id
        elif moved.trigger in _WORDS:
            for said in self.actions.values():
                if said.incident == moved.incident.id and said.state == "accepted" and said.verb == _WORDS[moved.trigger]:
                    said.state, said.note = "done", moved.incident.note

    def _on_order(self, order: Order) -> None:
        action = self.actions.get(order.arguments.get("request", ""))
        if action is not None:
            action.state, action.order, action.note = "ordered", order.id, order.reason

    def _on_outcome(self, outcome: Outcome) -> None:
        first = outcome.order.split("/", 1)[0]
        for action in self.actions.values():
            asked_in_vain = action.state == "accepted" and first == action.incident and f"/{action.verb}/" in outcome.order
            if outcome.order == action.order or first == action.id or asked_in_vain:
                word = "done" if outcome.done else "held" if outcome.held else "refused" if outcome.refused else "failed"
                action.state, action.note = word, outcome.note

    def _bound(self) -> None:
        if len(self.incidents) > MOST_INCIDENTS:
            ended = (id for id, incident in self.incidents.items() if incident.ended)
            if (oldest := next(ended, None)) is not None:
                del self.incidents[oldest]


_WORDS = {Trigger.APPROVED: "approve", Trigger.REJECTED: "reject", Trigger.CLOSED: "close"}

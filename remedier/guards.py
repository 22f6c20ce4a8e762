"""Guards wrap a planner and are planners: each may turn an order into a refusal with its reason."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from holdfast.events import Order, Outcome, Request, Transition
from holdfast.faults import Verb
from holdfast.incident import Trigger
from holdfast.ports import Planner
from holdfast.topology import Kind, NodeId

HARMLESS = frozenset({Verb.COLLECT})
MOST_JOBS = 4096


class Mode(StrEnum):
    """How far the loop may go by itself."""

    OBSERVE = "observe"
    APPROVE = "approve"
    AUTO = "auto"


def refusal(order: Order, note: str, *, held: bool = False) -> Outcome:
    """The outcome of an order that a guard does not let through."""
    return Outcome(at=order.at, order=order.id, done=False, refused=not held, held=held, note=note)


@dataclass(kw_only=True)
class Permission:
    """Lets an order through by the mode of its job.

    mode: of every job not in `jobs`; `observe` refuses all, `approve` holds each order until a person approves it
    """

    inner: Planner
    mode: Mode = Mode.OBSERVE
    jobs: dict[str, Mode] = field(default_factory=dict)

    def on_transition(self, moved: Transition) -> Iterator[Order | Outcome]:
        for answer in self.inner.on_transition(moved):
            if isinstance(answer, Order) and answer.verb not in HARMLESS:
                # the mode bounds what the loop does by itself, not what a person does through it
                yield self._judge(answer, approved=moved.trigger is Trigger.APPROVED, asked=moved.trigger is Trigger.REQUESTED)
            else:
                yield answer

    def _judge(self, order: Order, *, approved: bool, asked: bool) -> Order | Outcome:
        mode = Mode.AUTO if asked else self.jobs.get(order.job, self.mode)
        if mode is Mode.OBSERVE:
            return refusal(order, f"the mode is observe; would {order.verb}: {order.reason}")
        if mode is Mode.APPROVE and not approved:
            return refusal(order, f"waits for approval: {order.verb}", held=True)
        return order


@dataclass(kw_only=True)
class NoProgress:
    """Refuses to repair the same cause for the `most`-th time when the job has made no new step between."""

    inner: Planner
    most: int = 3

    def on_transition(self, moved: Transition) -> Iterator[Order | Outcome]:
        times = moved.incident.detail.get("times", 0)
        for answer in self.inner.on_transition(moved):
            asked = moved.trigger is Trigger.REQUESTED
            repairs = isinstance(answer, Order) and answer.verb not in HARMLESS and answer.verb is not Verb.STOP and not asked
            if isinstance(answer, Order) and repairs and isinstance(times, int) and times >= self.most:
                yield refusal(answer, f"no progress: the same cause for the {times}. time without a new step")
            else:
                yield answer


@dataclass(kw_only=True)
class Budget:
    """Refuses more than `most` repairs of one job in `per_s` seconds; stopping it is always allowed."""

    inner: Planner
    most: int = 10
    per_s: float = 3600.0
    _given: dict[str, deque[float]] = field(default_factory=dict, init=False)

    def on_transition(self, moved: Transition) -> Iterator[Order | Outcome]:
        for answer in self.inner.on_transition(moved):
            if isinstance(answer, Order) and answer.verb not in HARMLESS and answer.verb is not Verb.STOP:
                yield self._judge(answer)
            else:
                yield answer

    def _judge(self, order: Order) -> Order | Outcome:
        given = self._given.setdefault(order.job, deque())
        while len(self._given) > MOST_JOBS:
            del self._given[next(iter(self._given))]
        while given and given[0] <= order.at - self.per_s:
            given.popleft()
        if len(given) >= self.most:
            return refusal(order, f"over budget: {len(given)} repairs in the last {self.per_s:.0f} s")
        given.append(order.at)
        return order

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode({job: list(given) for job, given in self._given.items()})

    def restore(self, memory: bytes) -> None:
        kept = msgspec.msgpack.decode(memory, type=dict[str, list[float]])
        self._given = {job: deque(given) for job, given in kept.items()}


# Verbs that take nodes out of service, or move a job to others.
_TAKES_NODES = frozenset({Verb.REPLACE, Verb.CORDON, Verb.DRAIN, Verb.REBOOT, Verb.RESET_DEVICE, Verb.REPAIR})


def nodes_of(order: Order) -> tuple[NodeId, ...]:
    """The nodes an order speaks of, each once, in its order."""
    named = (target.node or (target.id if target.kind is Kind.NODE else "") for target in order.targets)
    return tuple(dict.fromkeys(NodeId(node) for node in named if node))


@dataclass(kw_only=True)
class Breaker:
    """Refuses to take more than `most` nodes out within `per_s` seconds, over all jobs; stays tripped until a person clears it.

    What takes many nodes at once is seldom many faults: more often it is one that the nodes do not have.
    """

    inner: Planner
    most: int = 10
    per_s: float = 3600.0
    _taken: deque[tuple[float, int]] = field(default_factory=deque, init=False)
    _tripped: str = field(default="", init=False)

    def on_transition(self, moved: Transition) -> Iterator[Order | Outcome]:
        for answer in self.inner.on_transition(moved):
            yield self._judge(answer) if isinstance(answer, Order) and answer.verb in _TAKES_NODES else answer

    def on_request(self, request: Request) -> Iterator[Outcome]:
        """A person clears it."""
        if request.verb == "clear_breaker":
            note = f"cleared by {request.actor}; it had tripped: {self._tripped}" if self._tripped else "it had not tripped"
            self._tripped = ""
            self._taken.clear()
            yield Outcome(at=request.at, order=f"{request.id}/{request.verb}/0", done=True, note=note)

    def _judge(self, order: Order) -> Order | Outcome:
        while self._taken and self._taken[0][0] <= order.at - self.per_s:
            self._taken.popleft()
        count, out = max(1, len(nodes_of(order))), sum(nodes for _, nodes in self._taken)
        if not self._tripped and out + count > self.most:
            self._tripped = f"{out} nodes taken out in {self.per_s:.0f} s, {count} more wanted, at most {self.most}"
        if self._tripped:
            return refusal(order, f"the breaker is open until a person clears it: {self._tripped}")
        self._taken.append((order.at, count))
        return order

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((list(self._taken), self._tripped))

    def restore(self, memory: bytes) -> None:
        taken, self._tripped = msgspec.msgpack.decode(memory, type=tuple[list[tuple[float, int]], str])
        self._taken = deque(taken)


@dataclass(kw_only=True)
class Avoid:
    """Tells a backend which nodes have failed a job within `for_s` seconds, so that it is not sent back to them."""

    inner: Planner
    for_s: float = 86_400.0
    most: int = 256
    _failed: dict[str, dict[NodeId, float]] = field(default_factory=dict, init=False)

    def on_transition(self, moved: Transition) -> Iterator[Order | Outcome]:
        for answer in self.inner.on_transition(moved):
            moves = isinstance(answer, Order) and answer.verb in (Verb.REPLACE, Verb.RESUBMIT)
            yield self._add(answer) if isinstance(answer, Order) and moves else answer

    def _add(self, order: Order) -> Order:
        known = self._failed.pop(order.job, {})
        known = {node: at for node, at in known.items() if order.at - at < self.for_s}
        known |= dict.fromkeys(nodes_of(order), order.at)
        while len(known) > self.most:
            del known[next(iter(known))]
        if known:
            self._failed[order.job] = known
        while len(self._failed) > MOST_JOBS:
            del self._failed[next(iter(self._failed))]
        return msgspec.structs.replace(order, avoid=tuple(known))

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._failed)

    def restore(self, memory: bytes) -> None:
        self._failed = msgspec.msgpack.decode(memory, type=dict[str, dict[NodeId, float]])

"""Guards wrap a planner and are planners: each may turn an order into a refusal with its reason."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from holdfast.events import Order, Outcome, Transition
from holdfast.faults import Verb
from holdfast.incident import Trigger
from holdfast.ports import Planner

HARMLESS = frozenset({Verb.COLLECT})


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
                yield self._judge(answer, approved=moved.trigger is Trigger.APPROVED)
            else:
                yield answer

    def _judge(self, order: Order, *, approved: bool) -> Order | Outcome:
        mode = self.jobs.get(order.job, self.mode)
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
            repairs = isinstance(answer, Order) and answer.verb not in HARMLESS and answer.verb is not Verb.STOP
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

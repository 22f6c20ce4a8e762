"""Random walks through the whole remedier, wired as the service wires it, against what must always hold."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.events import Event, Finding, Order, Outcome, Request, Transition
from holdfast.faults import Fault, Judgement, Perception, Severity, Symptom, Verb
from holdfast.incident import ENDED, LIVE, State
from holdfast.pipeline import Pipeline
from holdfast.ports import Planner
from holdfast.topology import JobId, Kind, Target, job_of, rank_of
from remedier.guards import Avoid, Breaker, Budget, Mode, NoProgress, Permission
from remedier.incidents import Book
from remedier.lifecycle import advance
from remedier.planner import Ladder

BUDGET, BUDGET_S, NODES, NODES_S = 3, 600.0, 4, 1200.0

# (check, perception, symptom, fault, judgement): what detectors say, each once
KINDS: dict[str, tuple[Perception, Symptom, Fault, Judgement]] = {
    "process.signal": (Perception.PROCESS_ABNORMAL, Symptom.CRASH, Fault.UNKNOWN, Judgement.CULPRIT),
    "joblog.python.error": (Perception.LOG_ERROR, Symptom.CRASH, Fault.USER_CODE, Judgement.NOBODY),
    "tracehang.silence": (Perception.HANG, Symptom.HANG, Fault.UNKNOWN, Judgement.UNDECIDED),
    "training.nan.loss": (Perception.LOSS_ANOMALY, Symptom.LOSS, Fault.UNKNOWN, Judgement.UNDECIDED),
    "traceslow.slow_worker": (Perception.SLOW, Symptom.SLOW, Fault.UNKNOWN, Judgement.CULPRIT),
    "xid.79": (Perception.NODE_FAULT, Symptom.NONE, Fault.GPU_HW, Judgement.CULPRIT),
    "heartbeat.silent": (Perception.HEARTBEAT_LOST, Symptom.NONE, Fault.PLATFORM, Judgement.UNDECIDED),
    "pods.removed": (Perception.POD_DELETED, Symptom.CRASH, Fault.PLATFORM, Judgement.NOBODY),
}


def pipeline(mode: Mode) -> Pipeline:
    planner: Planner = Permission(inner=NoProgress(inner=Avoid(inner=Ladder()), most=3), mode=mode)
    planner = Breaker(inner=Budget(inner=planner, most=BUDGET, per_s=BUDGET_S), most=NODES, per_s=NODES_S)
    return Pipeline(detectors={}, book=Book(), planner=planner)


class Walk:
    """A pipeline led along; mode: of every job; cut: after so many moves its memory is given to a new one."""

    def __init__(self, mode: Mode, cut: int = -1) -> None:
        self.mode, self.cut = mode, cut
        self.line = pipeline(mode)
        self.now = 1000.0
        self.said: list[Event] = []
        self.asked: set[str] = set()

    def go(self, moves: Sequence[tuple[Any, ...]]) -> "Walk":
        for n, move in enumerate(moves):
            self.now += 0.25
            events = list(self._events(n, *move))
            self.said.extend(event for event in self.line.decide(self.now, events) if event not in events)  # type: ignore[arg-type]
            if n == self.cut:
                memory, self.line = self.line.snapshot(), pipeline(self.mode)
                self.line.restore(memory)
        return self

    def _events(self, n: int, kind: str, *known: Any) -> Iterator[Event]:
        if kind == "wait":
            self.now += known[0]
        elif kind == "find":
            yield self._finding(n, *known)
        elif kind == "news":
            job, check, step = known
            detail = {"step": step, "new_ground": True, "attempt": 1}
            yield Finding(
                at=self.now, id=f"n{n}", job=JobId(job), target=job_of(job), perception=Perception.PROCESS_ABNORMAL,
                fault=Fault.NONE, check=check, judgement=Judgement.HEALTHY, confidence=1.0, cleared=True, detail=detail,
            )  # fmt: skip
        elif kind == "answer":
            back, done, refused = known
            if orders := self.orders():
                yield Outcome(at=self.now, order=orders[max(0, len(orders) - 1 - back)].id, done=done, refused=refused)
        elif kind == "nonsense":
            yield Outcome(at=self.now, order=known[0], done=True)
        elif kind == "person":
            verb, job, live = known
            incident = next((i for i, state in self.states().items() if state in LIVE), "") if live else ""
            self.asked.add(f"r{n}")
            yield Request(
                at=self.now, source="api", job=JobId(job), id=f"r{n}", actor="someone", verb=verb, incident=incident,
            )  # fmt: skip

    def _finding(self, n: int, check: str, job: str, step: int, cleared: bool) -> Finding:
        perception, symptom, fault, judgement = KINDS[check]
        node = Target(Kind.DEVICE, "0000:3b:00", node=f"n{step % 7}")
        target = node if perception is Perception.NODE_FAULT else rank_of(job, step % 4, node=f"n{step % 7}")
        return Finding(
            at=self.now, id=f"f{n}", job=JobId(job), target=target, perception=perception, symptom=symptom, fault=fault,
            check=check, judgement=judgement, severity=Severity.ERROR, confidence=0.9, cleared=cleared,
            wants=("stacks",) if check == "tracehang.silence" and not cleared else (), detail={"step": step},
        )  # fmt: skip

    def orders(self) -> list[Order]:
        return [event for event in self.said if isinstance(event, Order)]

    def transitions(self) -> list[Transition]:
        return [event for event in self.said if isinstance(event, Transition)]

    def states(self) -> dict[str, State]:
        return {moved.incident.id: moved.incident.state for moved in self.transitions()}


_JOBS = st.sampled_from(["j", "j", "j", "k", ""])
_WAIT = st.tuples(st.just("wait"), st.sampled_from([3.0, 0.1, 30.0, 100.0, 700.0, 2000.0]))
_FIND = st.tuples(
    st.just("find"),
    st.sampled_from(sorted(KINDS)),
    _JOBS,
    st.integers(0, 9),
    st.sampled_from([False, False, False, True]),
)
_ANSWER = st.tuples(
    st.just("answer"), st.sampled_from([0, 0, 1, 2]), st.booleans(), st.sampled_from([False, False, True])
)
_NEWS = st.tuples(st.just("news"), st.sampled_from(["j", "k"]), st.just("job.progress"), st.integers(0, 99))
_NONSENSE = st.tuples(st.just("nonsense"), st.sampled_from(["", "x", "i1", "i1/restart", "i1/restart/9", "/" * 9]))
_SAYS = st.sampled_from(["approve", "reject", "close", "restart", "stop", "clear_breaker"])
_PERSON = st.tuples(st.just("person"), _SAYS, _JOBS, st.booleans())
_MOVES = st.one_of(_FIND, _WAIT, _ANSWER, _FIND, _WAIT, _ANSWER, _WAIT, _NEWS, _PERSON, _NONSENSE)
_WALKS = st.lists(_MOVES, min_size=10, max_size=90)
_MODES = st.sampled_from(list(Mode))
quick = settings(max_examples=60, deadline=None)


@given(_WALKS, _MODES)
@quick
def test_every_move_is_one_of_the_table_and_follows_the_last(moves: list[Any], mode: Mode) -> None:
    known: dict[str, State] = {}
    for moved in Walk(mode).go(moves).transitions():
        id = moved.incident.id
        assert moved.before is known.get(id, State.OPEN)
        assert moved.incident.state is advance(moved.before, moved.trigger)
        assert known.get(id) is not State.RESOLVED, "what is resolved moves no more"
        known[id] = moved.incident.state


@given(_WALKS, _MODES)
@quick
def test_no_order_without_a_live_incident_and_none_twice(moves: list[Any], mode: Mode) -> None:
    walk, states = Walk(mode).go(moves), dict[str, State]()
    for event in walk.said:
        if isinstance(event, Transition):
            states[event.incident.id] = event.incident.state
        elif isinstance(event, Order):
            assert states[event.incident] in LIVE
            assert event.verb is Verb.COLLECT or states[event.incident] is State.RECOVERING
    assert max(Counter(order.id for order in walk.orders()).values(), default=1) == 1
    assert max(Counter(moved.id for moved in walk.transitions()).values(), default=1) == 1


@given(_WALKS, _MODES)
@quick
def test_never_over_budget_and_never_too_many_nodes(moves: list[Any], mode: Mode) -> None:
    orders = [order for order in Walk(mode).go(moves).orders() if order.verb not in (Verb.COLLECT, Verb.STOP)]
    for order in orders:
        lately = [o for o in orders if o.job == order.job and order.at - BUDGET_S < o.at <= order.at]
        assert len(lately) <= BUDGET
        nodes = [o for o in orders if o.verb is Verb.REPLACE and order.at - NODES_S < o.at <= order.at]
        assert len(nodes) <= NODES


@given(_WALKS)
@quick
def test_in_observe_only_a_person_moves_anything(moves: list[Any]) -> None:
    walk = Walk(Mode.OBSERVE).go(moves)
    own = [order for order in walk.orders() if order.verb is not Verb.COLLECT]
    assert all(order.arguments.get("request") in walk.asked for order in own)


@given(_WALKS)
@quick
def test_in_approve_nothing_is_done_before_a_person_has_said_so(moves: list[Any]) -> None:
    walk, trigger = Walk(Mode.APPROVE).go(moves), dict[str, str]()
    for event in walk.said:
        if isinstance(event, Transition):
            trigger[event.incident.id] = event.trigger
        elif isinstance(event, Order) and event.verb is not Verb.COLLECT:
            assert trigger[event.incident] in ("approved", "requested")


@given(_WALKS, _MODES)
@quick
def test_whatever_happened_every_incident_can_end(moves: list[Any], mode: Mode) -> None:
    walk = Walk(mode).go(moves)
    for id in [id for id, state in walk.states().items() if state is not State.RESOLVED]:
        request = Request(at=walk.now, source="api", id=f"end/{id}", actor="someone", verb="close", incident=id)
        walk.said.extend(walk.line.decide(walk.now, [request]))
    assert set(walk.states().values()) <= {State.RESOLVED}


@given(_WALKS, _MODES, st.integers(0, 89))
@quick
def test_a_restart_at_any_moment_changes_nothing(moves: list[Any], mode: Mode, cut: int) -> None:
    assert Walk(mode).go(moves).said == Walk(mode, cut).go(moves).said


@given(_WALKS, _MODES)
@quick
def test_what_becomes_of_an_order_is_heard_once(moves: list[Any], mode: Mode) -> None:
    walk = Walk(mode).go(moves)
    over = {id for id, state in walk.states().items() if state in ENDED}
    before = len(walk.said)
    for order in walk.orders():
        if order.incident in over:
            for done in (True, False):
                late = Outcome(at=walk.now, order=order.id, done=done)
                moved = [e for e in walk.line.decide(walk.now, [late]) if isinstance(e, Transition)]
                assert all(one.before is one.incident.state for one in moved if one.incident.id == order.incident)
    assert before == len(walk.said)


@pytest.mark.parametrize(
    ("waits", "repairs"),
    [
        pytest.param([1.0] * 5, BUDGET, id="within its window the budget holds"),
        pytest.param([BUDGET_S] * 5, 5, id="and is full again after it"),
    ],
)
def test_the_budget_is_of_a_window(waits: list[float], repairs: int) -> None:
    walk = Walk(Mode.AUTO)
    for n, wait_s in enumerate(waits):
        moves: list[Any] = [
            ("find", "process.signal", "j", n, False), ("wait", 0.1), ("wait", 3.0), ("answer", 0, True, False),
            ("wait", 0.5), ("news", "j", "job.progress", 100 * n), ("wait", wait_s), ("person", "close", "", True),
        ]  # fmt: skip
        walk.go(moves)
    assert len([order for order in walk.orders() if order.verb is not Verb.COLLECT]) == repairs

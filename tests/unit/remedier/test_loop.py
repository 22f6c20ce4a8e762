"""Findings in, orders and outcomes out: the remedier under any sequence of events."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from holdfast.events import Event, Finding, Order, Outcome, Tick, Transition
from holdfast.faults import Fault, Judgement, Perception, Symptom, Verb
from holdfast.incident import State
from holdfast.topology import JobId, Kind, Target, job_of, rank_of
from remedier.guards import Budget, Mode, NoProgress, Permission
from remedier.incidents import Book
from remedier.planner import Ladder


class Loop:
    """Book and planner joined as the pipeline joins them, with a backend that answers as it is told."""

    def __init__(self, *, mode: Mode = Mode.AUTO, budget: int = 10) -> None:
        self.book = Book()
        self.planner = Budget(
            inner=Permission(inner=NoProgress(inner=Ladder(ladder=[Verb.RESTART] * 3)), mode=mode), most=budget
        )
        self.said: list[Event] = []
        self.now = 0.0

    def publish(self, event: Event) -> None:
        line: list[Event] = [event]
        while line:
            one = line.pop(0)
            if not isinstance(one, Tick | Finding):
                self.said.append(one)
            line.extend(self._answers(one))

    def _answers(self, event: Event) -> Iterable[Event]:
        if isinstance(event, Finding):
            return list(self.book.on_finding(event))
        if isinstance(event, Order):
            return list(self.book.on_order(event))
        if isinstance(event, Outcome):
            return list(self.book.on_outcome(event))
        if isinstance(event, Tick):
            return list(self.book.on_tick(event))
        assert isinstance(event, Transition)
        return list(self.planner.on_transition(event))

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.publish(Tick(at=self.now))

    def orders(self) -> list[Order]:
        return [event for event in self.said if isinstance(event, Order)]

    def state(self) -> State:
        return [event for event in self.said if isinstance(event, Transition)][-1].incident.state


def finding(
    at: float, *, check: str = "process.signal", fault: Fault = Fault.UNKNOWN, step: int = 5, **known: Any
) -> Finding:
    facts: dict[str, Any] = {
        "perception": Perception.PROCESS_ABNORMAL, "symptom": Symptom.CRASH, "judgement": Judgement.CULPRIT, "confidence": 0.9,
        "target": rank_of("j", 3), "detail": {"step": step}, "job": JobId("j"),
    }  # fmt: skip
    return Finding(at=at, id=f"f/{at}/{check}", fault=fault, check=check, **{**facts, **known})


def news(at: float, *, check: str = "job.progress", step: int = 9) -> Finding:
    return finding(
        at, check=check, fault=Fault.NONE, cleared=True, detail={"step": step, "new_ground": True, "attempt": 1}
    )


def repaired(loop: Loop) -> None:
    for order in loop.orders()[-1:]:
        loop.publish(Outcome(at=loop.now, order=order.id, done=True))


def test_a_crash_is_repaired_and_proved_by_a_step() -> None:
    loop = Loop()
    loop.tick(1)
    loop.publish(finding(1.0))
    loop.tick(0.1)
    loop.tick(3)
    assert [order.verb for order in loop.orders()] == [Verb.RESTART]
    repaired(loop)
    assert loop.state() is State.VERIFYING
    loop.publish(news(loop.now + 1))
    assert loop.state() is State.RESOLVED


def test_an_error_of_the_code_that_comes_back_at_the_same_step_is_stopped() -> None:
    loop = Loop()
    for n in range(2):
        loop.tick(5)
        loop.publish(
            finding(loop.now, check="joblog.python.error", fault=Fault.USER_CODE, judgement=Judgement.NOBODY, step=5)
        )
        loop.tick(0.1)
        loop.tick(3)
        if n == 0:
            repaired(loop)
    assert [order.verb for order in loop.orders()] == [Verb.RESTART, Verb.STOP]


def test_evidence_is_asked_for_before_anything_is_done() -> None:
    loop = Loop()
    loop.tick(1)
    loop.publish(
        finding(
            1.0, check="tracehang.silence", judgement=Judgement.UNDECIDED, wants=("stacks",), perception=Perception.HANG
        )
    )
    assert [order.verb for order in loop.orders()] == [Verb.COLLECT]


def test_evidence_that_is_there_at_once_gives_other_findings_their_time() -> None:
    loop = Loop()
    loop.tick(1)
    loop.publish(finding(1.0, check="process.exit_code", wants=("processes",)))
    loop.publish(Outcome(at=1.1, order=loop.orders()[-1].id, done=True))  # before the tick that would set the time
    loop.tick(0.2)
    assert loop.state() is State.DIAGNOSING
    loop.publish(
        finding(
            1.5,
            check="joblog.python.error",
            fault=Fault.USER_CODE,
            judgement=Judgement.NOBODY,
            perception=Perception.LOG_ERROR,
        )
    )
    loop.tick(0.1)
    loop.tick(3)
    last = [event for event in loop.said if isinstance(event, Transition)][-1].incident
    assert last.verdict.fault is Fault.USER_CODE


def test_in_observe_nothing_is_ordered_and_the_reason_is_said() -> None:
    loop = Loop(mode=Mode.OBSERVE)
    loop.tick(1)
    loop.publish(finding(1.0))
    loop.tick(0.1)
    loop.tick(3)
    assert loop.orders() == []
    assert loop.state() is State.NEEDS_HUMAN
    refusals = [event for event in loop.said if isinstance(event, Outcome)]
    assert [(r.refused, "observe" in r.note) for r in refusals] == [(True, True)]


def test_a_repair_over_budget_is_refused() -> None:
    loop = Loop(budget=1)
    for _ in range(2):
        loop.tick(10)
        loop.publish(finding(loop.now, step=int(loop.now)))
        loop.tick(0.1)
        loop.tick(3)
        repaired(loop)
        loop.publish(news(loop.now + 1, step=int(loop.now)))
    assert len(loop.orders()) == 1


_EVENTS = st.one_of(
    st.tuples(st.just("tick"), st.sampled_from([0.1, 1.0, 5.0, 30.0, 1000.0])),
    st.tuples(
        st.just("find"),
        st.sampled_from(["process.signal", "joblog.python.error", "tracehang.silence", "training.nan.loss"]),
    ),
    st.tuples(st.just("clear"), st.sampled_from(["process.signal", "joblog.python.error", "tracehang.silence"])),
    st.tuples(st.just("outcome"), st.booleans()),
    st.tuples(st.just("news"), st.sampled_from(["job.progress", "job.finished"])),
)


@given(st.lists(_EVENTS, max_size=60), st.sampled_from(list(Mode)))
def test_whatever_happens_no_order_has_no_incident_and_every_incident_can_end(
    events: list[tuple[str, Any]], mode: Mode
) -> None:
    loop = Loop(mode=mode, budget=3)
    for kind, value in events:
        loop.now += 0.01
        if kind == "tick":
            loop.tick(value)
        elif kind in ("find", "clear"):
            loop.publish(finding(loop.now, check=value, cleared=kind == "clear"))
        elif kind == "outcome" and loop.orders():
            loop.publish(Outcome(at=loop.now, order=loop.orders()[-1].id, done=value))
        elif kind == "news":
            loop.publish(news(loop.now, check=value, step=int(loop.now)))
    opened = {event.incident.id for event in loop.said if isinstance(event, Transition)}
    assert {order.incident for order in loop.orders()} <= opened
    assert len({order.id for order in loop.orders()}) == len(loop.orders())
    moves = [event.id for event in loop.said if isinstance(event, Transition)]
    assert len(set(moves)) == len(moves)
    loop.publish(news(loop.now + 1, check="job.finished"))
    last = {event.incident.id: event.incident.state for event in loop.said if isinstance(event, Transition)}
    assert set(last.values()) <= {State.RESOLVED}


@given(st.lists(_EVENTS, max_size=40), st.integers(0, 40))
def test_a_book_that_is_kept_and_given_back_goes_on_the_same(events: list[tuple[str, Any]], cut: int) -> None:
    one, other = Loop(), Loop()
    for n, (kind, value) in enumerate(events):
        for loop in (one, other):
            if kind == "tick":
                loop.tick(value)
            elif kind in ("find", "clear"):
                loop.publish(finding(loop.now, check=value, cleared=kind == "clear"))
            elif kind == "news":
                loop.publish(news(loop.now, check=value))
        if n == cut:
            memory = other.book.snapshot()
            other.book = Book()
            other.book.restore(memory)
    assert one.said == other.said


def node_fault(at: float, node: str, *, cleared: bool = False) -> Finding:
    target = Target(Kind.DEVICE, "0000:1b:00", node=node)
    return finding(
        at, check="xid.79", fault=Fault.GPU_HW, target=target, perception=Perception.NODE_FAULT, symptom=Symptom.NONE, detail={},
        cleared=cleared,
    )  # fmt: skip


def crashed_on(node: str) -> Loop:
    """A loop in which rank 3 has crashed on a node and its job is being restarted."""
    loop = Loop()
    loop.tick(1)
    loop.publish(finding(1.0, target=rank_of("j", 3, node=node)))
    loop.tick(0.1)
    loop.tick(3)
    assert loop.state() is State.RECOVERING
    return loop


def test_a_machines_fault_that_is_told_while_an_order_is_under_way_is_not_lost() -> None:
    loop = crashed_on("n1")
    loop.publish(node_fault(loop.now + 0.5, "n1"))
    repaired(loop)
    loop.tick(0.1)
    loop.tick(3)
    assert [order.targets for order in loop.orders()] == [(rank_of("j", 3, node="n1"),), (node_fault(0.0, "n1").target,)]


def test_one_that_went_away_before_the_order_was_done_is_over() -> None:
    loop = crashed_on("n1")
    loop.publish(node_fault(loop.now + 0.5, "n1"))
    loop.publish(node_fault(loop.now + 0.6, "n1", cleared=True))
    repaired(loop)
    loop.tick(3)
    assert (loop.state(), [order.verb for order in loop.orders()]) == (State.VERIFYING, [Verb.RESTART])


def test_what_the_old_processes_say_while_they_are_ended_is_no_news() -> None:
    loop = crashed_on("n1")
    loop.publish(finding(loop.now + 0.5, check="process.exit_code", target=rank_of("j", 0, node="n2")))
    repaired(loop)
    loop.tick(3)
    assert loop.state() is State.VERIFYING


def test_an_approval_that_nobody_gives_calls_a_person() -> None:
    loop = Loop(mode=Mode.APPROVE)
    loop.tick(1)
    loop.publish(finding(1.0))
    loop.tick(0.1)
    loop.tick(3)
    assert loop.state() is State.AWAITING_APPROVAL
    loop.tick(3599.0)
    assert loop.state() is State.AWAITING_APPROVAL
    loop.tick(2.0)
    assert loop.state() is State.NEEDS_HUMAN


def silent(at: float, node: str) -> Finding:
    return finding(
        at, check="heartbeat.silent", fault=Fault.PLATFORM, target=Target(Kind.SOURCE, f"agent:{node}", node=node),
        perception=Perception.HEARTBEAT_LOST, judgement=Judgement.UNDECIDED, symptom=Symptom.NONE, detail={},
    )  # fmt: skip


def test_a_node_that_breaks_falls_silent_and_is_not_ready_is_one_incident() -> None:
    loop = Loop()
    loop.tick(1)
    loop.publish(node_fault(1.0, "n1"))
    loop.publish(silent(16.0, "n1"))
    ready = finding(
        40.0, check="pods.node_not_ready", fault=Fault.HOST, target=Target(Kind.NODE, "n1", node="n1"),
        perception=Perception.NODE_FAULT, symptom=Symptom.NONE, detail={}, job=JobId(""),
    )  # fmt: skip
    loop.publish(ready)
    incidents = {event.incident.id for event in loop.said if isinstance(event, Transition)}
    assert incidents == {"i1"}
    loop.publish(silent(41.0, "n2"))
    assert {event.incident.id for event in loop.said if isinstance(event, Transition)} == {"i1", "i2"}


def verifying(loop: Loop) -> None:
    repaired(loop)
    loop.tick(1)
    assert loop.state() is State.VERIFYING


def test_another_culprit_elsewhere_while_a_repair_is_to_be_proved_is_an_incident_of_its_own() -> None:
    loop = crashed_on("n1")
    verifying(loop)
    loop.publish(finding(loop.now + 1, target=rank_of("j", 7, node="n2"), culprits=()))
    loop.publish(finding(loop.now + 2, check="job.failed", target=job_of("j"), judgement=Judgement.UNDECIDED))
    loop.tick(0.1)
    loop.tick(3)
    assert [(order.incident, order.verb) for order in loop.orders()] == [("i1", Verb.RESTART), ("i2", Verb.RESTART)]
    repaired(loop)
    loop.publish(news(loop.now + 1))
    ended = {event.incident.id: event.incident.state for event in loop.said if isinstance(event, Transition)}
    assert ended == {"i1": State.RESOLVED, "i2": State.RESOLVED}


def test_the_same_rank_again_is_the_same_incident() -> None:
    loop = crashed_on("n1")
    verifying(loop)
    loop.publish(finding(loop.now + 1, check="process.exit_code", target=rank_of("j", 3, node="n2")))
    assert {event.incident.id for event in loop.said if isinstance(event, Transition)} == {"i1"}
    assert loop.state() is State.DIAGNOSING


def test_what_is_only_watched_still_explains_what_comes_of_it() -> None:
    loop = Loop()
    switch = Target(Kind.LINK, "switch of mlx5_2:1", job="j")
    facts: dict[str, Any] = {"perception": Perception.NODE_FAULT, "symptom": Symptom.NONE, "cause": "switch_errors", "target": switch}
    loop.publish(finding(1, check="fabric.switch_errors", fault=Fault.FABRIC, **facts))
    loop.tick(2)
    loop.tick(3)
    assert loop.state() is State.VERIFYING
    slow: dict[str, Any] = {"perception": Perception.SLOW, "symptom": Symptom.SLOW, "judgement": Judgement.UNDECIDED}
    loop.publish(finding(loop.now + 1, check="traceslow.global", target=job_of("j"), **slow))
    loop.tick(1)
    loop.tick(3)
    last = [event for event in loop.said if isinstance(event, Transition)][-1].incident
    assert (last.id, last.verdict.fault, last.state) == ("i1", Fault.FABRIC, State.VERIFYING)
    assert loop.orders() == []

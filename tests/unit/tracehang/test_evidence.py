"""A collection from many agents is judged when the last of those that live has sent all it has."""

import pytest

from detectors.tracehang.ahead import Ahead, judged
from detectors.tracehang.devices import Device
from detectors.tracehang.online import Tracehang
from detectors.tracehang.pieces import Piece, read_piece
from holdfast.events import Beat, Beats, Dump, Dumps, Finding
from holdfast.topology import JobId, rank_of
from tests.unit.tracehang.test_judge import dumps as all_of
from tests.unit.tracehang.test_judge import job

JOB = JobId("j")


def beats(agent: str, at: float) -> Beats:
    return Beats(at=at, source=f"agent:{agent}", job=JOB, beats=(Beat(rank=0),))


def dumps(agent: str, at: float, *, complete: bool = True) -> Dumps:
    dump = Dump(target=rank_of(JOB, 0, node=agent), name="fr_rank0", error="no recorder")
    return Dumps(at=at, source=f"agent:{agent}", job=JOB, order="i1/collect/1", dumps=(dump,), complete=complete)


def verdicts(found: list[Finding]) -> int:
    return sum(finding.id == "tracehang/i1/collect/1" for finding in found)


@pytest.mark.parametrize(
    ("heard", "sent", "judged"),
    [
        pytest.param([("a", 9.0), ("b", 9.0)], [("a", True)], 0, id="one of two agents is not all"),
        pytest.param([("a", 9.0), ("b", 9.0)], [("a", True), ("b", False)], 0, id="an agent may have more to send"),
        pytest.param([("a", 9.0), ("b", 9.0)], [("a", True), ("b", True)], 1, id="both have sent all"),
        pytest.param([("a", 9.0), ("b", -60.0)], [("a", True)], 1, id="an agent that has long been silent is not waited for"),
        pytest.param([], [("a", True)], 1, id="where no agent is known the first is enough"),
    ],
)
def test_when_a_collection_is_judged(heard: list[tuple[str, float]], sent: list[tuple[str, bool]], judged: int) -> None:
    detector = Tracehang(readers=0)
    for agent, at in heard:
        list(detector.observe(beats(agent, at)))
    assert verdicts([f for agent, complete in sent for f in detector.observe(dumps(agent, 10.0, complete=complete))]) == judged


def test_an_agent_that_does_not_answer_is_waited_for_only_so_long() -> None:
    detector = Tracehang(evidence_s=15.0, readers=0)
    for agent in ("a", "b"):
        list(detector.observe(beats(agent, 9.0)))
    list(detector.observe(dumps("a", 10.0)))
    assert verdicts(list(detector.tick(20.0))) == 0
    assert verdicts(list(detector.tick(25.0))) == 1


@pytest.mark.parametrize("forgets", [False, True], ids=["in one life", "with the memory given back meanwhile"])
def test_what_was_sent_is_read_beside_the_line_and_told_when_the_line_says(forgets: bool) -> None:
    detector = Tracehang(readers=1)
    list(detector.observe(beats("a", 9.0)))
    assert verdicts(list(detector.observe(dumps("a", 10.0)))) == 0
    assert verdicts(list(detector.tick(10.5))) == 0
    if forgets:
        memory = detector.snapshot()
        detector = Tracehang(readers=1)
        detector.restore(memory)
    (found,) = detector.tick(12.0)
    here = next(f for f in Tracehang(readers=0).observe(dumps("a", 12.0)) if f.id == "tracehang/i1/collect/1")
    assert found == here
    assert not list(detector.tick(13.0))


@pytest.mark.parametrize("processes", [1, 2])
def test_more_may_come_while_the_first_is_read(processes: int) -> None:
    given = [Piece(name=name, data=data) for name, data in all_of(job(2, 2, host_stops={3: 5})).items()]
    ahead = Ahead(processes)
    for piece in given:
        ahead.add([piece])
    ahead.ask({})
    assert [one.id for one in ahead.answer().culprits] == ["3"]
    ahead.ask({rank: Device(index=rank, busy=1.0) for rank in range(4)})
    assert ahead.answer() == judged([(piece, read_piece(piece)) for piece in given], {})

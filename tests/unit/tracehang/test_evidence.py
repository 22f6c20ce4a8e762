"""A collection from many agents is judged when the last of those that live has sent all it has."""

import pytest

from detectors.tracehang.online import Tracehang
from holdfast.events import Beat, Beats, Dump, Dumps, Finding
from holdfast.topology import JobId, rank_of

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
    detector = Tracehang()
    for agent, at in heard:
        list(detector.observe(beats(agent, at)))
    assert verdicts([f for agent, complete in sent for f in detector.observe(dumps(agent, 10.0, complete=complete))]) == judged


def test_an_agent_that_does_not_answer_is_waited_for_only_so_long() -> None:
    detector = Tracehang(evidence_s=15.0)
    for agent in ("a", "b"):
        list(detector.observe(beats(agent, 9.0)))
    list(detector.observe(dumps("a", 10.0)))
    assert verdicts(list(detector.tick(20.0))) == 0
    assert verdicts(list(detector.tick(25.0))) == 1


def test_what_was_sent_can_be_read_elsewhere() -> None:
    (found,) = [f for f in Tracehang(readers=1).observe(dumps("a", 10.0)) if f.id == "tracehang/i1/collect/1"]
    assert found == next(f for f in Tracehang().observe(dumps("a", 10.0)) if f.id == "tracehang/i1/collect/1")

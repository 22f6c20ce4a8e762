"""While it runs: a job that no rule understands is told with what it never said before, from bounded memory that can be given back."""

from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from detectors.joblog.online import JobLog
from detectors.joblog.unusual import Block, Unusual
from holdfast.events import Finding, Observation
from holdfast.faults import Fault, Judgement
from tests.unit.detectors.seen import answers, job, lines, rank, steps

NEW = "quorum of weavers lost at epoch gate 7, shuttle thrown out: failed"
USUAL = "epoch gate 7 opened after 3 ms"


def life(*last: str, count: int = 6, usual: Iterable[str] = (USUAL,), clears: bool = True) -> list[Observation | float]:
    """Steps ten seconds apart with their lines, then the last ones, and a rank that ends. clears: a last step long after them"""
    stream: list[Observation | float] = [job(100.0, "started")]
    number = 1
    for step in range(count):
        at = 110.0 + 10.0 * step
        stream += [lines(at - 1.0, *usual, first=number, rank=3), steps(at, step, {"step_s": [10.0] * 4})]
        number += len(tuple(usual))
    end = 110.0 + 10.0 * count
    if last:
        stream.append(lines(end, *last, first=number, rank=3))
    return [*stream, rank(end + 1.0, 3, "exited", exit_code=1), end + 2.0]


def unknown(said: list[Finding]) -> list[str]:
    return [text.text for one in said if one.check == "joblog.unknown" for text in one.evidence]


@pytest.mark.parametrize(
    ("stream", "shown"),
    [
        pytest.param(life(NEW), [NEW], id="a line that was never there"),
        pytest.param(life(NEW, USUAL.replace("7", "8")), [NEW], id="not one that differs in its numbers alone"),
        pytest.param(life("all threads go home now", NEW), [NEW, "all threads go home now"], id="a word of trouble first"),
        pytest.param(life("all threads go home now"), [], id="nothing where no new line has one"),
        pytest.param(life(NEW, usual=(USUAL, NEW)), [], id="what it always said is not new"),
        pytest.param(life(NEW, count=0), [], id="without a healthy life nothing is new"),
        pytest.param(life(), [], id="no last words"),
    ],
)
def test_what_no_rule_knows_is_told_by_what_is_new(stream: list[Observation | float], shown: list[str]) -> None:
    said = answers(JobLog(), stream)
    assert unknown(said) == shown
    assert all((one.judgement, one.fault) == (Judgement.UNDECIDED, Fault.UNKNOWN) for one in said)


def test_a_line_shortly_before_a_step_of_others_may_be_of_the_end() -> None:
    stream = life(NEW)
    stream.insert(-2, steps(171.0, 6, {"step_s": [10.0] * 4}, first=4))
    assert unknown(answers(JobLog(), stream)) == [NEW]


def test_the_next_attempt_knows_what_was_usual_and_not_what_was_last() -> None:
    end = rank(311.0, 3, "exited", exit_code=1, attempt=1)
    again: list[Observation | float] = [job(300.0, "restarting", attempt=1), lines(310.0, USUAL, NEW, rank=3), end, 313.0]
    assert unknown(answers(JobLog(), [*life(NEW), *again])) == [NEW, NEW]


def test_what_one_node_says_alone_is_told_too() -> None:
    texts = (USUAL, USUAL, "weft tension low: degraded")
    heard = [replace(lines(105.0, text, file=f"rank{n}.log", rank=n), node=f"n{n}") for n, text in enumerate(texts)]
    first, *rest = life(NEW)
    stream: list[Observation | float] = [first, *heard, *rest]
    (said,) = [one for one in answers(JobLog(), stream) if one.check == "joblog.unknown"]
    alone: Any = said.detail["alone"]
    assert [(one["node"], one["text"]) for one in alone] == [("n0", NEW), ("n2", texts[2])]


def test_a_flood_keeps_what_came_first() -> None:
    told = Unusual()
    told.feed(Block(1.0, "rank0.log", 1, USUAL.encode(), "n0"))
    told.stepped(10.0)
    told.feed(Block(11.0, "rank0.log", 2, NEW.encode(), "n0"))
    for n in range(300):
        told.feed(Block(12.0, "rank0.log", 3 + n, b"shuttle failed " + b"abc " * 500, "n0"))
    novel, _ = told.stand_out({})
    assert novel[0].text == NEW
    assert sum(len(block.lines) for block in told.memory().recent) < 300_000

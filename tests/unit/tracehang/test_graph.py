"""The drawing: small jobs rank by rank, large ones on a page, whatever stands in the names."""

from xml.etree import ElementTree

import pytest

from detectors.tracehang.gather import Pile
from detectors.tracehang.graph import draw
from detectors.tracehang.judge import judge
from detectors.tracehang.waits import build
from tests.unit.tracehang.test_judge import dumps, job

SVG = "{http://www.w3.org/2000/svg}"


def drawn(dp: int, tp: int, culprit: int) -> ElementTree.Element:
    pile = Pile()
    for name, data in dumps(job(dp, tp, steps=2, host_stops={culprit: 4})).items():
        pile.add(name, data)
    case = pile.case()
    return ElementTree.fromstring(draw(build(case), case, judge(case)))  # our own drawing


@pytest.mark.parametrize(("dp", "tp", "most"), [(2, 4, 8), (16, 8, 40)])
def test_every_rank_is_in_a_box_and_there_are_few(dp: int, tp: int, most: int) -> None:
    root = drawn(dp, tp, culprit=5)
    titles = [title.text or "" for title in root.iter(f"{SVG}title")]
    assert 0 < len(titles) <= most
    assert "rank 5: host_stuck, 0.85" in titles
    assert len(list(root.iter(f"{SVG}line"))) <= 10 * most


def test_names_are_no_markup() -> None:
    pile = Pile()
    for name, data in dumps(job(2, 2, host_stops={1: 2})).items():
        pile.add(name, data.replace(b"world", b"<b>&;"))
    case = pile.case()
    assert ElementTree.fromstring(draw(build(case), case, judge(case))).tag == f"{SVG}svg"

"""The drawing: small jobs rank by rank, large ones on a page, whatever stands in the names."""

import json
from typing import Any
from xml.etree import ElementTree

import pytest

from detectors.tracehang.gather import Pile
from detectors.tracehang.graph import draw, sketch
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


@pytest.mark.parametrize(("dp", "tp"), [(2, 4), (16, 8)])
def test_a_sketch_fits_into_a_finding(dp: int, tp: int) -> None:
    pile = Pile()
    for name, data in dumps(job(dp, tp, steps=2, host_stops={5: 4})).items():
        pile.add(name, data.replace(b"world", b"<b>&;"))
    case = pile.case()
    told: Any = sketch(case, judge(case))
    assert len(json.dumps(told)) < 8_000
    assert [title for _, _, role, title, _ in told["boxes"] if role == "culprit"] == ["rank 5"]
    assert all(0 <= a < len(told["boxes"]) > b >= 0 for a, b, _ in told["arrows"])
    assert len({(column, row) for column, row, *_ in told["boxes"]}) == len(told["boxes"])


def test_nothing_is_sketched_where_nobody_waits() -> None:
    pile = Pile()
    for name, data in dumps(job(2, 2)).items():
        pile.add(name, data)
    case = pile.case()
    assert sketch(case, judge(case)) == {}

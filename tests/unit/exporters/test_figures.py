"""The catalogue, the sheet that refuses what is not in it, and the page of docs made from it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.figures import MOST_LABEL, Figure, FigureError, Histogram, Sheet, catalogue, page

ROOT = Path(__file__).resolve().parents[3]
FIGURES = {
    "h_gauge": Figure(kind="gauge", labels=("job",), help="a"),
    "h_total": Figure(kind="counter", labels=(), help="b"),
    "h_seconds": Figure(kind="histogram", labels=("fault",), help="c", buckets=(1.0, 5.0)),
}


@pytest.mark.parametrize("name", catalogue())
def test_a_figure_is_named_as_prometheus_names_them(name: str) -> None:
    figure = catalogue()[name]
    assert name.startswith("holdfast_")
    assert name.endswith("_total") == (figure.kind == "counter")
    assert bool(figure.buckets) == (figure.kind == "histogram")
    assert list(figure.buckets) == sorted(set(figure.buckets))
    assert len(set(figure.labels)) == len(figure.labels)
    assert figure.help.endswith(".")


def test_the_page_of_docs_is_the_catalogue() -> None:
    """`python -m exporters.figures > docs/metrics.md` writes it anew."""
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == page()


@pytest.mark.parametrize(
    ("name", "labels", "says"),
    [
        pytest.param("h_other", (), "no figure is called 'h_other'", id="a name that is not in the catalogue"),
        pytest.param("h_gauge", (), "takes the labels", id="a label that is missing"),
        pytest.param("h_total", ("j",), "takes the labels", id="a label that it does not have"),
        pytest.param("h_seconds", ("nic",), "is a histogram", id="a number where durations are wanted"),
    ],
)
def test_a_sheet_refuses(name: str, labels: tuple[str, ...], says: str) -> None:
    with pytest.raises(FigureError, match=says):
        Sheet(FIGURES).put(name, 1.0, *labels)


def test_a_histogram_is_no_gauge() -> None:
    with pytest.raises(FigureError, match="is a gauge"):
        Sheet(FIGURES).put_histogram("h_gauge", Histogram((1.0,)), "j")


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf")], ids=str)
def test_what_is_no_number_is_left_out(value: float | None) -> None:
    sheet = Sheet(FIGURES)
    sheet.put("h_gauge", value, "j")
    assert [len(family.samples) for family in sheet.families()] == [0, 0, 0]


def test_a_series_is_there_once() -> None:
    sheet = Sheet(FIGURES)
    sheet.put("h_gauge", 1.0, "j")
    sheet.put("h_gauge", 2.0, "j")
    assert [(sample.labels, sample.value) for sample in next(iter(sheet.families())).samples] == [({"job": "j"}, 2.0)]


@given(st.text(st.characters()))
def test_a_label_is_bounded_and_can_be_written(name: str) -> None:
    sheet = Sheet(FIGURES)
    sheet.put("h_gauge", 1.0, name)
    (sample,) = next(iter(sheet.families())).samples
    assert len(sample.labels["job"].encode()) >= len(sample.labels["job"])
    assert len(sample.labels["job"]) <= MOST_LABEL


@given(st.lists(st.floats(min_value=-10, max_value=10) | st.just(float("nan"))))
def test_a_histogram_counts_everything_once(seconds: list[float]) -> None:
    histogram = Histogram((1.0, 5.0))
    for value in seconds:
        histogram.observe(value)
    counts = [count for _, count in histogram.cumulative()]
    assert counts == sorted(counts)
    assert counts[-1] == len(seconds)
    assert counts[0] == sum(not value > 1.0 for value in seconds)
    assert histogram.sum >= 0


def test_every_figure_is_there_before_it_has_a_value() -> None:
    assert [family.name for family in Sheet().families()] == [name.removesuffix("_total") for name in catalogue()]

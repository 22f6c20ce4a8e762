"""The catalogue of exported figures, and the sheet that takes the values of one moment and refuses any other figure.

python -m exporters.figures > docs/metrics.md
"""

import math
import tomllib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Literal

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

# A label longer than this comes from a broken source, and would be paid for by every scrape.
MOST_LABEL = 200


class FigureError(ValueError):
    """A figure that the catalogue does not know, or knows otherwise."""


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of the catalogue. buckets: upper bounds of a histogram, rising, without infinity."""

    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


@cache
def catalogue() -> Mapping[str, Figure]:
    """Every figure by name, in the order of figures.toml."""
    text = (resources.files("exporters") / "figures.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, Figure])


@dataclass
class Histogram:
    """Durations by bucket. counts: one for each bound and one for what is above them all."""

    bounds: Sequence[float]
    counts: list[int] = field(init=False)
    sum: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        """Count one; a negative duration is the skew of two clocks and counts as none."""
        seconds = seconds if seconds > 0.0 else 0.0
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Pairs of upper bound and how many are at most that, as the text format wants them."""
        total, rows = 0, []
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            total += count
            rows.append(("+Inf" if math.isinf(bound) else str(float(bound)), float(total)))
        return rows


class Sheet:
    """The values of one moment. A figure put twice under the same labels has the later value."""

    def __init__(self, figures: Mapping[str, Figure] | None = None) -> None:
        self._figures = catalogue() if figures is None else figures
        self._values: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in self._figures}
        self._histograms: dict[str, dict[tuple[str, ...], Histogram]] = {name: {} for name in self._figures}

    def put(self, name: str, value: float | None, *labels: str) -> None:
        """Note a gauge or a counter. What is not known (None), and what is no number, is left out: a gap is honest, and NaN
        spoils every sum over it.

        raises FigureError: no such figure, a histogram, or labels of another number
        """
        self._check(name, labels, histogram=False)
        if value is not None and math.isfinite(value):
            self._values[name][tuple(map(_label, labels))] = float(value)

    def put_histogram(self, name: str, value: Histogram, *labels: str) -> None:
        """Note a histogram; errors as `put`."""
        self._check(name, labels, histogram=True)
        self._histograms[name][tuple(map(_label, labels))] = value

    def put_one_of(self, name: str, states: Sequence[str], present: str, *labels: str) -> None:
        """Note 1 under the present state and 0 under the others, the state being the last label."""
        for state in states:
            self.put(name, float(state == present), *labels, state)

    def families(self) -> Iterator[Metric]:
        """What was put, in the order of the catalogue; figures without a value are there with their help."""
        for name, figure in self._figures.items():
            if figure.kind == "histogram":
                histogram = HistogramMetricFamily(name, figure.help, labels=figure.labels)
                for labels, value in self._histograms[name].items():
                    histogram.add_metric(labels, value.cumulative(), value.sum)
                yield histogram
                continue
            family = (GaugeMetricFamily if figure.kind == "gauge" else CounterMetricFamily)(name, figure.help, labels=figure.labels)
            for labels, number in self._values[name].items():
                family.add_metric(labels, number)
            yield family

    def _check(self, name: str, labels: tuple[str, ...], *, histogram: bool) -> None:
        figure = self._figures.get(name)
        if figure is None:
            raise FigureError(f"no figure is called {name!r}")
        if (figure.kind == "histogram") != histogram:
            raise FigureError(f"{name} is a {figure.kind}")
        if len(labels) != len(figure.labels):
            raise FigureError(f"{name} takes the labels {figure.labels}, not {labels}")


def _label(text: str) -> str:
    """A label as it can be written: of bounded length, and UTF-8 whatever a source has called itself."""
    return text if len(text) <= MOST_LABEL and text.isascii() else text[:MOST_LABEL].encode("utf-8", "replace").decode("utf-8")


def page() -> str:
    """The catalogue as docs/metrics.md."""
    rows = [
        "# Metrics",
        "",
        "Every figure on `/metrics`, from [`exporters/figures.toml`](../exporters/figures.toml). Seconds, bytes, degrees Celsius and",
        "ratios of 0 to 1; no label has a value for each rank or device. Of a simulated cluster all times and rates are in simulated",
        "seconds, and `holdfast_simulated` is 1. Scrape with `honor_labels: true`: `job` and `instance` are those of the cluster.",
        "",
        "This page is written by `python -m exporters.figures > docs/metrics.md`.",
        "",
        "| figure | kind | labels | what it says |",
        "|---|---|---|---|",
    ]
    for name, figure in catalogue().items():
        labels = ", ".join(f"`{label}`" for label in figure.labels)
        rows.append(f"| `{name}` | {figure.kind} | {labels} | {figure.help} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(page(), end="")

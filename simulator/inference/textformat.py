"""Prometheus text pages written as the official Python client writes them: sorted labels, its numbers, its order of lines."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from simulator.inference.meter import Histogram

Labels = tuple[tuple[str, str], ...]


def number(value: float) -> str:
    """A sample's value as the client writes it: like Go, an exponent from ten million on."""
    text = repr(float(value))
    dot = text.find(".")
    if value > 0 and dot > 6 and "e" not in text:
        mantissa = f"{text[0]}.{text[1:dot]}{text[dot + 1 :]}".rstrip("0.")
        return f"{mantissa}e+{dot - 1:02d}"
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)


@lru_cache(maxsize=65_536)
def series(name: str, labels: Labels) -> str:
    """name{label="value",...} with the labels sorted and their values escaped."""
    if not labels:
        return name
    said = ",".join(f'{key}="{_escaped(value)}"' for key, value in sorted(labels))
    return f"{name}{{{said}}}"


@lru_cache(maxsize=16_384)
def buckets(name: str, labels: Labels, bounds: tuple[float, ...]) -> tuple[str, ...]:
    """The series of a histogram's buckets, +Inf last."""
    return tuple(series(f"{name}_bucket", (*labels, ("le", number(bound)))) for bound in (*bounds, float("inf")))


class Sheet:
    """A page under way. created: moment written as `_created` beside counters and histograms, None writes none (multi-process)."""

    def __init__(self, created: float | None) -> None:
        self._created = created
        self._lines: list[str] = []

    def text(self) -> str:
        """The page."""
        return "\n".join(self._lines) + "\n" if self._lines else ""

    def gauge(self, name: str, help: str, rows: Mapping[Labels, float]) -> None:
        self._head(name, "gauge", help)
        self._lines += [f"{series(name, labels)} {number(value)}" for labels, value in rows.items()]

    def counter(self, name: str, help: str, rows: Mapping[Labels, float], *, born: bool = True) -> None:
        """name: without `_total`, which is written; born: with its `_created` series, if the page has them."""
        self._head(f"{name}_total", "counter", help)
        self._lines += [f"{series(f'{name}_total', labels)} {number(value)}" for labels, value in rows.items()]
        if born:
            self._born(name, help, rows)

    def histogram(self, name: str, help: str, rows: Mapping[Labels, Histogram]) -> None:
        self._head(name, "histogram", help)
        for labels, histogram in rows.items():
            sums = histogram.sums().tolist()
            under = buckets(name, labels, tuple(histogram.bounds.tolist()))
            total = f"{series(f'{name}_sum', labels)} {number(histogram.total)}"
            count = f"{series(f'{name}_count', labels)} {number(sums[-1])}"
            lines, before, said = [], -1.0, ""
            for bucket, value in zip(under, sums, strict=True):
                if value != before:  # most buckets of a row hold the same
                    before, said = value, number(value)
                lines.append(f"{bucket} {said}")
            self._lines += [total, *lines, count] if self._created is None else [*lines, count, total]
        self._born(name, help, rows)

    def _born(self, name: str, help: str, rows: Iterable[Labels]) -> None:
        if self._created is not None:
            self._head(f"{name}_created", "gauge", help)
            moment = number(self._created)
            self._lines += [f"{series(f'{name}_created', labels)} {moment}" for labels in rows]

    def _head(self, name: str, kind: str, help: str) -> None:
        self._lines += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]


def with_labels(base: Labels, key: str, values: Sequence[tuple[str, float]]) -> dict[Labels, float]:
    """Rows that differ in one label."""
    return {(*base, (key, value)): reading for value, reading in values}


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

"""What an expression asks for: metrics, matchers, grouping labels; and what the catalogue of figures has."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("fleet", "job", "inference")

_SELECTOR = re.compile(r"(?<![\w:])(holdfast_\w+)(?![\w:])(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*\"([^\"]*)\"")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
_ENDINGS = ("_bucket", "_count", "_sum")

# What Grafana writes instead of its own words before it asks.
VARIABLES = {"$__rate_interval": "1m", "$__interval": "15s", "$__range": "1h"}


@dataclass(frozen=True)
class Figure:
    """A row of the catalogue."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...]


@dataclass(frozen=True)
class Selector:
    """A metric as it is asked for. matchers: (label, operator, value)"""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]


@cache
def figures() -> Mapping[str, Figure]:
    """The catalogue of every figure that is exported."""
    rows = tomllib.loads((ROOT / "exporters" / "figures.toml").read_text(encoding="utf-8"))
    return {
        name: Figure(name, row["kind"], tuple(row["labels"]), row["help"], tuple(row.get("buckets", ())))
        for name, row in rows.items()
    }


def figure_of(metric: str) -> Figure | None:
    """The figure that a series belongs to: a histogram by its three kinds of series, every other by its name."""
    whole = figures().get(metric)
    if whole is not None:
        return whole if whole.kind != "histogram" else None
    base = figures().get(next((metric.removesuffix(end) for end in _ENDINGS if metric.endswith(end)), metric))
    return base if base is not None and base.kind == "histogram" else None


def selectors(expr: str) -> list[Selector]:
    """Every metric of ours in the expression with its matchers."""
    found = ((name, inside or "") for name, inside in _SELECTOR.findall(expr))
    return [Selector(name, tuple(_MATCHER.findall(inside))) for name, inside in found]


def grouping(expr: str) -> set[str]:
    """The labels that the expression groups or joins by."""
    return {label.strip() for inside in _GROUPING.findall(expr) for label in inside.split(",") if label.strip()}


def plain(expr: str) -> str:
    """The expression as Grafana sends it, everything chosen."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return re.sub(r"\$\w+", ".+", expr)


@cache
def board(name: str) -> dict[str, Any]:
    """A committed dashboard."""
    read: dict[str, Any] = json.loads((ROOT / "dashboards" / f"{name}.json").read_text(encoding="utf-8"))
    return read


def panels(name: str) -> list[dict[str, Any]]:
    """The panels of a dashboard that show something, so without the headings of its rows."""
    return [panel for panel in board(name)["panels"] if panel["type"] != "row"]


def targets() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(dashboard, panel, target) for every expression of every dashboard."""
    for name in NAMES:
        for panel in panels(name):
            yield from ((name, panel, target) for target in panel["targets"])

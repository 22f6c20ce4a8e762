"""Builds Grafana panels: stat, timeseries, table, bars, heatmap, state timeline; their place is found in `layout.py`.

The classic dashboard model as Grafana 10 to 13 load it. Every panel has a title, a description and a unit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}

GREEN, BLUE, YELLOW, ORANGE, RED, PURPLE, GREY = "green", "blue", "yellow", "orange", "red", "purple", "#8e8e8e"

# From this value on, this colour; the first begins below all.
Thresholds = Sequence[tuple[float | None, str]]
NEUTRAL: Thresholds = ((None, BLUE),)
ANY_IS_BAD: Thresholds = ((None, GREEN), (1, RED))
ANY_IS_ODD: Thresholds = ((None, GREEN), (1, ORANGE))

# Value -> the word shown for it and its colour.
Words = Mapping[int, tuple[str, str]]


@dataclass(frozen=True)
class Query:
    """One PromQL expression. legend: template of a series' name; shown in a table it is the column's heading."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel that has no place yet. width: of 24 columns; height: in Grafana's rows of about 38 pixels."""

    title: str
    description: str
    width: int
    height: int
    body: Json


@dataclass(frozen=True, kw_only=True)
class Look:
    """How values are shown.

    unit: a Grafana unit id; low, high: ends of the scale, None: by the data; nothing: what is said where there is none
    """

    unit: str
    decimals: int | None = None
    low: float | None = None
    high: float | None = None
    thresholds: Thresholds = NEUTRAL
    words: Words | None = None
    nothing: str = "no data yet"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of figures in a table, beside the labels. expr: one value for each row"""

    heading: str
    expr: str
    look: Look


def stat(title: str, description: str, query: Query, look: Look, *, width: int = 3, height: int = 4) -> Panel:
    """One number for each series, its background in the colour of its threshold."""
    body = {
        "type": "stat",
        "targets": _targets([query], instant=False),
        "fieldConfig": {"defaults": _defaults(look), "overrides": []},
        "options": {
            "colorMode": "background" if look.thresholds is not NEUTRAL or look.words else "value",
            "graphMode": "none" if look.words else "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto",
        },
    }
    return Panel(title=title, description=description, width=width, height=height, body=body)


def timeseries(
    title: str, description: str, queries: Sequence[Query], look: Look, *,
    width: int = 8, height: int = 8, stacked: bool = False, stepped: bool = False, logarithmic: bool = False,
    colours: Mapping[str, str] | None = None,
) -> Panel:  # fmt: skip
    """Lines over time. stacked: areas on each other; colours: series name -> its colour where it has a meaning."""
    custom: Json = {
        "drawStyle": "line",
        "lineInterpolation": "stepAfter" if stepped else "linear",
        "lineWidth": 1,
        "fillOpacity": 40 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "scaleDistribution": {"type": "log", "log": 10} if logarithmic else {"type": "linear"},
        "thresholdsStyle": {"mode": "off" if len(look.thresholds) < 2 else "dashed"},
    }
    overrides = [
        _override("byName", name, {"color": {"mode": "fixed", "fixedColor": colour}})
        for name, colour in (colours or {}).items()
    ]
    body = {
        "type": "timeseries",
        "targets": _targets(queries, instant=False),
        "fieldConfig": {
            "defaults": {**_defaults(look), "color": {"mode": "palette-classic"}, "custom": custom},
            "overrides": overrides,
        },
        "options": {
            "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }
    return Panel(title=title, description=description, width=width, height=height, body=body)


def bars(title: str, description: str, query: Query, look: Look, *, width: int = 8, height: int = 8) -> Panel:
    """The latest value of each series as a horizontal bar."""
    body = {
        "type": "bargauge",
        "targets": _targets([query], instant=True),
        "fieldConfig": {"defaults": {"min": 0, **_defaults(look)}, "overrides": []},
        "options": {
            "displayMode": "basic",
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showUnfilled": True,
            "valueMode": "color",
        },
    }
    return Panel(title=title, description=description, width=width, height=height, body=body)


def heatmap(title: str, description: str, query: Query, look: Look, *, width: int = 8, height: int = 8) -> Panel:
    """How often values fell into each bucket of a histogram, over time; the unit is that of the buckets."""
    target = {**_targets([Query(query.expr, "{{le}}")], instant=False)[0], "format": "heatmap"}
    body = {
        "type": "heatmap",
        "targets": [target],
        "maxDataPoints": 60,
        "fieldConfig": {"defaults": _defaults(look), "overrides": []},
        "options": {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Oranges", "scale": "exponential", "exponent": 0.5, "steps": 64},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "tooltip": {"mode": "single", "yHistogram": False},
            "yAxis": {"axisPlacement": "left", "unit": look.unit},
        },
    }
    return Panel(title=title, description=description, width=width, height=height, body=body)


def states(title: str, description: str, query: Query, words: Words, *, width: int = 24, height: int = 6) -> Panel:
    """One line of coloured stretches for each series. The query's values are the keys of `words`."""
    look = Look(unit="none", words=words, thresholds=((None, GREY),), nothing="nothing to show yet")
    body = {
        "type": "state-timeline",
        "targets": _targets([query], instant=False),
        "fieldConfig": {
            "defaults": {**_defaults(look), "custom": {"fillOpacity": 80, "lineWidth": 0, "spanNulls": False}},
            "overrides": [],
        },
        "options": {
            "alignValue": "left",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "mergeValues": True,
            "rowHeight": 0.8,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
        },
    }
    return Panel(title=title, description=description, width=width, height=height, body=body)


def table(
    title: str, description: str, columns: Sequence[Column], *,
    labels: Sequence[str], width: int = 12, height: int = 8, links: Mapping[str, Sequence[Json]] | None = None,
    nothing: str = "nothing to show",
) -> Panel:  # fmt: skip
    """One row for each set of labels, one column for each expression.

    columns: with the same labels all, so that they meet in one row
    links: label -> data links of its cells
    """
    refs = [_ref(number) for number in range(len(columns))]
    values = ["Value"] if len(columns) == 1 else [f"Value #{ref}" for ref in refs]
    order = {name: place for place, name in enumerate((*labels, *values))}
    organise = {
        "excludeByName": {"Time": True},
        "indexByName": order,
        "renameByName": {value: column.heading for value, column in zip(values, columns, strict=True)},
    }
    overrides = [_override("byName", column.heading, _cells(column.look)) for column in columns]
    overrides += [_override("byName", label, {"links": list(cells)}) for label, cells in (links or {}).items()]
    body = {
        "type": "table",
        "targets": [
            {**target, "format": "table"}
            for target in _targets([Query(column.expr, column.heading) for column in columns], instant=True)
        ],
        "fieldConfig": {
            "defaults": {
                **_defaults(Look(unit="none", nothing=nothing)),
                "custom": {"align": "auto", "filterable": True},
            },
            "overrides": overrides,
        },
        "options": {"cellHeight": "sm", "showHeader": True},
        "transformations": [{"id": "merge", "options": {}}, {"id": "organize", "options": organise}],
    }
    return Panel(title=title, description=description, width=width, height=height, body=body)


def _defaults(look: Look) -> Json:
    steps = [{"color": colour, "value": value} for value, colour in look.thresholds]
    given = {"decimals": look.decimals, "min": look.low, "max": look.high}
    return {
        "unit": look.unit,
        "noValue": look.nothing,
        "color": {"mode": "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": _mappings(look.words or {}),
        **{name: value for name, value in given.items() if value is not None},
    }


def _cells(look: Look) -> Json:
    """The look of one column: coloured where the colour says something."""
    kind = "color-background" if look.words else "color-text" if look.thresholds is not NEUTRAL else "auto"
    return {**_defaults(look), "noValue": "-", "custom.cellOptions": {"type": kind}}


def _mappings(words: Words) -> list[Json]:
    options = {str(value): {"text": text, "color": colour, "index": value} for value, (text, colour) in words.items()}
    return [{"type": "value", "options": options}] if options else []


def _override(matcher: str, name: str, properties: Json) -> Json:
    rows = [{"id": key, "value": value} for key, value in properties.items()]
    return {"matcher": {"id": matcher, "options": name}, "properties": rows}


def _targets(queries: Sequence[Query], *, instant: bool) -> list[Json]:
    return [
        {
            "refId": _ref(number),
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "instant": instant,
            "range": not instant,
        }
        for number, query in enumerate(queries)
    ]


def _ref(number: int) -> str:
    return chr(ord("A") + number)

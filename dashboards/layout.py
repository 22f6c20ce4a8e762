"""Puts panels into rows of 24 columns and rows into a dashboard, with what all our dashboards share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dashboards.panels import DATASOURCE, ORANGE, RED, Json, Look, Panel, Query, stat

COLUMNS = 24
SCHEMA_VERSION = 39  # Grafana 10.4 and 11; newer ones migrate it when they load it
TAG = "holdfast"


@dataclass(frozen=True)
class Row:
    """Panels under one heading; they stand side by side as long as they fit."""

    title: str
    panels: Sequence[Panel]


def dashboard(
    uid: str, title: str, description: str, rows: Sequence[Row], *, variables: Sequence[Json] = (), since: str = "now-1h"
) -> Json:
    """The whole dashboard. uid: fixed, so that links and provisioning find it again; since: where its time begins."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": [TAG],
        "editable": False,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": since, "to": "now"},
        "timepicker": {"refresh_intervals": ["5s", "10s", "30s", "1m", "5m"]},
        "timezone": "browser",
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "annotations": {"list": [_annotations()]},
        "links": [_siblings()],
        "templating": {"list": [_datasource(), *variables]},
        "panels": list(placed(rows)),
    }


def placed(rows: Sequence[Row]) -> Iterator[Json]:
    """The panels with an id and a place each: left to right, and below when a line is full."""
    number, top = 0, 0
    for row in rows:
        number += 1
        yield _heading(row.title, number, top)
        left, top, tallest = 0, top + 1, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top, tallest = 0, top + tallest, 0
            number += 1
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            yield {
                "id": number,
                "title": panel.title,
                "description": panel.description,
                "datasource": DATASOURCE,
                "gridPos": place,
                **panel.body,
            }
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest


def variable(name: str, label: str, *, of: str, narrowed: str = "") -> Json:
    """A choice among the values of a label, several or all of them. of: metric; narrowed: matchers by other choices."""
    query = f"label_values({of}{{{narrowed}}}, {name})" if narrowed else f"label_values({of}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{name}"},
        "refresh": 2,  # when the time range changes: jobs and instances come and go
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "hide": 0,
    }


def simulated() -> Panel:
    """Says whether what is seen is a simulated cluster."""
    return stat(
        "Cluster",
        "SIMULATED when all that is shown is of a simulated cluster: its times and rates are in simulated seconds.",
        Query("max(holdfast_simulated)"),
        Look(unit="none", words={0: ("real", "#3d71d9"), 1: ("SIMULATED", ORANGE)}, nothing="SILENT"),
    )


def _datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "multi": False,
        "includeAll": False,
        "current": {},
        "options": [],
        "hide": 0,
    }


def _annotations() -> Json:
    """What Holdfast writes into Grafana's own store: a mark for each incident."""
    return {
        "name": "Holdfast",
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": False,
        "iconColor": RED,
        "target": {"type": "tags", "tags": [TAG], "matchAny": False, "limit": 100},
    }


def _siblings() -> Json:
    return {
        "title": "Holdfast",
        "type": "dashboards",
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _heading(title: str, number: int, top: int) -> Json:
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        "panels": [],
    }

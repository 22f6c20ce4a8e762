"""Every expression: only figures of the catalogue, understood by a real Prometheus, and finite or nothing as an answer."""

import json
import math
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from shutil import which
from typing import Any

import pytest
import yaml

from tests import servers
from tests.unit.dashboards.pages import END, page, values_of
from tests.unit.dashboards.promql import NAMES, ROOT, board, figure_of, grouping, panels, plain, selectors, targets

RULES = ROOT / "dashboards" / "holdfast.rules.yml"


def expressions() -> list[tuple[str, str]]:
    """(where it stands, expression) of all dashboards, of their choices and of all rules."""
    shown = [(f"{name}: {panel['title']}", target["expr"]) for name, panel, target in targets()]
    choices = [
        (f"{name}: choice {row['name']}", re.sub(r"label_values\((.*), \w+\)", r"\1", row["query"]["query"]))
        for name in NAMES
        for row in board(name)["templating"]["list"][1:]
    ]
    return [*shown, *choices, *rule_expressions()]


def rule_expressions() -> list[tuple[str, str]]:
    """(rule, expression), those that an alert's description asks too."""
    rules = [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
    texts = [(rule.get("alert", ""), text) for rule in rules for text in rule.get("annotations", {}).values()]
    asked = [(name, expr) for name, text in texts for expr in re.findall(r'query "([^"]*)"', text)]
    return [*((rule.get("alert") or rule["record"], rule["expr"]) for rule in rules), *asked]


@pytest.fixture(scope="module", params=["a busy cluster", "a cluster where nothing has happened yet"])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(world, URL): a Prometheus that holds some minutes of every figure."""
    if which("promtool") is None:
        pytest.skip("promtool is not installed")
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "page").write_text(page(busy="busy" in request.param), encoding="utf-8")
    words = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(folder / "page"), str(folder / "data")]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    with servers.prometheus(folder) as url:
        yield request.param, url


def answer(url: str, path: str, **words: str) -> Any:
    """What Prometheus says; raises HTTPError where it does not understand."""
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(words)}", timeout=10) as said:
        return json.load(said)["data"]


def test_prometheus_understands_every_expression(asked: tuple[str, str]) -> None:
    _, url = asked
    assert len(expressions()) > 100
    for _, expr in expressions():
        assert answer(url, "format_query", query=plain(expr))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_panel_asks_is_answered_with_finite_numbers(asked: tuple[str, str], name: str) -> None:
    world, url = asked
    for panel in panels(name):
        for target in panel["targets"]:
            rows = answer(url, "query", query=plain(target["expr"]), time=str(END))["result"]
            numbers = [float(row["value"][1]) for row in rows]
            assert all(math.isfinite(number) for number in numbers), (panel["title"], target["expr"], rows)
            assert numbers or "busy" not in world, (panel["title"], target["expr"])


@pytest.mark.parametrize("name", NAMES)
def test_series_that_meet_in_one_panel_have_names_of_their_own(asked: tuple[str, str], name: str) -> None:
    """Two lines with one legend cannot be told apart; in a table two rows with the same labels would be two."""
    _, url = asked
    for panel in (panel for panel in panels(name) if panel["type"] != "heatmap"):
        legends = []
        for target in panel["targets"]:
            rows = answer(url, "query", query=plain(target["expr"]), time=str(END))["result"]
            in_table = target.get("format") == "table"
            names = [legend("" if in_table else target["legendFormat"], row["metric"]) for row in rows]
            legends += [f"{target['refId']} {name}" for name in names] if in_table else names
        assert len(set(legends)) == len(legends), (panel["title"], legends)


def legend(template: str, labels: dict[str, str]) -> str:
    """The name of a series as Grafana makes it."""
    if template in ("", "__auto"):
        return str(sorted(labels.items()))
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), template)


@pytest.mark.parametrize("name", NAMES)
def test_a_label_in_a_legend_is_one_that_the_answer_has(name: str) -> None:
    for panel in panels(name):
        for target in panel["targets"]:
            told = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert told <= grouping(target["expr"]), (panel["title"], told)


@pytest.mark.parametrize(("where", "expr"), [pytest.param(*row, id=f"{i} {row[0]}") for i, row in enumerate(expressions())])
def test_an_expression_uses_the_catalogue_and_nothing_else(where: str, expr: str) -> None:
    used = selectors(expr)
    assert used, where
    known: set[str] = set()
    for selector in used:
        figure = figure_of(selector.metric)
        assert figure is not None, f"{where}: no figure called {selector.metric}"
        labels = {*figure.labels, *(("le",) if selector.metric.endswith("_bucket") else ())}
        known |= labels
        for label, operator, value in selector.matchers:
            assert label in labels, f"{where}: {selector.metric} has no label {label}"
            if not value.startswith("$"):
                values = value.split("|") if "~" in operator else [value]
                assert set(values) <= set(values_of(figure.name, label)), f"{where}: {label} is never {value}"
    assert grouping(expr) <= known, where


@pytest.mark.parametrize("name", NAMES)
def test_a_rate_is_over_the_rate_interval_and_a_raw_counter_says_since_when(name: str) -> None:
    """A rate over fixed time is wrong at some zoom; a counter shown as it is must be read as a sum since the start."""
    for panel in panels(name):
        for expr in (target["expr"] for target in panel["targets"]):
            windows = re.findall(r"\[([^\]]+)\]", expr)
            assert set(windows) <= {"$__rate_interval"}, (panel["title"], windows)
            counters = [s.metric for s in selectors(expr) if (figure := figure_of(s.metric)) and figure.kind != "gauge"]
            if counters and not windows and " offset " not in expr:
                assert "since the service started" in panel["description"].lower(), panel["title"]


@pytest.mark.parametrize(
    ("metric", "figure"),
    [
        pytest.param("holdfast_job_loss", "holdfast_job_loss", id="a gauge is asked for by its name"),
        pytest.param("holdfast_recovery_seconds_bucket", "holdfast_recovery_seconds", id="a histogram by its buckets"),
        pytest.param("holdfast_recovery_seconds_count", "holdfast_recovery_seconds", id="a histogram by its count"),
        pytest.param("holdfast_recovery_seconds", None, id="a histogram has no series of its bare name"),
        pytest.param("holdfast_job_loss_sum", None, id="a gauge has no sum"),
        pytest.param("holdfast_job_lost_seconds", None, id="a counter without its ending is none"),
    ],
)
def test_a_series_belongs_to_a_figure(metric: str, figure: str | None) -> None:
    found = figure_of(metric)
    assert (found.name if found else None) == figure

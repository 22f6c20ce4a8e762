"""The Prometheus rules: valid, tried out by promtool, and each alert with a paragraph for whoever it wakes."""

import re
import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml

from dashboards.rules import GROUPS, Alert
from tests.unit.dashboards.promql import ROOT

RULES = ROOT / "dashboards" / "holdfast.rules.yml"
CASES = Path(__file__).with_name("rules_test.yml")
ALERTS = [rule for group in GROUPS.values() for rule in group if isinstance(rule, Alert)]
DURATION = re.compile(r"\d+[smh]")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("check", "rules", str(RULES)), id="the rules are valid"),
        pytest.param(("test", "rules", str(CASES)), id="the alerts fire when they should"),
        pytest.param(("check", "config", str(ROOT / "deploy/prometheus.yml")), id="the containers' settings are valid"),
    ],
)
def test_promtool_agrees(words: tuple[str, ...]) -> None:
    if which("promtool") is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_holds_what_the_tables_say() -> None:
    """The YAML is written by hand of a program; a reader of YAML has to find the same in it."""
    groups = {group["name"]: group["rules"] for group in read(RULES)["groups"]}
    assert list(groups) == list(GROUPS)
    assert all(name.startswith("holdfast-") and name.endswith(".rules") for name in groups)
    for name, members in GROUPS.items():
        assert [row.get("alert") or row["record"] for row in groups[name]] == [member.name for member in members]
        assert [row["expr"] for row in groups[name]] == [member.expr for member in members]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_says_what_it_is_and_where_to_read_on(alert: Alert) -> None:
    row = next(row for group in read(RULES)["groups"] for row in group["rules"] if row.get("alert") == alert.name)
    assert row["labels"]["severity"] in ("critical", "warning", "info")
    assert set(row["annotations"]) == {"summary", "description", "runbook_url"}
    assert row["annotations"]["summary"].endswith(alert.summary)
    assert row["annotations"]["description"] == alert.description
    assert DURATION.fullmatch(row["for"])
    assert DURATION.fullmatch(row["keep_firing_for"])


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_has_a_paragraph_in_the_runbooks(alert: Alert) -> None:
    page, _, anchor = alert.runbook.partition("#")
    sections = re.split(r"^## ", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    texts = {title.lower(): text for title, _, text in (section.partition("\n") for section in sections)}
    assert texts[anchor].strip().lower().startswith(alert.severity)
    assert len(texts[anchor].split()) > 50


def test_the_runbooks_tell_of_no_alert_that_is_not_there() -> None:
    titles = re.findall(r"^## (.*)$", (ROOT / "docs/runbooks.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(titles) == sorted(alert.name for alert in ALERTS)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_is_tried_both_ways(alert: Alert) -> None:
    tried = [row for case in read(CASES)["tests"] for row in case["alert_rule_test"] if row["alertname"] == alert.name]
    assert {bool(row.get("exp_alerts")) for row in tried} == {True, False}

"""The dashboards as files: current, in Grafana's shape, and by the rules of Grafana's own linter that make sense here."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dashboards import generate
from dashboards.layout import COLUMNS, Row, placed
from dashboards.panels import Panel
from tests.unit.dashboards.promql import NAMES, ROOT, board, panels

# Of the ids of Grafana's valueFormats/categories.ts those that fit our figures.
UNITS = {"none", "short", "s", "percentunit", "celsius", "watt", "cps", "reqps"}
KINDS = {"stat", "timeseries", "table", "bargauge", "heatmap", "state-timeline"}


def test_what_is_committed_is_what_is_generated(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().out


def test_a_stale_file_is_shown_as_a_difference_and_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("dashboards", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    stale = tmp_path / "dashboards" / "job.json"
    current = stale.read_text(encoding="utf-8")
    stale.write_text(current.replace("holdfast-job", "something else"), encoding="utf-8")
    assert generate.main(["--check"], tmp_path) == 1
    said = capsys.readouterr().out
    assert '-  "uid": "something else",' in said
    assert '+  "uid": "holdfast-job",' in said
    assert stale.read_text(encoding="utf-8") != current, "a check changes nothing"
    assert generate.main([], tmp_path) == 0
    assert capsys.readouterr().out == "wrote dashboards/job.json\n"
    assert stale.read_text(encoding="utf-8") == current


def test_an_unknown_word_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--chek"]) == 2
    assert "usage" in capsys.readouterr().err


def test_a_page_without_a_place_for_a_table_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"docs/dashboards.md: no place for the panels of job"):
        generate.with_tables("# A page\n", {"job": board("job")})


def test_two_runs_give_the_same_bytes() -> None:
    assert generate.files() == generate.files()


def test_uids_are_fixed_and_one_each() -> None:
    assert [board(name)["uid"] for name in NAMES] == ["holdfast-fleet", "holdfast-job", "holdfast-inference"]


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_is_one_of_ours(name: str) -> None:
    whole = board(name)
    assert 39 <= whole["schemaVersion"] <= 41
    assert whole["title"].startswith("Holdfast: ")
    assert whole["description"]
    assert whole["refresh"] == "5s"
    assert whole["time"]["to"] == "now"
    assert whole["editable"] is False
    assert [link["tags"] for link in whole["links"]] == [["holdfast"]]
    assert "holdfast" in whole["tags"], "the links of the others find it by its tag"
    annotations = [row["target"]["tags"] for row in whole["annotations"]["list"] if row["datasource"]["type"] == "grafana"]
    assert annotations == [["holdfast"]]


@pytest.mark.parametrize("name", NAMES)
def test_the_first_choice_is_the_prometheus_and_the_others_ask_it(name: str) -> None:
    first, *others = board(name)["templating"]["list"]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    for other in others:
        assert other["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert other["refresh"] == 2, "asked anew when the time range changes"
        assert other["query"]["query"].startswith("label_values(holdfast_")
        assert (other["multi"], other["includeAll"], other["allValue"]) == (True, True, ".+")


@pytest.mark.parametrize(("name", "choices"), [("fleet", []), ("job", ["job"]), ("inference", ["service", "model", "instance"])])
def test_every_choice_is_used(name: str, choices: list[str]) -> None:
    offered = [row["name"] for row in board(name)["templating"]["list"]][1:]
    asked = "\n".join(target["expr"] for panel in panels(name) for target in panel["targets"])
    assert offered == choices
    assert [choice for choice in choices if f'{choice}=~"${choice}"' not in asked] == []


@pytest.mark.parametrize("name", NAMES)
def test_panels_stand_within_the_columns_and_do_not_overlap(name: str) -> None:
    assert clashes(board(name)["panels"]) == []


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_titles_are_one_each(name: str) -> None:
    ids = Counter(panel["id"] for panel in board(name)["panels"])
    titles = Counter(panel["title"] for panel in panels(name))
    assert [id for id, count in (ids | titles).items() if count > 1] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_says_what_it_shows_and_in_which_unit(name: str) -> None:
    for panel in panels(name):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["type"] in KINDS, panel["title"]
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert defaults["noValue"], panel["title"]
        units = [row["value"] for o in panel["fieldConfig"]["overrides"] for row in o["properties"] if row["id"] == "unit"]
        assert {defaults["unit"], *units} <= UNITS, panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_asks_the_chosen_prometheus(name: str) -> None:
    for panel in panels(name):
        assert panel["targets"], panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs), panel["title"]
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_a_table_shows_its_labels_and_every_column_by_its_heading(name: str) -> None:
    for panel in (panel for panel in panels(name) if panel["type"] == "table"):
        organise = panel["transformations"][-1]["options"]
        headings = list(organise["renameByName"].values())
        assert headings == [target["legendFormat"] for target in panel["targets"]]
        assert all(target["instant"] and target["format"] == "table" for target in panel["targets"])


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_says_when_the_cluster_is_simulated(name: str) -> None:
    first = panels(name)[0]
    words = first["fieldConfig"]["defaults"]["mappings"][0]["options"]
    assert first["targets"][0]["expr"] == "max(holdfast_simulated)"
    assert words["1"]["text"] == "SIMULATED"


@given(st.lists(st.lists(st.tuples(st.integers(1, COLUMNS), st.integers(1, 12)), max_size=12), max_size=6))
def test_panels_of_any_size_find_a_place_of_their_own(sizes: list[list[tuple[int, int]]]) -> None:
    rows = [Row("row", [Panel(title="p", description="", width=w, height=h, body={}) for w, h in row]) for row in sizes]
    found = list(placed(rows))
    assert len(found) == sum(len(row) + 1 for row in sizes)
    assert len({panel["id"] for panel in found}) == len(found)
    assert clashes(found) == []


def clashes(placed_panels: list[dict[str, Any]]) -> list[str]:
    """Panels that leave the columns or stand on a cell that another has taken."""
    taken: dict[tuple[int, int], str] = {}
    wrong = []
    for panel in placed_panels:
        place = panel["gridPos"]
        if place["x"] < 0 or place["x"] + place["w"] > COLUMNS or place["h"] < 1:
            wrong.append(f"{panel['title']} leaves the columns")
        cells = [(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])]
        wrong += [f"{panel['title']} stands on {taken[cell]}" for cell in cells if cell in taken]
        taken |= dict.fromkeys(cells, panel["title"])
    return wrong


def test_the_containers_find_the_files() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    provider = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/holdfast.yml").read_text(encoding="utf-8"))
    scraped = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text(encoding="utf-8"))
    assert f"./dashboards:{provider['providers'][0]['options']['path']}:ro" in services["grafana"]["volumes"]
    assert "./dashboards:/etc/prometheus/rules:ro" in services["prometheus"]["volumes"]
    assert scraped["rule_files"] == ["/etc/prometheus/rules/*.rules.yml"]
    ours = next(row for row in scraped["scrape_configs"] if row["job_name"] == "holdfast")
    assert ours["static_configs"] == [{"targets": ["holdfast:8642"]}]
    assert ours["honor_labels"] is True, "`job` is the training job and not the name of the scrape"
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert service["image"].rpartition(":")[2][-1].isdigit(), f"{name} is not pinned"

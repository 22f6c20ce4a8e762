"""A real Prometheus scrapes the running demo, and every expression of every dashboard has finite data."""

import json
import math
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.jobs import HOLDFAST
from tests.servers import prometheus
from tests.unit.dashboards.promql import plain, targets

_CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: holdfast
    honor_labels: true
    static_configs: [{{targets: ["{host}"]}}]
"""

# Real seconds until there has been something of everything: a fault that was repaired, and one that stands.
_PATIENCE_S = 150.0


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[str]:
    """The address of a running demo."""
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen([*HOLDFAST, "demo", "--port", "0", "--seed", "1"], stdout=said, stderr=said, cwd=tmp_path)
    try:
        until = time.monotonic() + 60.0
        while not (address := re.search(r"http://(127\.0\.0\.1:\d+)/", (tmp_path / "said").read_text())):
            assert process.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < until
            time.sleep(0.2)
        yield address.group(1)
    finally:
        process.terminate()
        process.wait(20)


def asked(url: str, expr: str) -> list[tuple[str, float]]:
    """What Prometheus answers now: (labels, value) of each series."""
    query = urllib.parse.urlencode({"query": expr})
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=20) as answer:
        data: dict[str, Any] = json.load(answer)["data"]
    rows = [data["result"]] if data["resultType"] == "scalar" else [row["value"] for row in data["result"]]
    return [("", float(value)) for _, value in rows]


@pytest.mark.timeout(400)
def test_every_expression_of_every_dashboard_has_finite_data(tmp_path: Path, demo: str) -> None:
    wanted = {plain(target["expr"]): f"{name}: {panel['title']}" for name, panel, target in targets()}
    assert len(wanted) > 40
    with prometheus(tmp_path / "prometheus", _CONFIG.format(host=demo)) as url:
        until = time.monotonic() + _PATIENCE_S
        empty = dict(wanted)
        while empty and time.monotonic() < until:
            time.sleep(2.0)
            found = {expr: [value for _, value in asked(url, expr)] for expr in empty}
            unreal = {empty[expr]: values for expr, values in found.items() if not all(map(math.isfinite, values))}
            assert unreal == {}
            empty = {expr: where for expr, where in empty.items() if not found[expr]}
        assert sorted(empty.values()) == []
        assert asked(url, "up") == [("", 1.0)]
        # rates are in simulated time: a healthy job's tokens per second are those of its shape
        (fastest,) = asked(url, "max(max_over_time(holdfast_job_tokens_per_second[2m]))")
        assert 1e5 < fastest[1] < 1e7

"""With a real Prometheus: it scrapes the page while a simulated cluster runs, and answers with what happened there."""

import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from exporters.prometheus import Prometheus
from holdfast.journal import Journal
from holdfast.simulation import Simulation, settings
from simulator.scenario import FaultRow, JobRow, Scenario, ServiceRow, make
from simulator.sweep import SWEEP_S, Sweep
from tests.servers import prometheus
from tests.unit.exporters.scraped import values_of

WAIT_S = 60.0
SCENARIO = Scenario(
    nodes=6, seed=5, lasting_s=600.0, job=(JobRow(name="llama", nodes=2, step_s=4.0),),
    service=(ServiceRow(name="chat", model="llama-8b"),), fault=(FaultRow(kind="process_crash", at_s=120.0, job="llama", rank=3),),
)  # fmt: skip
CONFIG = """
global: {scrape_interval: 200ms, scrape_timeout: 200ms}
scrape_configs:
  - job_name: holdfast
    honor_labels: true
    static_configs: [{targets: ["ADDRESS"]}]
"""


NODES = Scenario(
    nodes=64, seed=5, job=(JobRow(name="llama", nodes=48, step_s=4.0, pp=4),), service=(ServiceRow(name="chat", model="llama-8b"),)
)  # fmt: skip


@contextmanager
def serving(page: Callable[[str], bytes | None]) -> Iterator[str]:
    """A page by the path that is asked for, None: there is none; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the output of the tests clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def simulation(tmp_path: Path) -> Iterator[Simulation]:
    path = tmp_path / "journal.sqlite"
    made = Simulation(SCENARIO, Journal(path, snapshots_kept=0), settings(path))
    yield made
    made.journal.close()


def answer(url: str, path: str, **query: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as said:
        return json.load(said)["data"]


def value(url: str, expression: str) -> float | None:
    """The one value of an expression now; None where it has none."""
    found = answer(url, "query", query=expression)["result"]
    assert len(found) <= 1
    return float(found[0]["value"][1]) if found else None


def wait_for(url: str, expression: str) -> float:
    """The value of an expression as soon as it has one."""
    until = time.monotonic() + WAIT_S
    while (found := value(url, expression)) is None and time.monotonic() < until:
        time.sleep(0.1)
    assert found is not None, f"no data: {expression}"
    return found


def test_a_simulated_cluster_is_scraped(simulation: Simulation, tmp_path: Path) -> None:
    exporter = Prometheus(simulated=True)
    simulation.parts.pipeline.exporters = (*simulation.parts.pipeline.exporters, exporter)
    with serving(lambda path: exporter.page()) as address, prometheus(tmp_path / "prometheus", CONFIG.replace("ADDRESS", address)) as url:
        while simulation.now - simulation.start < 100:
            simulation.step()
        assert wait_for(url, 'holdfast_job_tokens_per_second{job="llama"} > 0') > 0
        while simulation.now - simulation.start < 400:
            simulation.step()
        last = values_of(exporter.page())['holdfast_job_step{job="llama"}']
        assert wait_for(url, f'holdfast_job_step{{job="llama"}} == {last:.0f}') == last
        assert value(url, 'holdfast_job_interruptions_total{job="llama"}') == 1
        assert value(url, 'up{job="holdfast"}') == 1
        (target,) = answer(url, "targets")["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        assert value(url, "holdfast_simulated") == 1
        assert value(url, 'holdfast_job_state{job="llama",state="running"}') == 1
        assert 0 < wait_for(url, 'holdfast_job_effective_training_ratio{job="llama"}') < 1
        lost = wait_for(url, "sum(holdfast_job_lost_seconds_total)")
        assert lost >= 20  # the simulated scheduler takes that long to start the job again
        assert value(url, "histogram_quantile(0.5, sum by (le) (holdfast_recovery_seconds_bucket))") is not None
        assert wait_for(url, "sum(holdfast_serving_tokens_per_second)") > 0
        assert wait_for(url, "count(count by (__name__) ({__name__=~'holdfast_.+'}))") > 50
        assert "Error on ingesting" not in (tmp_path / "prometheus" / "log").read_text(encoding="utf-8")


def test_every_exporter_of_64_simulated_nodes_is_scraped(tmp_path: Path) -> None:
    world = make(NODES)
    world.advance(world.cluster.now + 4 * SWEEP_S)
    pages = {f"/{page.source}": (page.text or "").encode() for page in Sweep(world).now()[0]}
    assert len(pages) == 2 * 64 + 1
    with serving(pages.get) as address:
        targets = "".join(f'      - {{targets: ["{address}"], labels: {{__metrics_path__: "{path}", page: "{path}"}}}}\n' for path in pages)
        config = f"global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: nodes\n    static_configs:\n{targets}"
        with prometheus(tmp_path / "prometheus", config) as url:
            assert wait_for(url, f"sum(up) == {len(pages)}") == len(pages)
            assert wait_for(url, "count(DCGM_FI_DEV_GPU_TEMP) == 512") == 512
            assert value(url, "count(node_infiniband_state_id == 4)") == 512
            assert value(url, "count(node_load1)") == 64
            assert value(url, 'sum(scrape_samples_scraped{page=~"/dcgm.*"})') == 64 * 8 * 20
        assert "Error on ingesting" not in (tmp_path / "prometheus" / "log").read_text(encoding="utf-8")

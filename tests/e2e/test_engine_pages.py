"""With a real Prometheus: it scrapes simulated engines, vLLM's and SGLang's, and finds in them what they say."""

import time
from pathlib import Path

import msgspec

from simulator.inference import sglang, vllm
from simulator.inference.arrivals import Load
from simulator.inference.deployment import Deployment
from simulator.inference.lengths import Lengths
from simulator.inference.spec import Pace, ServiceSpec, deployment
from tests.e2e.test_prometheus import serving, value, wait_for
from tests.servers import prometheus

SPEC = ServiceSpec(
    mode="events", pace=Pace(overhead_s=0.05), load=Load(rate=4.0, prompt=Lengths(mean=700), output=Lengths(mean=60)),
)  # fmt: skip
CONFIG = """
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - {job_name: vllm, metrics_path: /vllm, static_configs: [{targets: ["ADDRESS"]}]}
  - {job_name: sglang, metrics_path: /sglang, static_configs: [{targets: ["ADDRESS"]}]}
"""
WRITERS = {"vllm": vllm.page, "sglang": sglang.page}


def lived(engine: str) -> Deployment:
    spec = msgspec.structs.replace(SPEC, engine=engine)
    served = deployment(spec, ["e0"], seed=1, name=engine, begin=time.time() - 60.0)
    served.run(served.now + 30.0)
    return served


def test_engines_are_scraped(tmp_path: Path) -> None:
    shown = {engine: lived(engine) for engine in WRITERS}
    pages = {f"/{name}": WRITERS[name](served.engines[0].view("m"), now=served.now).encode() for name, served in shown.items()}
    with serving(pages.get) as address, prometheus(tmp_path / "prometheus", CONFIG.replace("ADDRESS", address)) as url:
        for engine, served in shown.items():
            meter = served.engines[0].meter
            count = wait_for(url, f'sum({{__name__="{engine}:time_to_first_token_seconds_count"}})')
            assert count == meter.histograms["ttft"].count
            assert value(url, f'up{{job="{engine}"}}') == 1
            name = f"{engine}:inter_token_latency_seconds_bucket"
            median = value(url, f'histogram_quantile(0.5, sum by (le) ({{__name__="{name}"}}))')
            assert median is not None
            assert 0.03 < median < 0.2
            assert wait_for(url, f'sum({{__name__="{engine}:generation_tokens_total"}})') > 0
    assert "Error on ingesting" not in (tmp_path / "prometheus" / "log").read_text(encoding="utf-8")

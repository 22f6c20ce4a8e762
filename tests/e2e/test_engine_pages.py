"""With a real Prometheus: it scrapes simulated engines, vLLM's and SGLang's, and finds in them what they say."""

import time
from pathlib import Path

import msgspec

from simulator.inference import sglang, vllm
from simulator.inference.arrivals import Load
from simulator.inference.lengths import Lengths
from simulator.inference.spec import Pace, ServiceSpec, deployment
from tests.e2e.test_prometheus import serving, value, wait_for
from tests.servers import prometheus

SPEC = ServiceSpec(
    mode="events", pace=Pace(overhead_s=0.05), load=Load(rate=4.0, prompt=Lengths(mean=700), output=Lengths(mean=60)),
)  # fmt: skip
CONFIG = """
global: {scrape_interval: 200ms, scrape_timeout: 200ms}
scrape_configs:
  - job_name: vllm
    static_configs: [{targets: ["VLLM"]}]
  - job_name: sglang
    static_configs: [{targets: ["SGLANG"]}]
"""
WRITERS = {"vllm": vllm.page, "sglang": sglang.page}


class Shown:
    """A page that stays as it is."""

    def __init__(self, engine: str) -> None:
        spec = msgspec.structs.replace(SPEC, engine=engine)
        self.served = deployment(spec, ["e0"], seed=1, name=engine, begin=time.time() - 60.0)
        self.served.run(self.served.now + 30.0)
        self.text = WRITERS[engine](self.served.engines[0].view("m"), now=self.served.now)

    def page(self) -> bytes:
        return self.text.encode()


def test_engines_are_scraped(tmp_path: Path) -> None:
    shown = {engine: Shown(engine) for engine in WRITERS}
    with serving(shown["vllm"]) as one, serving(shown["sglang"]) as two:
        config = CONFIG.replace("VLLM", one).replace("SGLANG", two)
        with prometheus(tmp_path / "prometheus", config) as url:
            for engine, page in shown.items():
                meter = page.served.engines[0].meter
                count = wait_for(url, f'sum({{__name__="{engine}:time_to_first_token_seconds_count"}})')
                assert count == meter.histograms["ttft"].count
                assert value(url, f'up{{job="{engine}"}}') == 1
                name = f"{engine}:inter_token_latency_seconds_bucket"
                median = value(url, f'histogram_quantile(0.5, sum by (le) ({{__name__="{name}"}}))')
                assert median is not None
                assert 0.03 < median < 0.2
                assert wait_for(url, f'sum({{__name__="{engine}:generation_tokens_total"}})') > 0
        assert "Error on ingesting" not in (tmp_path / "prometheus" / "log").read_text(encoding="utf-8")

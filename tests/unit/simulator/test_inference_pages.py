"""Pages as vLLM and SGLang write them: in the client library's form, with the originals' names, and linted as they are."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from shutil import which

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from collectors.aliases import aliases
from collectors.exposition import Page, parse_page
from simulator.inference import sglang, vllm
from simulator.inference.arrivals import Load
from simulator.inference.deployment import Deployment
from simulator.inference.lengths import Lengths
from simulator.inference.limits import Limits
from simulator.inference.spec import Pace, ServiceSpec, deployment
from simulator.inference.textformat import number
from simulator.inference.view import SIGNALS, readings

BEGIN = 1_800_000_000.0
SPEC = ServiceSpec(
    mode="events", limits=Limits(blocks=600, jitter=0.0), pace=Pace(overhead_s=0.05),
    load=Load(rate=4.0, prompt=Lengths(mean=700), output=Lengths(mean=60)),
)  # fmt: skip
WRITERS = {"vllm": vllm.page, "sglang": sglang.page}
ENGINE = ("model_name", "engine")
RANKS = ("model_name", "engine_type", "tp_rank", "pp_rank", "moe_ep_rank")
LATENCY = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680]
FIRST = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560]
TOKEN = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80]
SG_FIRST = [0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400]
SG_TOKEN = [
    0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8,
]  # fmt: skip


def lived(engine: str, *, seconds: float = 40.0, instances: int = 1, prefill: int = 0) -> Deployment:
    spec = msgspec.structs.replace(SPEC, engine=engine, prefill=prefill)
    served = deployment(spec, [f"e{n}" for n in range(instances)], seed=2, name="chat", begin=BEGIN)
    served.run(BEGIN + seconds)
    return served


def page_of(engine: str, *, model: str = "m", place: int = 0, **how: float) -> str:
    served = lived(engine, **how)  # type: ignore[arg-type]
    return WRITERS[engine](served.engines[place].view(model), now=served.now)


class Written(Collector):
    """Families as they were read from a page, for the client library to write."""

    def __init__(self, page: str) -> None:
        self.families = list(text_string_to_metric_families(page))

    def collect(self) -> Iterator[Metric]:
        yield from self.families


# --- the form


@pytest.mark.parametrize("model", ["llama", 'back\\slash, "quote"\nand line'], ids=["a name", "a name to escape"])
def test_the_client_library_would_write_the_page_letter_for_letter(model: str) -> None:
    page = page_of("vllm", model=model)
    registry = CollectorRegistry()
    registry.register(Written(page))
    assert generate_latest(registry).decode() == page


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 123456.0, 1e6, 1234567.0, 12345678.5, 1.8e9, 1e21, 1e-7, float("inf")])
def test_numbers_are_those_of_the_client_library(value: float) -> None:
    registry = CollectorRegistry()
    Gauge("x", "x", registry=registry).set(value)
    assert generate_latest(registry).decode().splitlines()[-1] == f"x {number(value)}"


# --- the originals, as their sources declare them


@dataclass(frozen=True)
class Declared:
    """A metric of an original."""

    kind: type[Counter] | type[Gauge] | type[Histogram]
    names: Sequence[str]
    labels: tuple[str, ...] = ENGINE
    bounds: Sequence[float] = ()


ORIGINALS = {
    "vllm": (
        Declared(Gauge, ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"]),
        Declared(Gauge, ["num_requests_waiting_by_reason"], (*ENGINE, "reason")),
        Declared(Gauge, ["engine_sleep_state"], (*ENGINE, "sleep_state")),
        Declared(Counter, [
            "prefix_cache_queries", "prefix_cache_hits", "external_prefix_cache_queries", "external_prefix_cache_hits",
            "mm_cache_queries", "mm_cache_hits", "num_preemptions", "prompt_tokens", "prompt_tokens_cached", "prompt_tokens_recomputed",
            "generation_tokens",
        ]),
        Declared(Counter, ["prompt_tokens_by_source"], (*ENGINE, "source")),
        Declared(Counter, ["request_success"], (*ENGINE, "finished_reason")),
        Declared(Histogram, ["time_to_first_token_seconds"], bounds=FIRST),
        Declared(Histogram, ["inter_token_latency_seconds", "request_time_per_output_token_seconds"], bounds=TOKEN),
        Declared(Histogram, [
            "e2e_request_latency_seconds", "request_queue_time_seconds", "request_inference_time_seconds",
            "request_prefill_time_seconds", "request_decode_time_seconds",
        ], bounds=LATENCY),
        Declared(Histogram, ["iteration_tokens_total"], bounds=[1, *(8 * 2**n for n in range(12))]),
        Declared(Histogram, ["request_params_n"], bounds=[1, 2, 5, 10, 20]),
        Declared(Histogram, ["request_num_preemptions"], bounds=[1, 2, 3, 4, 5, 10, 20]),
        Declared(Histogram, [
            "request_prompt_tokens", "request_generation_tokens", "request_max_num_generation_tokens", "request_params_max_tokens",
            "request_prefill_kv_computed_tokens",
        ], bounds=[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000]),
    ),
    "sglang": (
        Declared(Gauge, [
            "num_running_reqs", "num_queue_reqs", "gen_throughput", "cache_hit_rate", "token_usage", "num_used_tokens", "utilization",
            "num_prefill_bootstrap_queue_reqs", "num_prefill_inflight_queue_reqs", "num_decode_prealloc_queue_reqs",
            "num_decode_transfer_queue_reqs", "spec_accept_length", "max_total_num_tokens", "kv_available_tokens", "is_cuda_graph",
            "new_token_ratio", "page_size", "context_len", "kv_cache_memory_usage_gb",
        ], RANKS),
        Declared(Gauge, ["num_retracted_reqs", "num_paused_reqs"], (*RANKS, "pid")),
        Declared(Counter, ["prompt_tokens", "generation_tokens", "num_requests"], ("model_name", "is_streaming")),
        Declared(Counter, ["num_retracted_requests"], RANKS),
        Declared(Counter, ["realtime_tokens"], (*RANKS, "mode")),
        Declared(Histogram, ["time_to_first_token_seconds"], ("model_name", "is_streaming"), SG_FIRST),
        Declared(Histogram, ["e2e_request_latency_seconds"], ("model_name", "is_streaming"), [*SG_FIRST, 600, 1200, 1800, 2400]),
        Declared(Histogram, ["inter_token_latency_seconds"], ("model_name",), SG_TOKEN),
    ),
}  # fmt: skip


def original(engine: str) -> str:
    """A page of the original's declarations with nothing counted yet, as its client library writes it."""
    registry = CollectorRegistry()
    for row in ORIGINALS[engine]:
        for name in row.names:
            full = f"{engine}:{name}"
            metric: Counter | Gauge | Histogram
            if row.kind is Histogram:
                metric = Histogram(full, "help", row.labels, registry=registry, buckets=row.bounds)
            else:
                metric = row.kind(full, "help", row.labels, registry=registry)
            metric.labels(*["x"] * len(row.labels))
    text = generate_latest(registry).decode()
    if engine == "vllm":
        return text
    return "\n".join(line for line in text.splitlines() if "_created" not in line) + "\n"


def shapes(page: str) -> dict[tuple[str, str], set[tuple[str, ...]]]:
    """(sample name, type of its family) -> names of its labels, the bounds of buckets among them."""
    found: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            names = sorted(f"le={labels}" if key == "le" else key for key, labels in sample.labels.items())
            found.setdefault((sample.name, family.type), set()).add(tuple(names))
    return found


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_names_types_labels_and_buckets_are_the_original_ones(engine: str) -> None:
    ours, theirs = shapes(page_of(engine)), shapes(original(engine))
    assert {key: ours.get(key) for key in theirs} == theirs
    if engine == "vllm":
        rest = {name for name, _ in ours.keys() - theirs.keys()}
        assert {name for name in rest if not name.startswith(("python_", "process_"))} == {"vllm:cache_config_info"}


def linted(page: str) -> tuple[int, set[str]]:
    if which("promtool") is None:
        pytest.skip("promtool is not installed")
    said = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, timeout=30)
    return said.returncode, {line for line in (said.stdout + said.stderr).splitlines() if line.strip()}


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_promtool_says_of_the_page_what_it_says_of_the_original(engine: str) -> None:
    (status, ours), (original_status, theirs) = linted(page_of(engine)), linted(original(engine))
    named = {f"{engine}:{name}" for row in ORIGINALS[engine] for name in row.names}
    known = {word for name in named for word in (name, f"{name}_total", f"{name}_created")}
    assert {line for line in ours if line.split()[0] in known} == theirs
    assert status == original_status


# --- what stands in it


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("seconds", [0.01, 0.5, 40.0], ids=["before any request", "before any has ended", "after many"])
def test_readings_are_those_that_a_collector_reads(engine: str, seconds: float) -> None:
    served = lived(engine, seconds=seconds)
    view = served.engines[0].view("m")
    (table,) = parse_page(Page("engine:e0", WRITERS[engine](view, now=served.now)), names=aliases(), at=served.now)
    read = {name: value for name, value in zip(table.signals, table.values[0].tolist(), strict=True) if name in SIGNALS}
    told = {name: value for name, value in zip(SIGNALS, readings(view), strict=True) if not np.isnan(value)}
    assert read == pytest.approx(told)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_histograms_hold_together(engine: str) -> None:
    for family in text_string_to_metric_families(page_of(engine)):
        if family.type == "histogram":
            counts = [sample.value for sample in family.samples if sample.name.endswith("_bucket")]
            (count,) = (sample.value for sample in family.samples if sample.name.endswith("_count"))
            assert counts == sorted(counts)
            assert counts[-1] == count


def test_roles_are_told_apart() -> None:
    served = lived("sglang", instances=3, prefill=1)
    pages = [sglang.page(engine.view("m"), now=served.now) for engine in served.engines]
    assert [f'engine_type="{role}"' in page for page, role in zip(pages, ("prefill", "decode", "decode"), strict=True)] == [True] * 3
    moved = vllm.page(lived("vllm", instances=3, prefill=1).engines[1].view("m"), now=BEGIN)
    assert 'vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="external_kv_transfer"} 0.0' not in moved


def test_preemptions_show() -> None:
    families = {family.name: family for family in text_string_to_metric_families(page_of("vllm", seconds=60.0))}
    assert families["vllm:num_preemptions"].samples[0].value > 0

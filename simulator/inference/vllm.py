"""vLLM's /metrics page: names, types, labels and buckets of its V1 engine, release 0.30.

Source: `PrometheusStatLogger` in vllm/v1/metrics/loggers.py and the bounds in buckets.py, read in 2026. The help texts are our own. What
the page says of a served request it says in the client library's words, `_created` series included; the web server's `http_*` metrics,
LoRA, multi-modal caches and speculative decoding are left out.
"""

from simulator.inference.meter import Histogram, one_two_five, shares_of
from simulator.inference.textformat import Labels, Sheet, with_labels
from simulator.inference.view import View

_HISTOGRAMS = (
    ("request_prompt_tokens", "Prompt tokens of an ended request.", "prompt"),
    ("request_generation_tokens", "Output tokens of an ended request.", "output"),
    ("iteration_tokens_total", "Tokens computed in one engine step.", "iteration_tokens"),
    ("request_max_num_generation_tokens", "Longest output that was asked for.", "output"),
    ("request_params_n", "Parameter n of a request.", "n"),
    ("request_params_max_tokens", "Parameter max_tokens of a request.", "output"),
    ("request_num_preemptions", "How often an ended request was preempted.", "preemptions"),
    ("time_to_first_token_seconds", "Seconds from arrival to the first token.", "ttft"),
    ("inter_token_latency_seconds", "Seconds between two outputs of a request.", "itl"),
    ("request_time_per_output_token_seconds", "Mean seconds per output token of an ended request.", "tpot"),
    ("e2e_request_latency_seconds", "Seconds from arrival to the end of a request.", "e2e"),
    ("request_queue_time_seconds", "Seconds that a request waited.", "queue"),
    ("request_inference_time_seconds", "Seconds that a request was running.", "inference"),
    ("request_prefill_time_seconds", "Seconds from the first step of a request to its first token.", "prefill"),
    ("request_decode_time_seconds", "Seconds from the first token of a request to its last.", "decode"),
    ("request_prefill_kv_computed_tokens", "Prompt tokens of a request that were not found in a cache.", "computed"),
)


def page(view: View, *, now: float) -> str:
    """The page of one instance, engine "0" of its process."""
    base: Labels = (("model_name", view.model), ("engine", "0"))
    sheet, meter = Sheet(view.meter.began_at), view.meter
    _process(sheet, view, now)
    _gauges(sheet, view, base)
    local = meter.prompt_tokens - meter.cached_tokens - meter.transferred_tokens
    external = meter.transferred_tokens
    sources = (("local_compute", local), ("local_cache_hit", meter.cached_tokens), ("external_kv_transfer", external))
    connector = view.role != "both"
    counters: tuple[tuple[str, str, dict[Labels, float]], ...] = (
        ("prefix_cache_queries", "Tokens looked up in the prefix cache.", {base: meter.queried_tokens}),
        ("prefix_cache_hits", "Tokens found in the prefix cache.", {base: meter.cached_tokens}),
        ("external_prefix_cache_queries", "Tokens looked up in other instances' caches.", {base: external if connector else 0.0}),
        ("external_prefix_cache_hits", "Tokens found in other instances' caches.", {base: external if connector else 0.0}),
        ("mm_cache_queries", "Items looked up in the multi-modal cache.", {base: 0.0}),
        ("mm_cache_hits", "Items found in the multi-modal cache.", {base: 0.0}),
        ("num_preemptions", "Requests preempted since the start.", {base: meter.preemptions}),
        ("prompt_tokens", "Prompt tokens since the start.", {base: meter.prompt_tokens}),
        ("prompt_tokens_by_source", "Prompt tokens by where their KV came from.", with_labels(base, "source", sources)),
        ("prompt_tokens_cached", "Prompt tokens that were found in a cache.", {base: meter.cached_tokens + external}),
        ("prompt_tokens_recomputed", "Cached tokens computed once more.", {base: 0.0}),
        ("generation_tokens", "Output tokens since the start.", {base: meter.generated_tokens}),
        ("request_success", "Requests ended since the start.", with_labels(base, "finished_reason", tuple(meter.ended.items()))),
    )
    for name, help, rows in counters:
        sheet.counter(f"vllm:{name}", help, {labels: float(int(value)) for labels, value in rows.items()})
    histograms = meter.histograms | {"n": _ones(meter.histograms["output"].count)}
    for name, help, key in _HISTOGRAMS:
        sheet.histogram(f"vllm:{name}", help, {base: histograms[key]})
    _config(sheet, view)
    return sheet.text()


def _gauges(sheet: Sheet, view: View, base: Labels) -> None:
    deferred = float(view.coming)
    sheet.gauge("vllm:num_requests_running", "Requests in the running batch.", {base: float(view.running)})
    sheet.gauge("vllm:num_requests_waiting", "Requests that wait.", {base: float(view.waiting) + deferred})
    reasons = (("capacity", float(view.waiting)), ("deferred", deferred))
    sheet.gauge("vllm:num_requests_waiting_by_reason", "Requests that wait, by reason.", with_labels(base, "reason", reasons))
    sleep = (("awake", 1.0), ("weights_offloaded", 0.0), ("discard_all", 0.0))
    sheet.gauge("vllm:engine_sleep_state", "Which state of sleep the engine is in.", with_labels(base, "sleep_state", sleep))
    sheet.gauge("vllm:kv_cache_usage_perc", "Share of KV blocks in use, 1 is all.", {base: view.kv_use})


def _process(sheet: Sheet, view: View, now: float) -> None:
    """What the client library says of every Python process."""
    lived_s = max(0.0, now - view.meter.began_at)
    for name, help, per_s in (
        ("python_gc_objects_collected", "Objects freed by the garbage collector.", (9.0, 1.1, 0.2)),
        ("python_gc_objects_uncollectable", "Objects the garbage collector found and could not free.", (0.0, 0.0, 0.0)),
        ("python_gc_collections", "Runs of the garbage collector, by generation.", (0.06, 0.005, 0.0004)),
    ):
        rows = [(str(generation), float(int(lived_s * rate))) for generation, rate in enumerate(per_s)]
        sheet.counter(name, help, with_labels((), "generation", rows), born=False)
    info = (("implementation", "CPython"), ("major", "3"), ("minor", "12"), ("patchlevel", "11"), ("version", "3.12.11"))
    sheet.gauge("python_info", "Which Python this is.", {info: 1.0})
    sheet.gauge("process_virtual_memory_bytes", "Virtual memory in bytes.", {(): 9.1e9})
    sheet.gauge("process_resident_memory_bytes", "Resident memory in bytes.", {(): 1.4e9 + 4096.0 * view.running})
    sheet.gauge("process_start_time_seconds", "When the process began, in Unix seconds.", {(): view.meter.began_at})
    sheet.counter("process_cpu_seconds", "Seconds of CPU used.", {(): round(1.2 * lived_s, 2)}, born=False)
    sheet.gauge("process_open_fds", "Open file descriptors.", {(): 64.0 + view.running + view.waiting})
    sheet.gauge("process_max_fds", "Most file descriptors that may be open.", {(): 1048576.0})


def _config(sheet: Sheet, view: View) -> None:
    limits = view.limits
    labels: Labels = (
        ("block_size", str(limits.block_size)), ("cache_dtype", "auto"), ("enable_prefix_caching", "True"), ("engine", "0"),
        ("gpu_memory_utilization", "0.9"), ("is_attention_free", "False"), ("kv_cache_memory_bytes", "None"),
        ("kv_cache_size_tokens", str(view.blocks * limits.block_size)), ("num_cpu_blocks", "None"), ("num_gpu_blocks", str(view.blocks)),
        ("num_gpu_blocks_override", "None"), ("prefix_caching_hash_algo", "sha256"), ("sliding_window", "None"),
    )  # fmt: skip
    sheet.gauge("vllm:cache_config_info", "Configuration of the KV cache.", {labels: 1.0})


def _ones(count: float) -> Histogram:
    histogram = Histogram(tuple(float(bound) for bound in one_two_five(20)))
    histogram.add_shares(count, 1.0, shares_of((histogram.bounds >= 1).astype(float)))
    return histogram

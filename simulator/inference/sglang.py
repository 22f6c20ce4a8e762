"""SGLang's /metrics page: names, types, labels and buckets of its present collectors.

Source: `SchedulerMetricsCollector` and `TokenizerMetricsCollector` in python/sglang/srt/observability/metrics_collector.py, read in 2026.
The help texts are our own. SGLang runs in several processes, so that its page has no `_created` series and shows a counter or histogram
only once something was counted, as here. Grammar, LoRA, hierarchical cache, routing keys and the prefill delayer are left out.
"""

from simulator.inference.textformat import Labels, Sheet, with_labels
from simulator.inference.view import View

_ENGINE_TYPES = {"both": "unified", "prefill": "prefill", "decode": "decode"}
_GIB = float(1 << 30)


def page(view: View, *, now: float) -> str:
    """The page of one instance, its first rank. now: is not on the page."""
    kind = _ENGINE_TYPES[view.role]
    ranks: Labels = (
        ("model_name", view.model), ("engine_type", kind), ("tp_rank", "0"), ("pp_rank", "0"), ("moe_ep_rank", "0"),
    )  # fmt: skip
    asked: Labels = (("model_name", view.model),)
    sheet = Sheet(None)
    for name, help, value in _scheduler(view):
        sheet.gauge(f"sglang:{name}", help, {ranks: value})
    process: Labels = (*ranks, ("pid", "211"))
    sheet.gauge("sglang:num_retracted_reqs", "Requests retracted lately.", {process: 0.0})
    sheet.gauge("sglang:num_paused_reqs", "Requests paused while weights are replaced.", {process: 0.0})
    _scheduler_sums(sheet, view, ranks)
    _tokenizer(sheet, view, asked)
    return sheet.text()


def _scheduler(view: View) -> tuple[tuple[str, str, float], ...]:
    tokens = float(view.blocks * view.limits.block_size)
    used = round(view.kv_use * tokens)
    queried = view.meter.queried_tokens
    prefill, decode = view.role == "prefill", view.role == "decode"
    return (
        ("num_running_reqs", "Requests that run.", view.running),
        ("num_queue_reqs", "Requests in the waiting queue.", view.waiting),
        ("num_grammar_queue_reqs", "Requests that wait for a grammar.", 0.0),
        ("gen_throughput", "Output tokens per second.", view.tokens_per_s),
        ("cache_hit_rate", "Share of prompt tokens found in the prefix cache.", view.meter.cached_tokens / queried if queried else 0.0),
        ("decode_sum_seq_lens", "Tokens of all sequences that decode.", round(view.sequence_tokens)),
        ("token_usage", "Share of the KV pool in use.", view.kv_use),
        ("full_token_usage", "Share of the KV pool of full attention in use.", view.kv_use),
        ("swa_token_usage", "Share of the sliding window pool in use.", 0.0),
        ("mamba_usage", "Share of the state pool in use.", 0.0),
        ("num_used_tokens", "Tokens in use.", used),
        ("kv_available_tokens", "Free places of the KV pool.", tokens - used),
        ("kv_evictable_tokens", "Places of the KV pool that only a cache holds.", 0.0),
        ("kv_used_tokens", "Places of the KV pool in use.", used),
        ("spec_accept_length", "Mean tokens accepted per verification.", 1 + view.limits.accept if view.limits.drafted else 0.0),
        ("spec_accept_rate", "Share of drafted tokens that were accepted.", view.limits.accept if view.limits.drafted else 0.0),
        ("num_prefill_bootstrap_queue_reqs", "Requests whose transfer is being set up.", 0.0),
        ("num_prefill_inflight_queue_reqs", "Requests whose KV is being sent.", view.sending if prefill else 0.0),
        ("num_decode_prealloc_queue_reqs", "Requests that wait for places on a decode instance.", view.waiting if decode else 0.0),
        ("num_decode_transfer_queue_reqs", "Requests whose KV is being received.", view.coming if decode else 0.0),
        ("pending_prealloc_token_usage", "Share of the KV pool that is promised.", 0.0),
        ("utilization", "Use of the instance.", 0.0),
        ("new_token_ratio", "Share of outputs that is reserved ahead.", 0.7),
        ("is_cuda_graph", "Whether the batch runs as a captured graph.", float(not prefill)),
        ("max_total_num_tokens", "Places of the KV pool.", tokens),
        ("weight_memory_usage_gb", "Memory of the weights in GB.", view.weight_bytes / _GIB),
        ("kv_cache_memory_usage_gb", "Memory of the KV pools in GB.", view.kv_bytes / _GIB),
        ("page_size", "Tokens of a page of the KV pool.", view.limits.block_size),
        ("num_pages", "Pages of the KV pool.", view.blocks),
        ("context_len", "Longest context.", view.limits.context_limit),
    )


def _scheduler_sums(sheet: Sheet, view: View, ranks: Labels) -> None:
    meter = view.meter
    if meter.preemptions:
        rows = {ranks: float(int(meter.preemptions))}
        sheet.counter("sglang:num_retracted_requests", "Requests retracted since the start.", rows)
    computed = meter.prompt_tokens - meter.cached_tokens - meter.transferred_tokens
    modes = (("prefill_compute", computed), ("prefill_cache", meter.cached_tokens), ("decode", meter.generated_tokens))
    seen = tuple((mode, float(int(value))) for mode, value in modes if value >= 1)
    if seen:
        sheet.counter("sglang:realtime_tokens", "Tokens processed, by mode.", with_labels(ranks, "mode", seen))
    for name, help, key in (
        ("queue_time_seconds", "Seconds that a request waited.", "queue"),
        ("kv_transfer_latency_ms", "Milliseconds that a transfer of KV took.", "transfer_s"),
    ):
        if meter.histograms[key].count:
            sheet.histogram(f"sglang:{name}", help, {ranks: meter.histograms[key]})


def _tokenizer(sheet: Sheet, view: View, asked: Labels) -> None:
    """What the process that talks to clients counts, once a first request has ended."""
    meter = view.meter
    streamed: Labels = (*asked, ("is_streaming", "true"))
    if not meter.histograms["ttft"].count:
        return
    sheet.histogram("sglang:time_to_first_token_seconds", "Seconds to the first token.", {streamed: meter.histograms["ttft"]})
    if meter.histograms["itl"].count:
        sheet.histogram("sglang:inter_token_latency_seconds", "Seconds between tokens.", {asked: meter.histograms["itl"]})
    if meter.ended["error"]:
        sheet.counter("sglang:num_aborted_requests", "Requests aborted since the start.", {asked: float(int(meter.ended["error"]))})
    if not meter.histograms["e2e"].count:
        return
    sums = (
        ("prompt_tokens", "Prompt tokens of ended requests.", meter.histograms["prompt"].total),
        ("generation_tokens", "Output tokens of ended requests.", meter.histograms["output"].total),
        ("num_requests", "Requests since the start.", meter.requests),
    )
    for name, help, value in sums:
        sheet.counter(f"sglang:{name}", help, {streamed: float(int(value))})
    if meter.cached_tokens:
        rows = with_labels(asked, "cache_source", (("device", float(int(meter.cached_tokens))),))
        sheet.counter("sglang:cached_tokens", "Prompt tokens found in a cache, by where.", rows)
    sheet.histogram("sglang:e2e_request_latency_seconds", "Seconds from arrival to the end.", {streamed: meter.histograms["e2e"]})
    for name, help, key in (
        ("prompt_tokens_histogram", "Prompt tokens of a request.", "prompt"),
        ("uncached_prompt_tokens_histogram", "Prompt tokens of a request that were not in a cache.", "computed"),
        ("generation_tokens_histogram", "Output tokens of a request.", "output"),
    ):
        sheet.histogram(f"sglang:{name}", help, {asked: meter.histograms[key]})

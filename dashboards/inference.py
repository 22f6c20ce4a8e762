"""Inference services: what a user feels, what the engines do, and which of them stands still."""

from collections.abc import Sequence

from dashboards.layout import Row, dashboard, simulated, variable
from dashboards.panels import (
    ANY_IS_BAD,
    GREEN,
    ORANGE,
    RED,
    Column,
    Json,
    Look,
    Panel,
    Query,
    stat,
    states,
    table,
    timeseries,
)
from dashboards.queries import ENGINE_STATES, coded, or_zero

CHOSEN = 'service=~"$service", model=~"$model", instance=~"$instance"'
EACH = "service, model, role, instance"
NAME = "{{service}} {{instance}} {{role}}"
COUNT = Look(unit="short", decimals=0, low=0)
SPEED = Look(unit="short", low=0)
SECONDS = Look(unit="s", low=0, nothing="no request yet")
KV = Look(unit="percentunit", low=0, high=1, thresholds=((None, GREEN), (0.8, ORANGE), (0.95, RED)))
REQUESTS = Look(unit="reqps", low=0)


def inference() -> Json:
    """Build the dashboard."""
    rows = [
        Row("Now", [*_now()]),
        Row("Engines", [_timeline(), _instances()]),
        Row("What a user feels", [*_latency()]),
        Row("What is served", [*_throughput()]),
        Row("How full the engines are", [*_load()]),
    ]
    told = "Inference services: TTFT, TPOT, ITL, throughput, queue, KV cache and the state of every engine."
    state = "holdfast_serving_requests_running"
    variables = [
        variable("service", "Service", of=state),
        variable("model", "Model", of=state, narrowed='service=~"$service"'),
        variable("instance", "Instance", of=state, narrowed='service=~"$service", model=~"$model"'),
    ]
    return dashboard("holdfast-inference", "Holdfast: inference", told, rows, variables=variables)


def _each(metric: str, matchers: str = "") -> str:
    chosen = f"{CHOSEN}, {matchers}" if matchers else CHOSEN
    return f"max by ({EACH}) ({metric}{{{chosen}}})"


def _all(metric: str, matchers: str = "", *, by: str = "") -> str:
    chosen = f"{CHOSEN}, {matchers}" if matchers else CHOSEN
    return f"sum by ({by}) ({metric}{{{chosen}}})" if by else f"sum({metric}{{{chosen}}})"


def _now() -> Sequence[Panel]:
    stalled = 'sum(holdfast_serving_engine_state{service=~"$service", instance=~"$instance", state="stalled"})'
    slowest = f"max(holdfast_serving_time_to_first_token_seconds{{{CHOSEN}}}) >= 0"
    fullest = f"max(holdfast_serving_kv_cache_use_ratio{{{CHOSEN}}})"
    generated = _all("holdfast_serving_tokens_per_second", 'kind="generation"')
    return (
        simulated(),
        stat(
            "Engines",
            "Inference engines that report.",
            Query(f"count(holdfast_serving_requests_running{{{CHOSEN}}})"),
            COUNT,
        ),
        stat(
            "Engines stalled",
            "Engines that have requests running and make no token.",
            Query(or_zero(stalled)),
            Look(unit="short", decimals=0, low=0, thresholds=ANY_IS_BAD),
        ),
        stat("Slowest first token", "TTFT of the slowest engine.", Query(slowest), SECONDS),
        stat("Tokens generated per second", "All chosen engines together.", Query(generated), SPEED),
        stat(
            "Requests per second",
            "Requests finished by all chosen engines.",
            Query(_all("holdfast_serving_requests_per_second")),
            REQUESTS,
        ),
        stat(
            "Requests waiting",
            "Requests in the queues of all chosen engines.",
            Query(_all("holdfast_serving_requests_waiting")),
            COUNT,
        ),
        stat("Fullest KV cache", "The engine whose KV cache is used the most.", Query(fullest), KV),
    )


def _timeline() -> Panel:
    chosen = 'service=~"$service", instance=~"$instance"'
    state = coded("holdfast_serving_engine_state", ENGINE_STATES, by="service, instance", matchers=chosen)
    return states(
        "State of the engines",
        "Healthy, or stalled: requests are running and no token comes.",
        Query(state, "{{service}} {{instance}}"),
        ENGINE_STATES,
        width=10,
        height=8,
    )


def _instances() -> Panel:
    made = 'kind="generation"'
    brief = Look(unit="s", decimals=3)
    columns = [
        Column(heading="Running", expr=_each("holdfast_serving_requests_running"), look=COUNT),
        Column(heading="Waiting", expr=_each("holdfast_serving_requests_waiting"), look=COUNT),
        Column(heading="KV use", expr=_each("holdfast_serving_kv_cache_use_ratio"), look=KV),
        Column(heading="Tokens/s", expr=_each("holdfast_serving_tokens_per_second", made), look=SPEED),
        Column(heading="TTFT", expr=f"{_each('holdfast_serving_time_to_first_token_seconds')} >= 0", look=brief),
        Column(heading="TPOT", expr=f"{_each('holdfast_serving_time_per_output_token_seconds')} >= 0", look=brief),
        Column(heading="ITL", expr=f"{_each('holdfast_serving_inter_token_latency_seconds')} >= 0", look=brief),
    ]
    return table(
        "Instances",
        "Every engine now: its load and its latencies. Prefill and decode instances are told apart by their role.",
        columns,
        labels=("service", "model", "role", "instance"),
        width=14,
        nothing="no engine has reported",
    )


def _latency() -> Sequence[Panel]:
    figures = [
        (
            "Time to first token",
            "holdfast_serving_time_to_first_token_seconds",
            "TTFT: mean of the requests since the last reading; it grows with the queue and with long prompts.",
        ),
        (
            "Time per output token",
            "holdfast_serving_time_per_output_token_seconds",
            "TPOT: mean per finished request since the last reading.",
        ),
        (
            "Inter-token latency",
            "holdfast_serving_inter_token_latency_seconds",
            "ITL: mean per token since the last reading; it shows a stall that TPOT averages away.",
        ),
    ]
    return [
        timeseries(title, description, [Query(f"{_each(metric)} >= 0", NAME)], SECONDS)
        for title, metric, description in figures
    ]


def _throughput() -> Sequence[Panel]:
    tokens = "holdfast_serving_tokens_per_second"
    return (
        timeseries(
            "Tokens per second by model",
            "Prompt tokens read and tokens generated, all chosen engines of a model together.",
            [Query(_all(tokens, by="model, kind"), "{{model}} {{kind}}")],
            SPEED,
        ),
        timeseries(
            "Tokens generated by instance",
            "Tokens per second that each engine generates; one that falls to zero beside the others stands still.",
            [Query(_each(tokens, 'kind="generation"'), NAME)],
            SPEED,
        ),
        timeseries(
            "Requests per second by model",
            "Requests finished per second, all chosen engines of a model together.",
            [Query(_all("holdfast_serving_requests_per_second", by="model"), "{{model}}")],
            REQUESTS,
        ),
    )


def _load() -> Sequence[Panel]:
    return (
        timeseries(
            "Requests running",
            "Requests in the batch of each engine.",
            [Query(_each("holdfast_serving_requests_running"), NAME)],
            COUNT,
        ),
        timeseries(
            "Queue",
            "Requests that wait at each engine; a queue that only grows is too little capacity or an engine that stands still.",
            [Query(_each("holdfast_serving_requests_waiting"), NAME)],
            COUNT,
        ),
        timeseries(
            "KV cache in use",
            "Share of each engine's KV cache in use; near 100 % requests are preempted or wait.",
            [Query(_each("holdfast_serving_kv_cache_use_ratio"), NAME)],
            KV,
        ),
    )

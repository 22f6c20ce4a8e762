"""Figures of inference engines: rates and means between two readings."""

from typing import Any

import pytest

from exporters.engines import MOST_INSTANCES, STALE_S
from holdfast.faults import Fault
from holdfast.topology import Kind, Target
from tests.unit.exporters.scraped import change, finding, reading, shown, steps

ENGINE = 'instance="n1:8000",{}model="llama",role="both",service="chat"'
LABELS, KIND = ENGINE.format(""), ENGINE.format('kind="generation",')
BEGUN = change(90.0, "started", job="chat", model="llama", devices=8)


@pytest.mark.parametrize(
    ("first", "second", "figure", "value"),
    [
        pytest.param({"requests_running": 3.0}, {"requests_running": 5.0}, f"requests_running{{{LABELS}}}", 5.0, id="the latest counts"),
        pytest.param({"kv_use_ratio": 0.2}, {"kv_use_ratio": 0.4}, f"kv_cache_use_ratio{{{LABELS}}}", 0.4, id="the cache in use"),
        pytest.param(
            {"generation_tokens_total": 100.0}, {"generation_tokens_total": 250.0}, f"tokens_per_second{{{KIND}}}", 10.0,
            id="tokens per second",
        ),
        pytest.param(
            {"generation_tokens_total": 100.0}, {"generation_tokens_total": 30.0}, f"tokens_per_second{{{KIND}}}", 2.0,
            id="an engine that was restarted counts from 0",
        ),
        pytest.param(
            {"generation_tokens_total": 100.0}, {"generation_tokens_total": 100.0}, f"tokens_per_second{{{KIND}}}", 0.0,
            id="an engine that makes no token",
        ),
        pytest.param({"requests_total": 1.0}, {"requests_total": 31.0}, f"requests_per_second{{{LABELS}}}", 2.0, id="requests per second"),
        pytest.param(
            {"ttft_s_sum": 10.0, "ttft_s_count": 40.0}, {"ttft_s_sum": 12.0, "ttft_s_count": 50.0},
            f"time_to_first_token_seconds{{{LABELS}}}", 0.2, id="the mean of what came since the last reading",
        ),
        pytest.param(
            {"itl_s_sum": 10.0, "itl_s_count": 40.0}, {"itl_s_sum": 1.0, "itl_s_count": 50.0},
            f"inter_token_latency_seconds{{{LABELS}}}", 0.1, id="a sum that began anew",
        ),
        pytest.param(
            {"tpot_s_sum": 10.0, "tpot_s_count": 40.0}, {"tpot_s_sum": 10.0, "tpot_s_count": 40.0},
            f"time_per_output_token_seconds{{{LABELS}}}", None, id="no request since the last reading has no mean",
        ),
        pytest.param(
            {"requests_running": 3.0}, {"requests_running": float("nan")}, f"requests_running{{{LABELS}}}", 3.0,
            id="a reading that is no number changes nothing",
        ),
    ],
)  # fmt: skip
def test_a_figure(first: dict[str, Any], second: dict[str, Any], figure: str, value: float | None) -> None:
    page = shown(BEGUN, reading(100.0, **first), reading(115.0, **second))
    assert page.get(f"holdfast_serving_{figure}") == (None if value is None else pytest.approx(value))


def test_a_rate_needs_two_readings() -> None:
    page = shown(BEGUN, reading(100.0, requests_total=7.0))
    assert not [key for key in page if key.startswith("holdfast_serving_requests_per_second")]


def test_the_site_says_what_the_service_does_not() -> None:
    settings = {"chat": {"model": "qwen", "role": "prefill"}}
    page = shown(reading(100.0, requests_running=1.0), jobs=settings)
    assert page['holdfast_serving_requests_running{instance="n1:8000",model="qwen",role="prefill",service="chat"}'] == 1.0


@pytest.mark.parametrize("cleared", [False, True], ids=["a standing claim", "a claim that was withdrawn"])
def test_an_engine_is_stalled_while_that_is_claimed_of_it(cleared: bool) -> None:
    engine = Target(Kind.INSTANCE, "n1:8000", node="n1")
    claims = [finding(116.0, engine, fault=Fault.SERVING, cause="stalled")]
    claims += [finding(120.0, engine, fault=Fault.SERVING, cause="stalled", cleared=True)] if cleared else []
    page = shown(reading(100.0, requests_running=1.0), *claims)
    series = 'holdfast_serving_engine_state{instance="n1:8000",service="chat",state="%s"}'
    states = {word: page[series % word] for word in ("healthy", "stalled")}
    assert states == {"healthy": float(cleared), "stalled": float(not cleared)}


def test_an_engine_that_is_not_read_any_more_is_not_shown() -> None:
    later = 100.0 + STALE_S
    page = shown(reading(100.0, requests_running=1.0), steps(later, 0), steps(later, 0, source="agent:n2"), steps(later + 1, 1))
    assert not [key for key in page if key.startswith("holdfast_serving")]


def test_the_engine_longest_unheard_is_forgotten() -> None:
    page = shown(*(reading(100.0 + n, instance=f"e{n}", requests_running=1.0) for n in range(MOST_INSTANCES + 3)))
    shown_now = [key for key in page if key.startswith("holdfast_serving_requests_running")]
    assert len(shown_now) == MOST_INSTANCES
    assert not [key for key in shown_now if 'instance="e0"' in key]

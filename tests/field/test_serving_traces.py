"""Real request traces: each is read whole, and a service lives through its beginning."""

from pathlib import Path

import pytest

from simulator.inference.arrivals import Load, means
from simulator.inference.limits import Limits
from simulator.inference.spec import Pace, ServiceSpec, deployment
from simulator.inference.trace import read_trace
from tests.field.where import data

TRACES = {
    "AzureLLMInferenceTrace_code.csv": (8819, 2048, 28),
    "AzureLLMInferenceTrace_conv.csv": (19_366, 1155, 211),
    "conversation_trace.jsonl": (12_031, 12_035, 343),
    "synthetic_trace.jsonl": (3993, 15_325, 149),
}


@pytest.fixture(params=sorted(TRACES))
def trace(request: pytest.FixtureRequest) -> Path:
    return data("serving", request.param)


def test_a_real_trace_is_read_whole(trace: Path) -> None:
    rows = read_trace(trace)
    assert len(rows) == TRACES[trace.name][0]
    assert rows == sorted(rows, key=lambda row: row.at_s)
    assert means(Load(kind="trace", trace=str(trace))) == pytest.approx(TRACES[trace.name][1:], abs=0.6)


def test_a_service_lives_on_a_real_trace(trace: Path) -> None:
    load = Load(kind="trace", trace=str(trace), count=150)
    spec = ServiceSpec(
        mode="events",
        load=load,
        router="prefix_aware",
        limits=Limits(context_limit=262_144),
        pace=Pace(overhead_s=0.02),
    )
    served = deployment(spec, ["e0", "e1"], seed=1, name="chat", keep=True)
    served.run(float("inf"))
    assert (served.client.done, served.client.failed) == (150, 0)
    shares = sum(engine.meter.cached_tokens for engine in served.engines)
    assert (shares > 0) == trace.name.endswith("jsonl")

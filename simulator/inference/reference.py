"""The serving reference: a deployment whose published figures the event model is held against.

Published: 10,000 requests of 2,049 prompt and 2,047 output tokens in the mean, 25 per second, at most 2,000 under way at the client: 614 s,
and the latencies of PUBLISHED. The publication names neither model nor machines; chunks of 1.9 tokens mean that one drafted token is
verified per step, as DeepSeek-V3 does. So that shape is taken, on instances of eight H200, four that prefill and four that decode.

Fitted, one constant to one figure: prefill compute share (99th percentile of TTFT: the ramp of 25 per second over what prefill can do),
prefill overhead and hand-over (median TTFT), decode overhead (TPOT), spread of acceptance (99th percentile of TPOT), step noise (99th
percentile of ITL). Acceptance follows from 1.9 tokens per chunk. Not fitted: duration, requests/s, tokens/s, mean TTFT, median TPOT and
ITL. The lengths' spread of 10 % is an assumption; with none the figures move by less than 3 %.
"""

from typing import NamedTuple

import numpy as np

from simulator.inference.arrivals import Load
from simulator.inference.deployment import intervals
from simulator.inference.lengths import Lengths
from simulator.inference.limits import Limits
from simulator.inference.spec import Pace, ServiceSpec, deployment

INSTANCES = 8

SPEC = ServiceSpec(
    shape="deepseek-v3", weight_bytes=1.0, hardware="h200", prefill=4, mode="events", handover_s=0.5,
    load=Load(
        kind="fixed", rate=25.0, count=10_000, most_in_flight=2000, prompt=Lengths(mean=2049, spread=0.1),
        output=Lengths(mean=2047, spread=0.1),
    ),
    limits=Limits(max_num_seqs=1024, drafted=1, accept=0.91, accept_spread=0.07, jitter=0.19),
    pace=Pace(compute=0.4, memory=0.7, overhead_s=0.067),
    prefill_limits=Limits(max_num_seqs=1024, max_num_batched_tokens=8192, mixed=False, jitter=0.03),
    prefill_pace=Pace(compute=0.158, memory=0.7, overhead_s=0.22),
)  # fmt: skip


class Published(NamedTuple):
    """A published figure. within: how far the model may be from it, as a share."""

    name: str
    unit: str
    value: float
    within: float


PUBLISHED = (
    Published("duration", "s", 614.0, 0.1),
    Published("requests/s", "", 16.29, 0.1),
    Published("output tokens/s", "", 33_336.0, 0.1),
    Published("total tokens/s", "", 66_707.0, 0.1),
    Published("TTFT mean", "ms", 3346.0, 0.1),
    Published("TTFT median", "ms", 1908.0, 0.1),
    Published("TTFT p99", "ms", 13_041.0, 0.2),
    Published("TPOT mean", "ms", 49.9, 0.1),
    Published("TPOT median", "ms", 50.6, 0.1),
    Published("TPOT p99", "ms", 55.3, 0.2),
    Published("ITL mean", "ms", 95.0, 0.1),
    Published("ITL median", "ms", 96.0, 0.1),
    Published("ITL p99", "ms", 147.0, 0.2),
)


def measured(spec: ServiceSpec = SPEC, *, seed: int) -> dict[str, float]:
    """The figures of PUBLISHED, by name, from a run of the model.

    Latency counts from sending; TPOT is (latency - TTFT) / (tokens - 1); ITL is between streamed chunks.
    """
    run = deployment(spec, [f"reference-{n}" for n in range(INSTANCES)], seed=seed, name="reference", keep=True)
    duration_s = run.run(float("inf"))
    ended = run.client.ended
    first_ms = 1e3 * np.array([request.first_at - request.sent_at for request in ended])
    whole_ms = 1e3 * np.array([request.ended_at - request.sent_at for request in ended])
    output = np.array([request.output for request in ended])
    prompt = np.array([request.prompt for request in ended])
    figures = {
        "duration": duration_s,
        "requests/s": len(ended) / duration_s,
        "output tokens/s": float(output.sum()) / duration_s,
        "total tokens/s": float(output.sum() + prompt.sum()) / duration_s,
    }
    spans = {"TTFT": first_ms, "TPOT": (whole_ms - first_ms) / np.maximum(1, output - 1), "ITL": 1e3 * intervals(run.engines)}
    for name, values in spans.items():
        figures[f"{name} mean"] = float(values.mean(dtype=float))
        figures[f"{name} median"] = float(np.median(values))
        figures[f"{name} p99"] = float(np.percentile(values, 99))
    return figures

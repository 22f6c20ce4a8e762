"""What an engine's page is written from: its state at one moment, whichever model of it is running."""

from dataclasses import dataclass

from simulator.inference.limits import Limits, Role
from simulator.inference.meter import Meter


@dataclass(frozen=True, kw_only=True)
class View:
    """running, waiting: requests; blocks: of KV in all; kv_use: share of them in use, 0..1; sequence_tokens: that running requests hold

    tokens_per_s: made lately; coming: prompts whose KV is under way to it, sending: from it; weight_bytes, kv_bytes: of memory
    """

    name: str
    model: str
    flavour: str
    role: Role
    limits: Limits
    meter: Meter
    running: int
    waiting: int
    blocks: int
    kv_use: float
    sequence_tokens: float
    tokens_per_s: float
    coming: int = 0
    sending: int = 0
    weight_bytes: float = 0.0
    kv_bytes: float = 0.0


SIGNALS = (
    "serving.requests_running", "serving.requests_waiting", "serving.kv_use_ratio", "serving.prompt_tokens_total",
    "serving.generation_tokens_total", "serving.preemptions_total", "serving.requests_total", "serving.ttft_s_sum",
    "serving.ttft_s_count", "serving.itl_s_sum", "serving.itl_s_count", "serving.tpot_s_sum", "serving.tpot_s_count",
    "serving.e2e_s_sum", "serving.e2e_s_count",
)  # fmt: skip


def readings(view: View) -> list[float]:
    """A row for SIGNALS: what a collector gets from the page, without writing and reading it; NaN where the page says nothing."""
    meter, nan = view.meter, float("nan")
    sums = {name: meter.histograms[name] for name in ("ttft", "itl", "tpot", "e2e")}
    counts = [meter.prompt_tokens, meter.generated_tokens, meter.preemptions, meter.requests]
    waiting = view.waiting
    if view.flavour == "sglang":  # its tokens are counted when a request ends, and nothing is shown before
        ended = bool(sums["e2e"].count)
        counts = [meter.histograms[name].total if ended else nan for name in ("prompt", "output")]
        counts += [meter.preemptions or nan, meter.requests if ended else nan]
    else:
        waiting += view.coming
    row = [float(view.running), float(waiting), view.kv_use]
    row += [value if value != value else float(int(value)) for value in counts]
    for name, histogram in sums.items():
        absent = view.flavour == "sglang" and (name == "tpot" or not histogram.count)
        row += [nan, nan] if absent else [histogram.total, histogram.count]
    return row

"""What an engine counts of itself: sums and histograms since its start, that its page is written from."""

from dataclasses import dataclass, field

import numpy as np

from simulator.inference.request import Request

_MOST_KEPT = 4096


class Histogram:
    """Counts under upper bounds, as Prometheus keeps them. bounds: ascending, without +Inf."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = np.asarray(bounds, dtype=float)
        self._total = 0.0
        self._counts = np.zeros(len(bounds) + 1)
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []
        self._few: list[float] = []

    def put(self, value: float) -> None:
        """One observation."""
        self._few.append(value)
        if len(self._few) >= _MOST_KEPT:
            self._settle()

    def put_all(self, values: np.ndarray, weights: np.ndarray) -> None:
        """Observations, each so many times; the total grows by the values times the weights."""
        self._kept.append((values, weights))
        if len(self._kept) >= _MOST_KEPT:
            self._settle()

    def add_shares(self, count: float, mean: float, shares: np.ndarray) -> None:
        """`count` observations of a known distribution. shares: of it under each bound and over the one before, and over the last."""
        self._counts += count * shares
        self._total += count * mean

    def sums(self) -> np.ndarray:
        """Whole observations at most each bound, and all of them last; never falling."""
        self._settle()
        return np.floor(np.cumsum(self._counts) + 1e-6)

    @property
    def total(self) -> float:
        """All observed values together."""
        self._settle()
        return self._total

    @property
    def count(self) -> float:
        """All observations."""
        self._settle()
        return float(np.floor(self._counts.sum() + 1e-6))

    def _settle(self) -> None:
        if self._few:
            few, self._few = np.array(self._few), []
            self._kept.append((few, np.ones(len(few))))
        if self._kept:
            values = np.concatenate([kept[0] for kept in self._kept])
            weights = np.concatenate([kept[1] for kept in self._kept])
            self._kept.clear()
            places = np.searchsorted(self.bounds, values, side="left")
            self._counts += np.bincount(places, weights=weights, minlength=len(self._counts))
            self._total += float(values @ weights)


def shares_of(below: np.ndarray) -> np.ndarray:
    """What lies between the bounds, and over the last, for the share that is at most each bound."""
    shares: np.ndarray = np.diff(below, prepend=0.0, append=1.0)
    return shares


def one_two_five(most: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, ... up to `most`."""
    bounds, power = [], 1
    while power <= most:
        bounds += [float(m * power) for m in (1, 2, 5) if m * power <= most]
        power *= 10
    return tuple(bounds)


_PHASE = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0)
_STEP = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_WORDS = (
    100, 300, 500, 700, 1000, 1500, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 10000, 12500, 15000, 17500, 20000, 22500, 25000,
    27500, 30000, 35000, 40000, 60000, 80000, 100000, 200000, 300000, 400000, 600000, 800000, 1000000, 1100000,
)  # fmt: skip
_WAIT = (
    0.0, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100, 200, 300, 400, 500, 600,
    700, 800, 900, 1000, 1200, 1400, 1600, 1800, 2000, 2500, 3000,
)  # fmt: skip
_FIRST_SGLANG = (0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400)

BOUNDS: dict[str, dict[str, tuple[float, ...]]] = {
    "vllm": {  # vllm/v1/metrics: loggers.py and buckets.py of 0.30
        "ttft": (
            0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0,
            2560.0,
        ),
        "itl": _STEP, "tpot": _STEP, "e2e": _PHASE, "queue": _PHASE, "inference": _PHASE, "prefill": _PHASE, "decode": _PHASE,
        "iteration_tokens": (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384), "preemptions": (1, 2, 3, 4, 5, 10, 20),
        "prompt": (), "output": (), "computed": (), "transfer_s": (),
    },
    "sglang": {  # python/sglang/srt/observability/metrics_collector.py, main of 2026
        "ttft": _FIRST_SGLANG, "e2e": (*_FIRST_SGLANG, 600, 1200, 1800, 2400), "queue": _WAIT,
        "itl": (
            0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0,
            6.0, 8.0,
        ),
        "prompt": _WORDS, "output": _WORDS, "computed": _WORDS, "transfer_s": (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000),
        "tpot": (), "inference": (), "prefill": (), "decode": (), "iteration_tokens": (), "preemptions": (),
    },
}  # fmt: skip
_BY_LENGTH = ("prompt", "output", "computed")


@dataclass
class Meter:
    """Sums since `began_at`. flavour: "vllm" or "sglang", whose bounds are used; context_limit: tokens, for vLLM's bounds of lengths.

    Histograms are in seconds and tokens; transfer_s is in milliseconds on SGLang's page and kept so.
    """

    flavour: str
    began_at: float
    context_limit: int = 32_768
    prompt_tokens: float = 0.0
    cached_tokens: float = 0.0
    generated_tokens: float = 0.0
    preemptions: float = 0.0
    queried_tokens: float = 0.0
    transferred_tokens: float = 0.0
    ended: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("stop", "length", "abort", "error", "repetition"), 0.0))
    histograms: dict[str, Histogram] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = one_two_five(self.context_limit) if self.flavour == "vllm" else ()
        for name, bounds in BOUNDS[self.flavour].items():
            self.histograms[name] = Histogram(lengths if lengths and name in _BY_LENGTH else bounds)

    def on_scheduled(self, request: Request, now: float, *, cached: int) -> None:
        """It leaves the queue for the first time. cached: tokens of it that were found."""
        self.queried_tokens += request.context
        self.cached_tokens += cached
        self.histograms["queue"].put(now - request.queued_at)

    def on_first(self, request: Request, now: float) -> None:
        """Its prompt is computed, or has come from elsewhere, and its first token is made."""
        self.prompt_tokens += request.prompt
        self.generated_tokens += 1
        self.histograms["ttft"].put(now - request.queued_at)
        self.histograms["prefill"].put(now - request.begun_at)

    def on_chunks(self, intervals: np.ndarray, tokens: np.ndarray) -> None:
        """Chunks that came so long after the one before, of so many tokens each; vLLM counts chunks, SGLang tokens."""
        if self.flavour == "vllm":
            self.histograms["itl"].put_all(intervals, np.ones(len(intervals)))
        else:
            self.histograms["itl"].put_all(intervals / np.maximum(tokens, 1), tokens.astype(float))

    def on_end(self, request: Request, now: float, *, made: int, first_at: float) -> None:
        """It has ended here. made: tokens made here; first_at: when its first one was made here."""
        self.ended[request.reason or "stop"] += 1
        put = {
            "e2e": now - request.queued_at, "inference": now - request.begun_at, "decode": now - first_at, "prompt": request.prompt,
            "tpot": (now - first_at) / max(1, made - 1), "output": made, "computed": request.prompt - request.cached,
            "preemptions": request.preemptions,
        }  # fmt: skip
        for name, value in put.items():
            self.histograms[name].put(value)

    @property
    def requests(self) -> float:
        """Requests that ended with an answer."""
        return sum(self.ended.values()) - self.ended["abort"] - self.ended["error"]

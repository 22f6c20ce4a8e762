"""A simulated inference service: engines with requests that come, wait, run and make tokens."""

from dataclasses import dataclass, field

from simulator.chance import stream
from simulator.cluster import Cluster
from simulator.nodes import DEVICES, Node


@dataclass
class Engine:
    """One instance. Sums since its start, as an engine's own counters."""

    name: str
    node: Node
    running: float = 24.0
    waiting: float = 0.0
    prompt_tokens: float = 0.0
    generation_tokens: float = 0.0
    requests: float = 0.0
    ttft_s: float = 0.0
    itl_s: float = 0.0
    e2e_s: float = 0.0
    tokens_out: float = 0.0
    stalled: bool = False


@dataclass
class Service:
    """Engines of one model behind a router. rate: requests per second and engine."""

    name: str
    model: str
    cluster: Cluster
    rate: float = 6.0
    engines: list[Engine] = field(default_factory=list)
    restart_at: float = 0.0
    state: str = "pending"
    attempt: int = 0
    _at: float = 0.0

    def place(self, nodes: list[Node]) -> None:
        self.engines = [Engine(f"{self.name}-{n}", node) for n, node in enumerate(nodes)]
        for engine in self.engines:
            engine.node.job = self.name
            labels = {"app": self.name, "model": self.model}  # of no job: whoever watches workers passes it over
            self.cluster.scheduler.create(engine.name, self.name, engine.node, self.cluster.now, labels=labels)

    def advance(self, now: float) -> None:
        """Serve until `now`."""
        if self.state == "pending":
            self.state, self._at = "running", now
            facts = {"devices": DEVICES * len(self.engines), "nodes": [e.node.id for e in self.engines], "model": self.model}
            record = {"type": "job", "at": now, "state": "started", "attempt": self.attempt, "pid": 19_000, "facts": facts}
            self.cluster.agents.say(self.engines[0].node, record)
            self.cluster.scheduler.run(self.name, now)
        if self.restart_at and now >= self.restart_at:
            self.restart_at = 0.0
            for engine in self.engines:
                engine.stalled, engine.waiting = False, 0.0
        seconds, self._at = now - self._at, now
        for engine in self.engines:
            self._serve(engine, seconds)

    def _serve(self, engine: Engine, seconds: float) -> None:
        chance = stream(self.cluster.seed, "serve", engine.name, round(self._at, 3))
        come = float(chance.poisson(self.rate * seconds)) if seconds > 0 else 0.0
        if engine.stalled:
            engine.waiting += come
            return
        engine.requests += come
        tokens = come * 180.0 + (1.0 if seconds > 0 else 0.0)
        engine.running = 18.0 + 12.0 * float(chance.random())
        engine.waiting = 0.0
        engine.prompt_tokens += come * 900.0
        engine.generation_tokens += tokens
        engine.tokens_out += tokens
        engine.ttft_s += come * (0.18 + 0.05 * float(chance.random()))
        engine.itl_s += tokens * (0.021 + 0.002 * float(chance.random()))
        engine.e2e_s += come * 4.1

    def page(self, engine: Engine) -> str:
        """The engine's /metrics, in vLLM's names."""
        label = f'{{model_name="{self.model}",engine="0"}}'
        rows = {
            "vllm:num_requests_running": engine.running, "vllm:num_requests_waiting": engine.waiting,
            "vllm:kv_cache_usage_perc": min(0.98, 0.35 + engine.waiting / 2000.0),
            "vllm:prompt_tokens_total": engine.prompt_tokens, "vllm:generation_tokens_total": engine.generation_tokens,
            "vllm:num_preemptions_total": 0.0, "vllm:request_success_total": engine.requests,
            "vllm:time_to_first_token_seconds_sum": engine.ttft_s, "vllm:time_to_first_token_seconds_count": engine.requests,
            "vllm:inter_token_latency_seconds_sum": engine.itl_s, "vllm:inter_token_latency_seconds_count": engine.tokens_out,
            "vllm:request_time_per_output_token_seconds_sum": engine.itl_s / 180.0,
            "vllm:request_time_per_output_token_seconds_count": engine.requests,
            "vllm:e2e_request_latency_seconds_sum": engine.e2e_s, "vllm:e2e_request_latency_seconds_count": engine.requests,
        }  # fmt: skip
        return "".join(f"{name}{label} {value:.6f}\n" for name, value in rows.items())

"""Engines step by step: what they serve, what faults do to them, and that how often time is moved changes nothing."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from simulator.inference.arrivals import Load
from simulator.inference.deployment import Deployment, intervals
from simulator.inference.engine import Engine
from simulator.inference.lengths import Lengths
from simulator.inference.limits import Limits
from simulator.inference.request import PIECE_TOKENS
from simulator.inference.spec import Pace, ServiceSpec, SpecError, check, deployment

COUNT = 80
LOAD = Load(rate=8.0, count=COUNT, prompt=Lengths(mean=600, spread=0.5), output=Lengths(mean=60, spread=0.5))
SPEC = ServiceSpec(mode="events", load=LOAD, limits=Limits(max_num_seqs=64, jitter=0.05), pace=Pace(overhead_s=0.04))
APART = msgspec.structs.replace(SPEC, prefill=1)


def of(spec: ServiceSpec = SPEC, instances: int = 2, **limits: object) -> Deployment:
    changed = msgspec.structs.replace(spec, limits=msgspec.structs.replace(spec.limits, **limits))
    return deployment(changed, [f"e{n}" for n in range(instances)], seed=4, name="chat", keep=True)


def loaded(spec: ServiceSpec = SPEC, **load: object) -> ServiceSpec:
    return msgspec.structs.replace(spec, load=msgspec.structs.replace(spec.load, **load))


def made(engines: Sequence[Engine]) -> float:
    return sum(engine.meter.generated_tokens for engine in engines)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(of, id="mixed and chunked, as vLLM"),
        pytest.param(lambda: of(mixed=False), id="prompts first, as SGLang"),
        pytest.param(lambda: of(chunked=False, max_num_batched_tokens=500), id="whole prompts, longer than the budget"),
        pytest.param(lambda: of(max_num_batched_tokens=128), id="small pieces of prompts"),
        pytest.param(lambda: of(drafted=2, accept=0.7, accept_spread=0.1), id="drafted tokens"),
        pytest.param(lambda: of(chunk_steps=7), id="chunks of several steps"),
        pytest.param(lambda: of(APART, 3), id="prefill and decode apart"),
        pytest.param(lambda: of(blocks=200, max_num_seqs=32), id="few KV blocks"),
        pytest.param(lambda: of(loaded(most_in_flight=3)), id="a client with a limit"),
        pytest.param(lambda: of(loaded(kind="closed", most_in_flight=30)), id="a closed loop"),
        pytest.param(lambda: of(loaded(output=Lengths(mean=1, shape="fixed"))), id="one token each"),
    ],
)
def test_every_request_gets_all_its_tokens(run: object) -> None:
    served: Deployment = run()  # type: ignore[operator]
    served.run(float("inf"))
    ended = served.client.ended
    assert (len(ended), served.client.failed, served.client.under_way) == (COUNT, 0, 0)
    assert {r.reason for r in ended} == {"stop"}
    assert all(r.made == r.output for r in ended)
    assert all(r.due_at <= r.sent_at < r.first_at <= r.last_at == r.ended_at for r in ended)
    assert made(served.engines) >= sum(r.output for r in ended)
    assert [e.blocks.free for e in served.engines] == [e.blocks.total for e in served.engines]
    assert [(e.outstanding, e.sending) for e in served.engines] == [(0, 0)] * len(served.engines)


@pytest.mark.parametrize("spec", [SPEC, APART], ids=["aggregated", "apart"])
@pytest.mark.parametrize("drafted", [0, 1])
def test_how_often_time_is_moved_changes_nothing(spec: ServiceSpec, drafted: int) -> None:
    facts = []
    for every_s in (0.31, 1e9):
        served = of(spec, 3, drafted=drafted, accept=0.8)
        at = 0.0
        while served.client.done < COUNT:
            at += every_s
            served.run(at)
        facts.append(np.array([(r.first_at, r.ended_at) for r in sorted(served.client.ended, key=lambda r: r.number)]))
    assert np.abs(facts[0] - facts[1]).max() < 1e-9


def test_no_more_are_under_way_than_the_client_allows() -> None:
    served = of(loaded(rate=1000.0, most_in_flight=5))
    served.run(float("inf"))
    moments = sorted([(r.sent_at, 1) for r in served.client.ended] + [(r.ended_at, -1) for r in served.client.ended])
    assert max(np.cumsum([step for _, step in moments])) == 5


def test_chunks_make_up_the_time_between_first_and_last_token() -> None:
    served = of(SPEC, 1)
    served.run(float("inf"))
    whole = sum(r.ended_at - r.first_at for r in served.client.ended)
    assert float(intervals(served.engines).sum()) == pytest.approx(whole, rel=1e-3)


def test_a_shared_beginning_is_computed_once() -> None:
    spec = loaded(shared_prefixes=1, shared_tokens=8 * PIECE_TOKENS)
    without = of(loaded(prompt=Lengths(mean=600 + 8 * PIECE_TOKENS, spread=0.07)))
    shared = of(spec)
    for served in (without, shared):
        served.run(float("inf"))
    assert [e.meter.cached_tokens > 0.7 * e.meter.queried_tokens for e in shared.engines] == [True, True]
    first_s = [np.mean([r.first_at - r.sent_at for r in served.client.ended]) for served in (without, shared)]
    assert first_s[1] < first_s[0]


def test_too_few_blocks_preempt_and_nothing_is_lost() -> None:
    served = of(loaded(rate=100.0), 1, blocks=250)
    served.run(float("inf"))
    assert served.engines[0].meter.preemptions > 0
    assert max(r.preemptions for r in served.client.ended) > 0


def test_a_request_that_can_never_fit_is_refused() -> None:
    served = of(SPEC, 1, blocks=10)
    served.run(1000.0)
    assert served.client.failed == COUNT


# --- faults


def stopped(at: float = 10.0, spec: ServiceSpec = SPEC, instances: int = 2) -> Deployment:
    served = of(loaded(spec, count=0), instances)
    served.run(at)
    return served


def test_a_stalled_engine_has_requests_and_makes_no_tokens() -> None:
    served = stopped()
    engine = served.engines[0]
    engine.stalled = True
    before, waiting, shown = engine.meter.generated_tokens, len(engine.waiting), engine.view("m")
    served.run(40.0)
    assert engine.view("m") == shown
    assert (engine.state, engine.meter.generated_tokens) == ("stalled", before)
    assert engine.running > 0
    assert len(engine.waiting) > waiting
    engine.stalled = False
    served.run(80.0)
    assert engine.meter.generated_tokens > before


def test_a_slow_engine_gets_fewer_requests_from_the_router_by_load() -> None:
    served = stopped()
    served.engines[0].slow = 6.0
    before = [e.meter.requests for e in served.engines]
    served.run(60.0)
    grown = [e.meter.requests - b for e, b in zip(served.engines, before, strict=True)]
    assert served.engines[0].state == "degraded"
    assert grown[0] < 0.8 * grown[1]


def test_leaked_blocks_make_preemptions_and_a_queue() -> None:
    served = stopped()
    engine = served.engines[0]
    engine.leaked_blocks = engine.blocks.total - 120
    served.run(60.0)
    assert engine.meter.preemptions > 0
    assert len(engine.waiting) > 0
    assert engine.blocks.use > 0.9


def test_a_crash_loses_what_was_under_way_and_counts_from_nothing_after() -> None:
    served = stopped()
    engine = served.engines[0]
    engine.dead = True
    served.run(30.0)
    assert served.client.failed > 0
    assert (engine.state, engine.outstanding) == ("dead", 0)
    served.restart(engine)
    served.run(60.0)
    assert engine.state == "healthy"
    assert 0 < engine.meter.requests < served.engines[1].meter.requests


@pytest.mark.parametrize("place", [0, 1, 2], ids=["the prefill instance", "a decode instance", "the other decode instance"])
def test_a_dead_instance_of_either_side(place: int) -> None:
    served = stopped(spec=APART, instances=3)
    served.engines[place].dead = True
    served.run(30.0)
    assert served.client.failed > 0
    failed = served.client.failed
    served.restart(served.engines[place])
    served.run(60.0)
    assert served.client.failed <= failed + 20  # those refused in the last second are told after it
    assert served.client.under_way < 60


def test_a_weak_link_delays_first_tokens_between_the_two_sides() -> None:
    served = stopped(spec=APART, instances=3)
    served.run(30.0)
    served.engines[0].link = 0.0005
    served.run(60.0)
    first_s = {late: np.mean([r.first_at - r.sent_at for r in served.client.ended if (r.sent_at > 31) == late]) for late in (False, True)}
    assert first_s[True] > 2 * first_s[False]


def test_weights_of_the_router_are_an_imbalance() -> None:
    served = stopped()
    served.router.weights = (1.0, 9.0)
    before = [e.meter.requests for e in served.engines]
    served.run(40.0)
    grown = [e.meter.requests - b for e, b in zip(served.engines, before, strict=True)]
    assert 6 < grown[1] / grown[0] < 12


def test_the_prefix_aware_router_keeps_a_prefix_together() -> None:
    hits = []
    for policy in ("round_robin", "prefix_aware"):
        spec = msgspec.structs.replace(loaded(shared_prefixes=64, shared_tokens=4 * PIECE_TOKENS), router=policy)
        served = of(spec, 4)
        served.run(float("inf"))
        hits.append(sum(e.meter.cached_tokens for e in served.engines))
    assert hits[1] > 1.1 * hits[0]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param(msgspec.structs.replace(SPEC, prefill=2), "leave none to decode", id="nobody decodes"),
        pytest.param(ServiceSpec(load=Load(most_in_flight=3)), "events", id="a limit in closed form"),
    ],
)
def test_a_service_that_cannot_be(spec: ServiceSpec, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        check(spec, 2)


@pytest.mark.parametrize(
    ("shape", "hardware", "said"),
    [
        pytest.param("gpt", "h100", "gpt", id="a model nobody knows"),
        pytest.param("llama3-8b", "abacus", "abacus", id="hardware nobody knows"),
        pytest.param("deepseek-v3", "h100", "does not fit", id="weights beyond the memory"),
    ],
)
def test_a_model_that_cannot_run(shape: str, hardware: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        ServiceSpec(shape=shape, hardware=hardware).cost("both")

"""Engines in closed form: what they count does not depend on who looks when, and is near what the steps would give."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cluster import Cluster
from simulator.inference import vllm
from simulator.inference.arrivals import Load
from simulator.inference.lengths import Lengths
from simulator.inference.limits import Limits
from simulator.inference.operating import operating
from simulator.inference.spec import Pace, ServiceSpec
from simulator.inference.view import SIGNALS
from simulator.serving import Engine, Service

START = 1_800_000_000.0
SPEC = ServiceSpec(
    limits=Limits(max_num_seqs=32, jitter=0.02), pace=Pace(overhead_s=0.02),
    load=Load(rate=8.0, prompt=Lengths(mean=700, spread=0.2), output=Lengths(mean=100, spread=0.2)),
)  # fmt: skip


def service(spec: ServiceSpec = SPEC, *, nodes: int = 2, seed: int = 3) -> Service:
    cluster = Cluster(nodes, seed=seed, start=START)
    made = Service("chat", "m", cluster, spec=spec)
    made.place(list(cluster.nodes.values()))
    made.advance(START)
    return made


def until(served: Service, passed_s: float) -> None:
    served.cluster.now = START + passed_s
    served.advance(served.cluster.now)


def signal(engine: Engine, name: str) -> float:
    signals, values = engine.service.readings()
    alive = [e for e in engine.service.engines if not e.dead]
    return float(values[alive.index(engine), signals.index(f"serving.{name}")])


def breakdown(served: Service) -> None:
    """A story: one engine stalls, is slow, loses blocks, dies, comes back."""
    engine = served.engines[0]
    for passed_s, name, value in (
        (100, "stalled", True), (150, "stalled", False), (400, "slow", 20.0), (500, "slow", 1.0), (700, "leaked_blocks", 10**9),
        (760, "leaked_blocks", 0), (900, "dead", True), (960, "dead", False),
    ):  # fmt: skip
        until(served, passed_s)
        setattr(engine, name, value)
    until(served, 1500)


@given(st.lists(st.floats(0, 1500), max_size=30))
@settings(max_examples=6, deadline=None)
def test_who_looks_when_changes_nothing(looks: list[float]) -> None:
    looked, left = service(), service()
    left_at = iter(sorted(looks))
    following = next(left_at, None)
    for passed_s, name, value in ((100, "stalled", True), (160, "stalled", False), (600, "slow", 25.0), (700, "slow", 1.0), (1500, "", 0)):
        while following is not None and following < passed_s:
            until(looked, following)
            looked.readings()
            following = next(left_at, None)
        for served in (looked, left):
            until(served, passed_s)
            if name:
                setattr(served.engines[0], name, value)
    assert looked.readings()[1] == pytest.approx(left.readings()[1], abs=1.01)


def test_it_is_near_what_the_steps_give() -> None:
    closed, stepped = service(), service(msgspec.structs.replace(SPEC, mode="events"))
    for served in (closed, stepped):
        until(served, 100)
    closed_sum, stepped_sum = (np.sum(served.readings()[1], axis=0) for served in (closed, stepped))
    place = {name.removeprefix("serving."): n for n, name in enumerate(SIGNALS)}
    for name in ("requests_total", "prompt_tokens_total", "generation_tokens_total"):
        assert closed_sum[place[name]] == pytest.approx(stepped_sum[place[name]], rel=0.1)
    for name, within in (("ttft_s", 0.35), ("itl_s", 0.1), ("tpot_s", 0.1), ("e2e_s", 0.15)):
        means = [sums[place[f"{name}_sum"]] / sums[place[f"{name}_count"]] for sums in (closed_sum, stepped_sum)]
        assert means[0] == pytest.approx(means[1], rel=within), name


def test_a_stalled_engine_stands_still_and_its_queue_shows_when_it_goes_on() -> None:
    served = service()
    engine = served.engines[0]
    until(served, 100)
    engine.stalled = True
    before = signal(engine, "generation_tokens_total")
    shown = [engine.view.running, engine.view.waiting]
    for passed_s in (115, 130, 145, 200):
        until(served, passed_s)
        assert signal(engine, "generation_tokens_total") == before
        assert [engine.running, engine.waiting] == shown
    assert (engine.state, shown[0] > 0) == ("stalled", True)
    engine.stalled = False
    assert engine.waiting > 100
    until(served, 230)
    assert signal(engine, "generation_tokens_total") > before


def test_a_restart_by_order_mends_and_counts_from_nothing() -> None:
    served = service()
    until(served, 100)
    served.engines[0].stalled = True
    served.restart_at = START + 160
    until(served, 150)
    assert served.engines[0].state == "stalled"
    until(served, 161)
    assert served.engines[0].state == "healthy"
    assert signal(served.engines[0], "requests_total") < 10


def test_lost_blocks_are_an_exhausted_cache_with_preemptions_and_a_queue() -> None:
    served = service()
    engine = served.engines[0]
    until(served, 100)
    engine.leaked_blocks = int(engine.view.blocks * 0.999)
    until(served, 300)
    assert signal(engine, "kv_use_ratio") > 0.99
    assert signal(engine, "preemptions_total") > 0
    assert signal(engine, "requests_waiting") > 10
    assert engine.state == "degraded"


def test_a_dead_engine_says_nothing_and_the_others_get_its_requests() -> None:
    served = service()
    dead, other = served.engines
    until(served, 100)
    before = signal(other, "requests_total")
    dead.dead = True
    until(served, 200)
    assert served.page(dead) == ""
    assert served.readings()[1].shape == (1, len(SIGNALS))
    assert signal(other, "requests_total") - before == pytest.approx(2 * before, rel=0.15)


def test_weights_are_an_imbalance() -> None:
    served = service()
    served.route((1.0, 3.0))
    until(served, 400)
    first, second = (signal(engine, "requests_total") for engine in served.engines)
    assert second / first == pytest.approx(3.0, rel=0.2)
    served.route()
    until(served, 800)
    assert signal(served.engines[1], "requests_total") - second == pytest.approx(1600, rel=0.15)


def test_prefill_and_decode_apart() -> None:
    served = service(msgspec.structs.replace(SPEC, prefill=1), nodes=3)
    until(served, 300)
    first = served.engines[0]
    assert signal(first, "generation_tokens_total") == pytest.approx(signal(first, "requests_total"), abs=1)
    made = sum(signal(engine, "generation_tokens_total") for engine in served.engines[1:])
    assert made == pytest.approx(100 * signal(first, "requests_total"), rel=0.1)


def test_adding_an_engine_changes_no_other_ones_arrivals() -> None:
    double = msgspec.structs.replace(SPEC, load=msgspec.structs.replace(SPEC.load, rate=12.0))
    two, three = service(), service(double, nodes=3)
    for served in (two, three):
        until(served, 500)
    assert signal(two.engines[0], "requests_total") == signal(three.engines[0], "requests_total")


def test_the_same_seed_writes_the_same_page() -> None:
    pages = []
    for _ in range(2):
        served = service()
        breakdown(served)
        pages.append([served.page(engine) for engine in served.engines])
    assert pages[0] == pages[1]
    assert "vllm:num_requests_running" in pages[0][0]


@pytest.mark.parametrize("role", ["both", "prefill", "decode"])
def test_more_requests_make_more_of_everything_until_it_is_full(role: str) -> None:
    cost = SPEC.cost("both")
    points = [
        operating(cost, SPEC.limits, role, rate=rate, prompt=700.0, output=100.0, blocks=20_000, slow=1.0)
        for rate in (0.5, 2.0, 5.0, 10.0, 50.0)
    ]
    assert [p.running for p in points] == sorted(p.running for p in points)
    assert len({round(p.most, 6) for p in points}) == 1
    slow = operating(cost, SPEC.limits, role, rate=2.0, prompt=700.0, output=100.0, blocks=20_000, slow=2.0)
    assert slow.most == pytest.approx(points[0].most / 2)
    assert slow.step_s > points[1].step_s


def test_a_service_that_moves_begins_anew_where_the_node_changed() -> None:
    cluster = Cluster(3, seed=1, start=START)
    nodes = list(cluster.nodes.values())
    served = Service("chat", "m", cluster, spec=SPEC)
    served.place(nodes[:2])
    until(served, 100)
    served.place([nodes[0], nodes[2]])
    until(served, 110)
    assert [node.job for node in nodes] == ["chat", "", "chat"]
    assert signal(served.engines[0], "requests_total") > 300
    assert signal(served.engines[1], "requests_total") < 80
    assert 'vllm:num_requests_running{engine="0",model_name="m"}' in vllm.page(served.engines[1].view, now=cluster.now)

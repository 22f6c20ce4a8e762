"""The exporter as a whole: what the loop does is counted, the page is what promtool wants, and nothing odd breaks it."""

import subprocess
import threading
from collections.abc import Iterator
from itertools import pairwise
from shutil import which

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.figures import catalogue
from exporters.prometheus import Prometheus
from holdfast.events import Changes, Event, Lines, Order, Outcome, Samples, Steps, Tick
from holdfast.faults import Fault, Perception, Symptom, Verb
from holdfast.incident import State, Trigger
from holdfast.ports import Exporter, Scraped
from holdfast.topology import JobId, Kind, Target
from tests.unit.exporters.scraped import (
    FACTS,
    Values,
    beats,
    change,
    finding,
    kept_by,
    moved,
    node_change,
    reading,
    repair,
    shown,
    steps,
    training,
    values_of,
)

NODE = Target(Kind.NODE, "n1")


def everything() -> Iterator[Event]:
    """A little of all that is exported."""
    yield change(0, "started", **FACTS)
    yield from training(0, 20)
    yield node_change(1, "n1", "cordoned")
    yield finding(90, NODE)
    yield from repair(100, 103)
    yield Order(at=103, id="i1/replace/1", incident="i1", verb=Verb.REPLACE)
    yield Outcome(at=120, order="i1/replace/1", done=True)
    yield moved(
        150, State.RESOLVED, Trigger.STEPPED, claimed_at=100, diagnosed_at=102, decided_at=103, ended_at=150, verb=Verb.REPLACE
    )
    yield beats(151, 20, 151.0)
    yield reading(152, requests_running=1.0, requests_total=1.0, ttft_s_sum=1.0, ttft_s_count=1.0)
    yield reading(167, requests_running=2.0, requests_total=9.0, ttft_s_sum=3.0, ttft_s_count=9.0)
    targets = (Target(Kind.DEVICE, "0", node="n1"),)
    signals = ("gpu.temp_c", "gpu.power_w", "gpu.util_ratio", "nic.up")
    yield Samples(at=167, source="dcgm:n1", targets=targets, signals=signals, values=np.ones((1, 4)))


def test_it_is_what_the_ports_want() -> None:
    exporter: Exporter = Prometheus()
    exporter.export(Tick(at=1.0))
    assert isinstance(exporter, Scraped)
    assert exporter.page().startswith(b"# HELP holdfast_job_state 1 for the state")


def test_promtool_has_nothing_to_say() -> None:
    if which("promtool") is None:
        pytest.skip("promtool is not installed: it comes with Debian's package prometheus")
    exporter = Prometheus(simulated=True)
    for event in everything():
        exporter.export(event)
    checked = subprocess.run(["promtool", "check", "metrics"], input=exporter.page(), capture_output=True, timeout=30)
    assert (checked.returncode, checked.stdout.decode(), checked.stderr.decode()) == (0, "", "")


def test_every_figure_of_the_catalogue_can_have_a_value() -> None:
    page = shown(*everything())
    names = {key.partition("{")[0].removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for key in page}
    # the rest needs what the events above do not tell
    missing = {name for name in catalogue() if name not in names}
    assert missing == {
        "holdfast_job_phase_seconds", "holdfast_job_gradient_norm", "holdfast_job_accuracy", "holdfast_serving_kv_cache_use_ratio",
        "holdfast_serving_requests_waiting", "holdfast_serving_tokens_per_second", "holdfast_serving_time_per_output_token_seconds",
        "holdfast_serving_inter_token_latency_seconds",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("events", "figure", "value"),
    [
        pytest.param([finding(1, NODE)], 'findings_total{perception="node_fault",severity="error"}', 1, id="a claim"),
        pytest.param([finding(1, NODE, cleared=True)], 'findings_total{perception="node_fault",severity="error"}', 0, id="a withdrawal"),
        pytest.param(repair(100, 103)[:1], 'incidents{state="open"}', 1, id="an incident is open"),
        pytest.param(repair(100, 103), 'incidents{state="open"}', 0, id="it is not open any more"),
        pytest.param(repair(100, 103), 'incidents{state="recovering"}', 1, id="it is being repaired"),
        pytest.param(list(everything()), 'incidents{state="recovering"}', 0, id="it is over"),
        pytest.param(list(everything()), 'incidents_total{fault="gpu_hw",verdict="culprit"}', 1, id="it is counted"),
        pytest.param(list(everything()), 'orders_total{verb="replace"}', 1, id="an order"),
        pytest.param(list(everything()), 'outcomes_total{result="done",verb="replace"}', 1, id="its outcome"),
        pytest.param(list(everything()), 'diagnosis_seconds_sum{fault="gpu_hw"}', 3, id="from the claim to the verdict"),
        pytest.param(list(everything()), 'recovery_seconds_sum{fault="gpu_hw",verb="replace"}', 50, id="from the claim to the end"),
        pytest.param(list(everything()), 'observations_total{type="steps"}', 20, id="observations by their type"),
        pytest.param([], "simulated", 1, id="it says that all is simulated"),
        pytest.param([], "lag_seconds", 0, id="a simulation is its own clock"),
    ],
)
def test_the_loop_is_counted(events: list[Event], figure: str, value: float) -> None:
    assert shown(*events)[f"holdfast_{figure}"] == value


@pytest.mark.parametrize(
    ("outcome", "verb", "result"),
    [
        pytest.param(Outcome(at=1, order="i1/restart/1", done=True), "restart", "done", id="done"),
        pytest.param(Outcome(at=1, order="i1/restart/1", done=False), "restart", "failed", id="failed"),
        pytest.param(Outcome(at=1, order="i1/restart/1", done=False, refused=True), "restart", "refused", id="refused"),
        pytest.param(Outcome(at=1, order="i1/restart/1", done=False, held=True), "restart", "held", id="held"),
        pytest.param(Outcome(at=1, order="i1/watch/1", done=True), "watch", "done", id="only watched"),
        pytest.param(Outcome(at=1, order="i1/drop tables/1", done=True), "unknown", "done", id="no verb"),
        pytest.param(Outcome(at=1, order="", done=True), "unknown", "done", id="no order"),
    ],
)
def test_an_outcome(outcome: Outcome, verb: str, result: str) -> None:
    assert shown(outcome)[f'holdfast_outcomes_total{{result="{result}",verb="{verb}"}}'] == 1


def test_an_incident_is_counted_once_though_it_needs_a_person_before_it_ends() -> None:
    needs = moved(130, State.NEEDS_HUMAN, Trigger.REFUSED, claimed_at=100, ended_at=130)
    ends = moved(900, State.RESOLVED, Trigger.CLEARED, claimed_at=100, ended_at=900)
    before, after = shown(*repair(100, 103), needs), shown(*repair(100, 103), needs, ends)
    assert before['holdfast_incidents{state="needs_human"}'] == 1
    assert after['holdfast_incidents{state="needs_human"}'] == 0
    assert [page['holdfast_incidents_total{fault="gpu_hw",verdict="culprit"}'] for page in (before, after)] == [1, 1]


@pytest.mark.parametrize(
    ("detail", "at", "seconds"),
    [
        pytest.param({"silence_s": 20.5}, 100.0, 20.5, id="a hang is dated by the last step"),
        pytest.param({}, 101.5, 1.5, id="a line is dated by its time"),
        pytest.param({"silence_s": "long"}, 100.0, 0.0, id="a word is no duration"),
    ],
)
def test_detection_is_counted_from_the_evidence_to_the_claim(detail: dict[str, float], at: float, seconds: float) -> None:
    claim = moved(at, State.OPEN, Trigger.CLAIMED, claimed_at=100, detail=detail)
    verdict = moved(at + 2, State.RECOVERING, Trigger.DIAGNOSED, claimed_at=100, diagnosed_at=at + 2, fault=Fault.NIC)
    page = shown(claim, verdict)
    assert page['holdfast_detection_seconds_sum{fault="nic"}'] == seconds
    assert page['holdfast_detection_seconds_count{fault="nic"}'] == 1


def test_what_other_exporters_drop_is_shown() -> None:
    class Queue:
        dropped = 7

    exporter = Prometheus()
    exporter.watch("webhook", Queue())
    exporter.watch("otlp", Queue())
    exporter.watch("otlp", Queue())
    assert values_of(exporter.page())['holdfast_dropped_records_total{where="export"}'] == 14


def test_the_lag_is_absent_until_the_service_tells_it() -> None:
    exporter = Prometheus()
    assert "holdfast_lag_seconds" not in values_of(exporter.page())
    exporter.lag(0.25)
    assert values_of(exporter.page())["holdfast_lag_seconds"] == 0.25


def test_two_exporters_do_not_know_each_other() -> None:
    first, second = Prometheus(simulated=True), Prometheus()
    first.export(steps(1, 1))
    assert 'holdfast_job_step{job="j"}' not in values_of(second.page())


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(Lines(at=1, source="\x00\n\"\\", file="f", first=1, lines=("x",)), id="a source with quotes and lines in its name"),
        pytest.param(steps(1, 1, job='j"}\n# HELP x', source="a"), id="a job that looks like a page"),
        pytest.param(steps(1, 1, job="j" * 100_000), id="a job whose name does not end"),
        pytest.param(steps(1, 1, job="\ud800"), id="a name that is no text"),
        pytest.param(steps(1, 1, ranks=0), id="no ranks"),
        pytest.param(steps(float("inf"), 2**62, loss=float("inf"), tokens=float("-inf")), id="numbers without end"),
        pytest.param(steps(float("nan"), 1, step_s=-1.0), id="a time that is no number"),
        pytest.param(change(1, "exploded"), id="a state that is none"),
        pytest.param(change(1, "started", devices=[8], model=3, world_size=True), id="facts of other types"),
        pytest.param(reading(1, requests_total=float("nan"), ttft_s_sum=float("inf")), id="an engine that counts nonsense"),
        pytest.param(beats(1, 2**62, float("nan")), id="a beat of no time"),
    ],
)
def test_what_is_broken_breaks_nothing(event: Event) -> None:
    page = shown(event, *everything(), event)
    assert page['holdfast_orders_total{verb="replace"}'] == 1
    assert all(np.isfinite(value) for value in page.values())


AT = st.floats(0, 500)
EVENTS = st.one_of(
    st.builds(steps, AT, st.integers(0, 40), source=st.sampled_from(["a", "b"]), step_s=st.just(4.0), loss=st.floats(0, 9)),
    st.builds(change, AT, st.sampled_from(["started", "restarting", "failed", "finished", "stopped"]), attempt=st.integers(0, 3)),
    st.builds(beats, AT, st.integers(-1, 40), AT, attempt=st.integers(0, 3), phase=st.sampled_from(["", "checkpoint"])),
    st.builds(
        moved, AT, st.sampled_from(State), st.sampled_from(Trigger), claimed_at=AT, symptom=st.sampled_from(Symptom),
        decided_at=st.none() | AT, diagnosed_at=st.none() | AT, ended_at=st.none() | AT, id=st.sampled_from(["i1", "i2"]),
    ),
    st.builds(reading, AT, requests_total=st.floats(0, 100), requests_running=st.floats(0, 9)),
)  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(st.lists(EVENTS, max_size=15))
def test_counters_only_grow_and_nothing_is_infinite(events: list[Event]) -> None:
    """In whatever order things are told, but for a lower attempt: that may be another job of the same name, counted from 0."""
    exporter, attempt = Prometheus(simulated=True), 0
    pages: list[Values] = []
    for event in events:
        told = event.changes[0].attempt if isinstance(event, Changes) else attempt
        if told >= attempt:
            attempt = told
            exporter.export(event)
            pages.append(kept_by(exporter))
    for before, after in pairwise(pages):
        counters = [key for key in before if key.partition(" ")[0].endswith("_total")]
        assert [key for key in counters if after.get(key, 0.0) < before[key]] == []
    ratios = [value for page in pages for key, value in page.items() if key.partition(" ")[0].endswith("_ratio")]
    assert all(0 <= value <= 1 for value in ratios)


def test_the_page_is_asked_for_while_events_come() -> None:
    exporter, done, pages = Prometheus(simulated=True), threading.Event(), []

    def ask() -> None:
        while not done.is_set():
            pages.append(exporter.page())

    asker = threading.Thread(target=ask)
    asker.start()
    for n in range(400):
        exporter.export(steps(float(n), n, job=f"j{n % 50}", source=f"a{n}"))
    done.set()
    asker.join(10)
    assert values_of(exporter.page())['holdfast_observations_total{type="steps"}'] == 400
    assert all(values_of(page) for page in pages[-3:])


def test_a_batch_of_every_rank_is_kept_as_it_is() -> None:
    """One series for each rank of a great job would bring any Prometheus down."""
    ranks = 16_384
    told = Steps(
        at=8.0, source="agents", job=JobId("j"), ranks=np.arange(ranks), steps=np.full(ranks, 3), ended_at=np.full(ranks, 8.0),
        signals=("step_s", "phase.forward_s"), values=np.ones((ranks, 2)),
    )  # fmt: skip
    page = shown(told)
    assert page['holdfast_job_devices{job="j"}'] == ranks
    assert len(page) < 400


def test_a_perception_is_counted_from_the_start() -> None:
    """So that the first claim of its kind shows as an increase."""
    page = shown()
    assert {page[f'holdfast_findings_total{{perception="{word}",severity="fatal"}}'] for word in Perception} == {0.0}

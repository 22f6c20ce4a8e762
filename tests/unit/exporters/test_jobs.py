"""Figures of jobs, from the events of schedulers and agents."""

from typing import Any

import numpy as np
import pytest

from exporters.jobs import FORGET_S
from exporters.prometheus import Prometheus
from exporters.throughput import WINDOW_S
from holdfast.events import Event, Steps
from holdfast.faults import Symptom, Verb
from holdfast.incident import State, Trigger
from holdfast.topology import JobId
from tests.unit.exporters.scraped import (
    FACTS,
    beats,
    change,
    moved,
    parts,
    repair,
    shown,
    state,
    steps,
    training,
    values_of,
)

RUNS: list[Event] = [change(0, "started", **FACTS), *training(0, 20)]  # the last step ends at 80
HANG = moved(100, State.OPEN, Trigger.CLAIMED, claimed_at=100)
CRASH = moved(100, State.OPEN, Trigger.CLAIMED, claimed_at=100, symptom=Symptom.CRASH)


@pytest.mark.parametrize(
    ("events", "word"),
    [
        pytest.param(RUNS[:1], "starting", id="no step yet"),
        pytest.param(RUNS, "running", id="it steps"),
        pytest.param([*training(0, 1)], "running", id="it steps and nobody has said that it started"),
        pytest.param([*RUNS, HANG], "hanging", id="a hang is claimed"),
        pytest.param([*RUNS, CRASH], "running", id="a crash is no hang"),
        pytest.param([*RUNS, HANG, steps(104, 20)], "running", id="it steps again by itself"),
        pytest.param([*RUNS, HANG, change(105, "restarting", attempt=1)], "restarting", id="it is scheduled again"),
        pytest.param(
            [*RUNS, HANG, change(105, "restarting", attempt=1), change(140, "started", attempt=1)], "starting", id="it runs again"
        ),
        pytest.param(
            [*RUNS, HANG, change(105, "started", attempt=1), steps(115, 16)], "running", id="an attempt that nobody announced"
        ),
        pytest.param([*RUNS, change(105, "started", attempt=1), change(106, "failed")], "starting", id="late news of the attempt before"),
        pytest.param([*RUNS, change(90, "failed")], "failed", id="it fails"),
        pytest.param([*RUNS, change(90, "stopped")], "stopped", id="somebody stops it"),
        pytest.param([*RUNS, change(90, "finished"), steps(91, 20)], "finished", id="a step told after the end"),
        pytest.param([*RUNS, change(90, "finished"), change(200, "started")], "starting", id="its name is used again"),
        pytest.param([beats(10, 3, 9.0, attempt=2)], "running", id="only an agent has told of it"),
        pytest.param(
            [*RUNS, HANG, moved(110, State.RESOLVED, Trigger.CLEARED, claimed_at=100)], "running", id="the claim is withdrawn"
        ),
        pytest.param([change(0, "started", model="llama")], "running", id="a service makes no steps"),
    ],
)  # fmt: skip
def test_the_state_of_a_job(events: list[Event], word: str) -> None:
    assert state(shown(*events)) == word


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        pytest.param("devices", 8, id="devices as told"),
        pytest.param("attempt", 0, id="never started again"),
        pytest.param("step", 19, id="the last step"),
        pytest.param("step_seconds", 4, id="seconds of a step"),
        pytest.param("tokens_per_second", 100_000, id="tokens of a step every four seconds"),
        pytest.param("tokens_per_second_per_device", 12_500, id="tokens per device"),
        pytest.param("mfu_ratio", 100_000 * 1e10 / 8e15, id="the operations it makes over those it could make"),
        pytest.param("linearity_ratio", 100_000 / 120_000, id="against twice the reference on half the devices"),
        pytest.param("loss", 2, id="its loss"),
        pytest.param("effective_training_ratio", 1, id="nothing lost"),
        pytest.param("effective_training_time_ratio", 1, id="not even to checkpoints"),
        pytest.param("interruptions_total", 0, id="no interruption"),
        pytest.param("bad_loss_steps_total", 0, id="every loss a number"),
    ],
)
def test_a_healthy_job(figure: str, value: float) -> None:
    assert shown(*RUNS)[f'holdfast_job_{figure}{{job="j"}}'] == pytest.approx(value)


def test_an_interruption_is_told_by_its_parts() -> None:
    page = shown(
        *RUNS, *repair(100, 103), change(103.5, "restarting", attempt=1), change(140, "started", attempt=1),
        steps(150, 16), steps(154, 17), steps(158, 18), steps(162, 19), steps(166, 20),
    )  # fmt: skip
    assert parts(page) == {"detect": 20, "decide": 3, "schedule": 37, "initialise": 10, "recompute": 16}
    assert page['holdfast_job_effective_training_ratio{job="j"}'] == pytest.approx(1 - 86 / 166)
    assert page['holdfast_job_interruptions_total{job="j"}'] == 1
    assert page['holdfast_job_attempt{job="j"}'] == 1


def test_an_agent_with_a_clock_of_its_own_does_not_carry_the_job_into_the_future() -> None:
    page = shown(*RUNS, steps(9e9, 20, source="agent:wild"), steps(84, 21))
    assert page['holdfast_job_step{job="j"}'] == 21
    assert page['holdfast_job_effective_training_ratio{job="j"}'] == 1


@pytest.mark.parametrize(
    ("told", "rate"),
    [
        pytest.param({"tokens": 1000.0}, 2000.0, id="the ranks tell their tokens"),
        pytest.param({"tokens": float("nan")}, None, id="nobody tells any"),
        pytest.param({"loss": 1.0}, None, id="nobody could"),
    ],
)
def test_tokens_as_the_ranks_tell_them(told: dict[str, Any], rate: float | None) -> None:
    page = shown(*(steps(4.0 * n, n, step_s=4.0, **told) for n in range(1, 9)))
    assert page.get('holdfast_job_tokens_per_second{job="j"}') == rate


def test_tokens_of_agents_that_tell_one_after_the_other_are_added_up() -> None:
    told = [steps(4.0 * n, n, source=f"agent:n{m}", tokens=1000.0) for n in range(1, 9) for m in range(3)]
    assert shown(*told[:-1])['holdfast_job_tokens_per_second{job="j"}'] == 6000.0


def test_one_step_alone_has_a_rate_too() -> None:
    page = shown(change(0, "started", **FACTS), steps(10, 0, step_s=4.0))
    assert page['holdfast_job_tokens_per_second{job="j"}'] == 100_000


@pytest.mark.parametrize(
    ("after", "rate"),
    [
        pytest.param([], 100_000, id="it steps"),
        pytest.param([beats(81 + WINDOW_S, 19, 80.0)], 0, id="no token in the last window"),
        pytest.param([change(100, "restarting", attempt=1)], 0, id="it is scheduled again"),
        pytest.param([change(100, "failed")], 0, id="it has failed"),
    ],
)
def test_a_rate_is_not_stale(after: list[Event], rate: float) -> None:
    page = shown(*RUNS, *after)
    rates = [page[f'holdfast_job_{name}{{job="j"}}'] for name in ("tokens_per_second", "mfu_ratio", "linearity_ratio")]
    assert rates[0] == rate
    assert (rates[1] > 0, rates[2] > 0) == (rate > 0, rate > 0)


def test_without_facts_nothing_is_made_up() -> None:
    page = shown(change(0, "started"), *training(0, 5))
    absent = ("tokens_per_second", "tokens_per_second_per_device", "mfu_ratio", "linearity_ratio")
    assert [name for name in absent if f'holdfast_job_{name}{{job="j"}}' in page] == []


@pytest.mark.parametrize(
    ("detail", "settings", "devices"),
    [
        pytest.param({"devices": 16}, {"devices": 4}, 16, id="the job knows best"),
        pytest.param({"devices": -1}, {"devices": 4}, 4, id="nonsense is passed over"),
        pytest.param({"devices": "many"}, {"devices": 4}, 4, id="words are passed over"),
        pytest.param({"world_size": 32}, {}, 32, id="a device for each rank that was started"),
        pytest.param({}, {}, 8, id="a device for each rank that was heard"),
    ],
)
def test_devices(detail: dict[str, Any], settings: dict[str, float], devices: float) -> None:
    page = shown(change(0, "started", **detail), *training(0, 3), jobs={"j": settings})
    assert page['holdfast_job_devices{job="j"}'] == devices


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param({"flops": 1.0}, "jobs.j: .*flops", id="an unknown key"),
        pytest.param({"devices": 0.0}, "jobs.j: devices must be above 0", id="no devices"),
        pytest.param({"flops_per_token": float("nan")}, "jobs.j: flops_per_token must be above 0", id="no number"),
        pytest.param({"devices": "8"}, "jobs.j: .*devices", id="a word for a number"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Prometheus(jobs={"j": settings})


def test_a_loss_that_is_no_number_is_left_out_and_counted() -> None:
    nan = float("nan")
    bad = [steps(84.0 + 4 * n, 20 + n, loss=nan, loss_nan=1.0, grad_norm=nan) for n in range(3)]
    page = shown(*RUNS, *bad, bad[-1])
    assert 'holdfast_job_loss{job="j"}' not in page
    assert page['holdfast_job_bad_loss_steps_total{job="j"}'] == 3


def test_phases_are_told_by_median_and_max_of_the_newest_step() -> None:
    values = np.array([[1.0, 0.1], [1.2, np.nan], [2.0, 0.3], [9.0, 9.0]])
    told = Steps(
        at=8.0, source="a", job=JobId("j"), ranks=np.array([0, 1, 2, 0]), steps=np.array([5, 5, 5, 4]),
        ended_at=np.array([8.0, 8.0, 8.0, 4.0]), signals=("phase.forward_s", "phase.data_s"), values=values,
    )  # fmt: skip
    page = shown(told)
    phases = {key.split("phase=")[1]: value for key, value in page.items() if key.startswith("holdfast_job_phase_seconds")}
    assert phases == {
        '"forward",stat="median"}': 1.2, '"forward",stat="max"}': 2.0, '"data",stat="median"}': 0.2, '"data",stat="max"}': 0.3,
    }  # fmt: skip
    assert page['holdfast_job_step{job="j"}'] == 5


def test_a_job_that_only_beats_has_steps_and_seconds() -> None:
    page = shown(change(0, "started", **FACTS), *(beats(10.0 * n, 2 * n, 10.0 * n - 1) for n in range(1, 6)))
    assert page['holdfast_job_step{job="j"}'] == 10
    assert page['holdfast_job_step_seconds{job="j"}'] == 5
    assert page['holdfast_job_tokens_per_second{job="j"}'] == 80_000


def test_announced_checkpoints_count_for_the_second_ratio_only() -> None:
    saving = [beats(81, 19, 80.0, phase="checkpoint", phase_at=80.0), beats(85, 19, 80.0, phase="checkpoint", phase_at=80.0)]
    page = shown(*RUNS, *saving, steps(90, 20))
    assert parts(page) == {"checkpoint": 5}
    assert page['holdfast_job_effective_training_ratio{job="j"}'] == 1
    assert page['holdfast_job_effective_training_time_ratio{job="j"}'] == pytest.approx(1 - 5 / 90)


def test_a_stop_that_was_decided_is_not_the_decision_to_start_again() -> None:
    stop = moved(103, State.RECOVERING, Trigger.DECIDED, claimed_at=100, decided_at=103, verb=Verb.STOP)
    page = shown(*RUNS, HANG, stop, change(105, "stopped"), change(200, "started", attempt=1))
    assert parts(page) == {"detect": 20, "decide": 100}


def test_a_counter_does_not_go_back_when_an_agent_tells_late() -> None:
    exporter = Prometheus(simulated=True)
    for event in [*RUNS, *repair(100, 103), change(103.5, "restarting", attempt=1), beats(150, -1, 0.0, attempt=0)]:
        exporter.export(event)
    exporter.page()
    exporter.export(change(140, "started", attempt=1))
    page = values_of(exporter.page())
    assert parts(page) == {"detect": 20, "decide": 3, "schedule": 47, "initialise": 10}
    assert page['holdfast_job_effective_training_ratio{job="j"}'] == pytest.approx(1 - 70 / 150)


def test_a_job_that_has_ended_is_shown_for_an_hour() -> None:
    events = [*RUNS, change(90, "finished"), steps(90 + FORGET_S - 1, 1, job="k", source="a")]
    assert state(shown(*events, steps(90 + FORGET_S - 1, 1, job="k", source="b"))) == "finished"
    later = shown(*events, *(steps(90 + FORGET_S + 1, 2, job="k", source=name) for name in "ab"))
    assert [key for key in later if 'job="j"' in key] == []


def test_the_job_longest_unheard_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporters.jobs.MOST_JOBS", 10)
    page = shown(*(steps(100.0 + n, 1, job=f"j{n}", ranks=1) for n in range(12)))
    jobs = [key for key in page if key.startswith("holdfast_job_step{")]
    assert len(jobs) == 10
    assert 'holdfast_job_step{job="j0"}' not in page

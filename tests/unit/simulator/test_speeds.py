"""Both speeds decide the same, and a stream is the same whether it went through text or not."""

from collections.abc import Callable
from functools import cache

import msgspec
import numpy as np
import pytest

from collectors.aliases import aliases
from collectors.exposition import Page, parse_page
from holdfast.api.records import batch_of, observations_of
from holdfast.events import Beats, Finding, Observation, Samples, Steps
from holdfast.simulation import Digest, Reading, Simulation, Speed, Written, settings
from holdfast.wire import canonical
from simulator.scenario import FaultRow, JobRow, Scenario, make
from simulator.sweep import SWEEP_S

FAULTS = (
    FaultRow(kind="gpu_lost", at_s=700.0, job="a", rank=5),
    FaultRow(kind="host_hang", at_s=1500.0, job="b", rank=20),
    FaultRow(kind="thermal_throttle", at_s=1600.0, job="a", rank=9),
)
LASTING_S = 2400.0


def scenario(*faults: FaultRow, text_share: float = 0.2, seed: int = 4) -> Scenario:
    """Two jobs of four and three nodes, and what is left to spare."""
    jobs = (JobRow(name="a", nodes=4, step_s=5.0), JobRow(name="b", nodes=3, step_s=4.0))
    return Scenario(nodes=12, seed=seed, lasting_s=LASTING_S, text_share=text_share, job=jobs, fault=faults)


@cache
def told(speed: Speed) -> Simulation:
    """The simulation at its end."""
    running = Simulation(scenario(*FAULTS), Digest(), settings(), speed=speed)
    while not running.over:
        running.step()
    return running


def test_the_orders_and_the_findings_are_the_same_at_both_speeds() -> None:
    full, fast = told(Speed.FULL), told(Speed.FAST)
    assert isinstance(full.journal, Digest)
    assert isinstance(fast.journal, Digest)
    assert fast.journal.orders == full.journal.orders
    assert len([line for line in full.journal.orders if '"order"' in line]) >= len(FAULTS)
    watched = [canonical(finding) for finding in fast.journal.findings]
    assert watched == [canonical(finding) for finding in full.journal.findings]
    assert fast.world.observed_node_s < 0.8 * full.world.observed_node_s


@pytest.mark.parametrize("at_s", [472.0, 474.0, 476.0])
def test_machines_without_a_job_are_heard_of_while_everybody_rests(at_s: float) -> None:
    """The job rests for some seconds before it is woken for its story: too short a leap to be taken for the service's own absence."""
    jobs, faults = (JobRow(name="a", nodes=4, step_s=4.0),), (FaultRow(kind="gpu_lost", at_s=at_s, job="a", rank=5),)
    running = Simulation(Scenario(nodes=6, seed=4, lasting_s=at_s - 30.0, job=jobs, fault=faults), Digest(), settings(), speed=Speed.FAST)
    while not running.over:
        running.step()
    assert isinstance(running.journal, Digest)
    assert [finding.check for finding in running.journal.findings if finding.check.startswith("heartbeat.")] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(1, 9))
def test_swarms_of_faults_are_decided_the_same_at_both_speeds(seed: int) -> None:
    jobs = (JobRow(name="a", nodes=8, step_s=5.0, pp=2), JobRow(name="b", nodes=6, step_s=4.0, sequence_sigma=0.05))
    swarm = Scenario(nodes=24, seed=seed, lasting_s=21_600.0, text_share=0.1, job=jobs, plan="count", faults=12, begin_s=900.0)
    journals = []
    for speed in Speed:
        running = Simulation(swarm, Digest(), settings(), speed=speed)
        while not running.over:
            running.step()
        assert isinstance(running.journal, Digest)
        journals.append(running.journal)
    assert journals[0].orders == journals[1].orders
    assert journals[0].orders


def test_the_fast_speed_counts_only_the_hours_that_were_written() -> None:
    quiet = Simulation(scenario(), Digest(), settings(), speed=Speed.FAST)
    while not quiet.over:
        quiet.step()
    score = quiet.score(1.0)
    assert (score["simulated_s"], score["incidents"]) == (LASTING_S, 0)
    assert score["observed_node_hours"] < 1.0
    assert quiet.world.jobs["a"].step > 400


def seen(text_share: float, *kinds: type[Observation]) -> list[Observation]:
    """What of these kinds the collectors of a healthy cluster give in two minutes."""
    world = make(scenario(text_share=text_share))
    reading = Reading(world)
    columns = Written(world.cluster.fetch_columns, reading.columns)
    found: list[Observation] = []
    for _ in range(120):
        world.advance(world.cluster.now + 1.0)
        for body in world.cluster.agents.fetch():
            found += [one for one in observations_of(batch_of(body)) if isinstance(one, Observation)]
        for source, text, node, job in reading.pages(world.cluster.now):
            found += parse_page(Page(source, text or "", node, job), names=aliases(), at=world.cluster.now)
        found += columns.poll(world.cluster.now)
    return [one for one in found if isinstance(one, kinds)]


def rows_of_samples(text_share: float) -> dict[tuple[float, str, str], float]:
    return {
        (one.at, str(target), signal): value
        for one in seen(text_share, Samples) if isinstance(one, Samples)
        for target, row in zip(one.targets, one.values.tolist(), strict=True)
        for signal, value in zip(one.signals, row, strict=True) if not np.isnan(value)
    }  # fmt: skip


def rows_of_steps(text_share: float) -> dict[tuple[str, int, int, str], float]:
    return {
        (one.job, rank, step, signal): value
        for one in seen(text_share, Steps) if isinstance(one, Steps)
        for rank, step, row in zip(one.ranks.tolist(), one.steps.tolist(), one.values.tolist(), strict=True)
        for signal, value in zip(one.signals, row, strict=True)
    }  # fmt: skip


def rows_of_beats(text_share: float) -> dict[tuple[float, str, int], bytes]:
    return {
        (one.at, one.job, beat.rank): msgspec.json.encode(beat)
        for one in seen(text_share, Beats) if isinstance(one, Beats) for beat in one.beats
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "least"),
    [
        pytest.param(rows_of_samples, 12 * 8 * 8, id="readings of exporters"),
        pytest.param(rows_of_steps, 56 * 20, id="reports of steps"),
        pytest.param(rows_of_beats, 56 * 50, id="signs of life"),
    ],
)
def test_what_went_through_text_is_what_came_as_columns(rows: Callable[[float], dict[object, object]], least: int) -> None:
    texts, columns, mixed = rows(1.0), rows(0.0), rows(0.4)
    assert len(texts) > least
    assert texts == columns == mixed


def test_a_sweep_comes_by_the_clock() -> None:
    world = make(scenario())
    reading, turns = Reading(world), 0
    for _ in range(int(4 * SWEEP_S)):
        world.advance(world.cluster.now + 1.0)
        turns += bool(list(reading.pages(world.cluster.now)) or reading.columns())
    assert turns == 4


def test_a_finding_is_kept_by_a_digest_as_its_text_is_hashed() -> None:
    digest = told(Speed.FAST).journal
    assert isinstance(digest, Digest)
    assert all(isinstance(finding, Finding) for finding in digest.findings)
    assert len(digest.sha256()) == 64

"""Who slows a running job: compared over all its nodes, step by step, against its peers and its own past."""

from itertools import chain

import numpy as np
import pytest

from detectors.traceslow.online import Traceslow
from holdfast.events import Finding, Observation
from holdfast.faults import Fault, Judgement, Severity
from holdfast.topology import Kind
from tests.unit.traceslow.reports import Altered, Reports, page, said, slow, told, words

WORKER = "traceslow.slow_worker"


def both(*changes: Altered) -> Altered:
    def change(step: int, times: dict[str, np.ndarray]) -> None:
        for one in changes:
            one(step, times)

    return change


def last_stage(step: int, times: dict[str, np.ndarray]) -> None:
    """The last quarter of the ranks has a heavier stage."""
    times["forward"][-len(times["forward"]) // 4 :] *= 1.5


def collections(step: int, times: dict[str, np.ndarray]) -> None:
    """Each rank collects garbage now and then, and rank 0 writes a log every tenth step."""
    chance = np.random.Generator(np.random.Philox(np.random.SeedSequence([9, step])))
    times["backward"] += 0.5 * (chance.random(len(times["backward"])) < 0.01)
    times["backward"][0] += 0.4 * (step % 10 == 0)


def checkpoints(step: int, times: dict[str, np.ndarray]) -> None:
    if step % 15 == 14:
        times["pause"] = np.full(len(times["forward"]), 4.0)


def uneven(step: int) -> np.ndarray:
    """Tokens of 32 ranks, anew each step."""
    chance = np.random.Generator(np.random.Philox(np.random.SeedSequence([5, step])))
    return np.asarray(4096.0 * np.exp(0.3 * chance.normal(size=32)))


def by_tokens(step: int, times: dict[str, np.ndarray]) -> None:
    for name in ("forward", "backward"):
        times[name] *= uneven(step) / 4096.0


def sends(more_s: float, *ranks: int) -> Altered:
    def change(step: int, times: dict[str, np.ndarray]) -> None:
        times["send_recv"] = np.full(len(times["forward"]), 0.04)
        times["send_recv"][list(ranks)] += more_s

    return change


@pytest.mark.parametrize(
    ("reports", "steps", "expected"),
    [
        pytest.param(Reports(), 90, [], id="nobody is slow"),
        pytest.param(Reports(change=slow(1.3, 5)), 40, [f"{WORKER} rank 5"], id="slow from the first step on, claimed once"),
        pytest.param(Reports(change=slow(1.3, 5, since=30)), 60, [f"{WORKER} rank 5"], id="slow after a good beginning"),
        pytest.param(Reports(change=slow(1.3, 5)), 8, [], id="a few seconds are no habit"),
        pytest.param(
            Reports(change=slow(1.3, 5, until=30)), 60, [f"{WORKER} rank 5", f"-{WORKER} rank 5"], id="withdrawn when it is over"
        ),
        pytest.param(Reports(change=slow(1.3, 5, 21)), 40, [f"{WORKER} rank 21", f"{WORKER} rank 5"], id="two ranks of two nodes"),
        pytest.param(Reports(change=slow(1.3, *range(8, 16))), 40, [f"{WORKER} node n1"], id="all ranks of a node are the node"),
        pytest.param(
            Reports(change=slow(5.0, 12, phase="data")), 40, ["traceslow.data_loading rank 12"], id="one rank waits for its data"
        ),
        pytest.param(Reports(change=sends(0.3, 4, 12)), 40, ["traceslow.slow_link link 4-12"], id="two ends of a link"),
        pytest.param(Reports(change=sends(0.3, 4)), 40, ["traceslow.slow_link rank 4"], id="one end of several links"),
        pytest.param(
            Reports(change=both(slow(2.0, 4), sends(0.3, 5, 6))), 40, [f"{WORKER} rank 4"], id="who waits for a slow rank is a victim"
        ),
        pytest.param(Reports(ranks=64, change=last_stage), 40, [], id="a heavy last stage that nobody told of"),
        pytest.param(
            Reports(change=slow(1.5, *range(24, 32))), 40, ["traceslow.many_slow job j"], id="the last node of few may be the last stage"
        ),
        pytest.param(Reports(change=collections), 90, [], id="pauses of all, and of one every ten steps"),
        pytest.param(Reports(change=checkpoints), 90, [], id="checkpoints"),
        pytest.param(Reports(change=by_tokens, tokens=uneven), 90, [], id="long sequences on other ranks each step"),
        pytest.param(Reports(change=by_tokens), 90, [], id="and nobody tells their tokens"),
        pytest.param(
            Reports(change=both(by_tokens, slow(1.4, 5)), tokens=uneven), 40, [f"{WORKER} rank 5"], id="a slow rank among long sequences"
        ),
        pytest.param(Reports(ranks=3, change=slow(1.5, 2)), 60, [], id="among three nobody is the odd one"),
        pytest.param(Reports(ranks=16, change=slow(1.5, *range(0, 16, 2))), 60, [], id="every second rank is another stage"),
        pytest.param(
            Reports(change=slow(1.3, 5), tells=("phase.all_reduce_s", "step_s")), 40, [f"{WORKER} rank 5"], id="who waits least is late"
        ),
        pytest.param(
            Reports(change=slow(1.3, 5), tells=("phase.forward_s", "phase.backward_s")), 40, [f"{WORKER} rank 5"], id="work alone is told"
        ),
        pytest.param(Reports(change=slow(1.3, 5), tells=("step_s",)), 40, [], id="slow from the beginning with step times alone"),
        pytest.param(
            Reports(change=slow(1.3, 5, since=60), tells=("step_s",)), 85, ["traceslow.global job j"], id="slower with step times alone"
        ),
        pytest.param(
            Reports(change=slow(1.2, *range(32), since=60)), 85, ["traceslow.global job j"], id="all become slower"
        ),
    ],
)  # fmt: skip
def test_who_is_slow(reports: Reports, steps: int, expected: list[str]) -> None:
    found = said(Traceslow(), reports.steps(steps))
    assert words(found) == expected
    assert all(f.judgement is (Judgement.UNDECIDED if f.target.kind is Kind.JOB else Judgement.CULPRIT) for f in found)


def one(found: list[Finding]) -> Finding:
    [finding] = found
    return finding


def test_a_device_that_loses_three_percent_is_found_within_twenty_steps_and_is_only_watched() -> None:
    found = one(said(Traceslow(), Reports(change=both(slow(1.03, 5, since=40), slow(1.03, 5, since=40, phase="backward"))).steps(61)))
    assert (found.target.id, found.severity, found.action) == ("5", Severity.WARNING, "watch")


def test_what_was_worth_watching_and_becomes_worse_is_an_error() -> None:
    change = both(slow(1.04, 5, phase="backward"), slow(1.3, 5, phase="backward", since=60))
    found = said(Traceslow(), Reports(change=change).steps(100))
    assert [(f.severity.value, f.cleared) for f in found] == [("warning", False), ("warning", True), ("error", False)]


def test_the_layout_that_a_job_tells_makes_stages_peers() -> None:
    reports = Reports(ranks=32, change=both(slow(1.5, *range(24, 32)), slow(1.2, 27, phase="backward")))
    facts = told(world_size=32, layout={"tp": 1, "pp": 4})
    assert words(said(Traceslow(), chain([facts], reports.steps(40)))) == [f"{WORKER} rank 27"]


def test_the_evidence_says_by_how_much_since_when_and_that_the_others_wait() -> None:
    found = one(said(Traceslow(), Reports(change=slow(1.5, 5)).steps(20)))
    text = " ".join(line.text for line in found.evidence)
    assert "rank 5 works 1.099" in text
    assert "its peers 0.95" in text
    assert "waits 0.05" in text
    assert found.share == pytest.approx(1.0, abs=0.1)
    assert (found.culprits[0].node, found.detail["ranks"]) == ("n0", [5])


def test_two_slow_ranks_share_the_lost_time() -> None:
    found = said(Traceslow(), Reports(change=slow(1.3, 5, 21)).steps(30))
    assert sum(f.share or 0.0 for f in found) == pytest.approx(1.0, abs=0.1)


def test_a_new_attempt_and_the_end_of_the_job_withdraw_what_was_claimed() -> None:
    detector, reports = Traceslow(), Reports(change=slow(1.3, 5))
    assert words(said(detector, reports.steps(20))) == [f"{WORKER} rank 5"]
    assert words(said(detector, [told("restarting", at=1100.0, attempt=1)])) == [f"-{WORKER} rank 5"]
    assert words(said(detector, reports.steps(20, at=1200.0))) == [f"{WORKER} rank 5"]
    assert words(said(detector, [told("finished", at=1300.0, attempt=1)])) == [f"-{WORKER} rank 5"]


def test_a_rank_that_comes_to_another_node_is_another() -> None:
    detector, reports = Traceslow(), Reports(change=slow(1.3, 5))
    said(detector, reports.steps(20))
    seen = reports.step(20, 1100.0)
    moved = type(seen[0])(**{**{f: getattr(seen[0], f) for f in seen[0].__struct_fields__}, "node": "n9"})
    found = said(detector, [moved, *seen[1:]])
    assert words(found) == [f"-{WORKER} rank 5"]
    assert found[0].detail["withdrawn"] == "moved"


def test_batches_in_any_order_and_late_ones_change_nothing() -> None:
    reports = Reports(change=slow(1.3, 5))
    chance = np.random.Generator(np.random.Philox(3))
    steps = [reports.step(step, 1000.0 + step) for step in range(30)]
    mixed: list[Observation] = []
    for n in range(0, 30, 2):
        batches = [*steps[n], *steps[n + 1]]
        mixed += [batches[k] for k in chance.permutation(len(batches))]
    assert words(said(Traceslow(), mixed)) == [f"{WORKER} rank 5"]


def test_a_node_that_is_silent_does_not_hold_up_the_judgement() -> None:
    detector, reports = Traceslow(), Reports(change=slow(1.3, 5))
    seen = [batch for batch in reports.steps(60) if batch.node != "n3" or batch.steps[0] < 10]
    assert words(said(detector, seen)) == [f"{WORKER} rank 5"]


def test_a_step_that_nobody_completes_is_judged_when_its_grace_is_over() -> None:
    detector, reports = Traceslow(), Reports(change=slow(1.3, 5))
    found = said(detector, (batch for batch in reports.steps(12) if not (batch.node == "n3" and batch.steps[0] == 11)))
    assert words([*found, *detector.tick(2000.0)]) == [f"{WORKER} rank 5"]


def test_its_memory_holds_all_it_knows() -> None:
    reports = Reports(change=both(slow(1.3, 5, since=10, until=25), sends(0.02), by_tokens))
    whole, seen = words(said(Traceslow(), reports.steps(50))), []
    detector = Traceslow()
    for batch in reports.steps(50):
        seen += said(detector, [batch])
        memory = detector.snapshot()
        detector = Traceslow()
        detector.restore(memory)
    assert words(seen) == whole


def test_numbers_that_cannot_be_true_are_left_out() -> None:
    reports = Reports(change=slow(1.3, 5))
    bad: list[Observation] = []
    for batch in reports.steps(30):
        values = batch.values.copy()
        values[1] = [np.nan, np.inf, -1.0, 1e300, 0.0][: values.shape[1]]
        ranks = batch.ranks.copy()
        ranks[2] = [-1, 1 << 60][int(batch.steps[0]) % 2]
        bad.append(type(batch)(**{**{f: getattr(batch, f) for f in batch.__struct_fields__}, "values": values, "ranks": ranks}))
    assert words(said(Traceslow(), bad)) == [f"{WORKER} rank 5"]


COOL = {"gpu.temp_c": [60.0] * 8, "gpu.sm_clock_hz": [1.98e9] * 8}


@pytest.mark.parametrize(
    ("sick", "kind", "cause", "fault"),
    [
        pytest.param({**COOL, "gpu.sm_clock_hz": [*[1.98e9] * 5, 1.4e9, 1.98e9, 1.98e9]}, Kind.DEVICE, "clocks",
                     Fault.GPU_THERMAL_POWER, id="low clocks"),
        pytest.param({"gpu.temp_c": [*[60.0] * 5, 91.0, 60.0, 60.0], "gpu.sm_clock_hz": [*[1.98e9] * 5, 1.4e9, 1.98e9, 1.98e9]},
                     Kind.DEVICE, "throttle", Fault.GPU_THERMAL_POWER, id="low clocks on a hot device"),
        pytest.param({"gpu.pcie_width": [*[16.0] * 5, 4.0, 16.0, 16.0]}, Kind.DEVICE, "pcie", Fault.PCIE, id="a narrow bus"),
        pytest.param({"nic.rate_bps": [4e11, 1e11]}, Kind.NIC, "nic", Fault.NIC, id="a slow port"),
        pytest.param({"node.load1": [300.0]}, Kind.NODE, "cpu", Fault.HOST_RESOURCE, id="a busy host"),
        pytest.param({"node.mem_available_bytes": [1e9]}, Kind.NODE, "memory", Fault.HOST_RESOURCE, id="no memory left"),
        pytest.param({"gpu.sm_clock_hz": [1.4e9, *[1.98e9] * 7]}, Kind.DEVICE, "slow_worker", Fault.UNKNOWN, id="another device"),
    ],
)  # fmt: skip
def test_sensors_of_the_node_say_why(sick: dict[str, list[float]], kind: Kind, cause: str, fault: Fault) -> None:
    usual = {"gpu.pcie_width": 16.0, "nic.rate_bps": 4e11, "node.load1": 20.0, "node.mem_available_bytes": 1e12, "gpu.temp_c": 60.0,
             "gpu.sm_clock_hz": 1.98e9}  # fmt: skip
    well = {name: [usual[name]] * len(values) for name, values in sick.items()}
    pages = [page(f"n{n}", 1000.0, sick if n == 0 else well, kind=kind) for n in range(4)]
    found = one(said(Traceslow(), chain(pages, Reports(change=slow(1.3, 5)).steps(20))))
    assert (found.culprits[0].cause, found.fault, found.cause) == (cause, fault, "slow_worker")


def test_a_counter_that_grows_on_one_device_says_why() -> None:
    pages = [
        page(f"n{n}", at, {"gpu.thermal_violation_s_total": [7.0 if n == 0 and at > 1000.0 and k == 5 else 2.0 for k in range(8)]})
        for at in (990.0, 1005.0)
        for n in range(4)
    ]
    found = one(said(Traceslow(), chain(pages, Reports(change=slow(1.3, 5)).steps(20))))
    assert found.culprits[0].cause == "throttle"

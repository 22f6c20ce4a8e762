"""The bench of faults: the table's arithmetic, what is kept of a run, and simple policies beside ours."""

from functools import cache
from pathlib import Path

import msgspec
import pytest

from bench.baselines import POLICIES, SCENARIO, run_alone
from bench.faultcases import OURS, Case, FalseAlarm, Run, run
from bench.faults import Piece, do, is_done, keep, results_of, seeds, write
from bench.faulttable import GROUPS, LIMITS, markdown, table
from holdfast.faults import Fault
from holdfast.simulation import Speed
from simulator.scenario import JobRow, Scenario, read
from simulator.stories.kinds import kinds

CASE = Case(
    kind="ecc", truth="gpu_mem", explicit=True, machine=True, at_s=600.0, said="gpu_mem", check="xid.48", located=True, named=True,
    right=True, verb="replace", detect_s=1.0, recover_s=80.0,
)  # fmt: skip
MISSED = msgspec.structs.replace(
    CASE, said="", check="", located=False, named=False, right=False, verb="", detect_s=None, recover_s=None
)
MISNAMED = msgspec.structs.replace(CASE, said="gpu_hw")
QUIET = msgspec.structs.replace(MISSED, kind="clock_skew", truth="none", machine=False, explicit=False)
ALARM = FalseAlarm(id="i9", check="traceslow.slow_worker", job="a", fault="gpu_mem")
RUN = Run(
    scenario="standard", policy=OURS, seed=3, speed="full", node_hours=500.0, simulated_s=3600.0, cpu_s=9.0, ettr=0.9, accused=3,
    accused_wrongly=1, cases=(CASE, CASE, MISSED, MISNAMED, QUIET), false=(ALARM,), journal_sha256="ab",
)  # fmt: skip


def test_rates_are_of_what_was_injected_and_of_what_was_said() -> None:
    (policy,) = table([RUN]).policies
    assert (policy.every.n, policy.every.recall.rate, policy.every.noticed.rate) == (4, 0.5, 0.75)
    assert (policy.every.precision.hits, policy.every.precision.n) == (2, 3)
    memory = policy.classes["gpu_mem"]
    assert (memory.recall.hits, memory.precision.hits, memory.precision.n) == (2, 2, 3)
    assert policy.no_faults.rate == 1.0


def test_a_group_holds_a_fault_called_by_the_name_of_another_of_its_classes() -> None:
    (policy,) = table([RUN]).policies
    device = policy.groups["device"]
    assert (device.recall.hits, device.precision.hits, device.precision.n) == (2, 3, 4)


def test_times_are_of_those_detected_and_late_ones_are_not_in_time() -> None:
    late = msgspec.structs.replace(CASE, detect_s=11.0)
    (policy,) = table([msgspec.structs.replace(RUN, cases=(CASE, late, MISSED))]).policies
    times, in_time = policy.explicit["host, device"]
    assert (times.n, times.p50, times.p99) == (2, 1.0, 11.0)
    assert (in_time.hits, in_time.n) == (1, 3)


def test_machines_count_wrong_accusations_against_the_right_ones() -> None:
    (policy,) = table([RUN]).policies
    machines = policy.machines
    assert (machines.recall.hits, machines.recall.n) == (3, 4)
    assert (machines.precision.hits, machines.precision.n) == (2, 3)
    assert machines.f1 == round(2 * 0.75 * 0.6667 / (0.75 + 0.6667), 4)


def test_false_alarms_are_counted_over_the_hours_of_all_runs() -> None:
    (policy,) = table([RUN, msgspec.structs.replace(RUN, seed=4, false=())]).policies
    assert (policy.every.false_alarms.count, policy.every.false_alarms.per_1000) == (1, 1.0)
    assert policy.seeds == (3, 4)


def test_a_run_that_failed_is_a_line_that_does_it_again() -> None:
    made = table([RUN, Run(scenario="standard", policy=OURS, seed=8, speed="full", failed="ValueError: no")])
    assert made.failed == (("holdfast simulate standard --seed 8 --speed full", "ValueError: no"),)
    assert "holdfast simulate standard --seed 8 --speed full" in markdown(made)


def test_the_page_has_a_row_for_every_policy_group_and_kind() -> None:
    text = markdown(table([RUN, msgspec.structs.replace(RUN, policy="timeout", scenario=SCENARIO, speed="fast")]))
    for word in ("| timeout | alone |", "| holdfast | standard |", "| ecc |", *(f"| {name} |" for name in (*GROUPS, *LIMITS))):
        assert word in text


def test_every_class_is_in_one_group() -> None:
    assert sorted(fault for group in GROUPS.values() for fault in group) == sorted(set(Fault) - {Fault.NONE})


def test_what_was_kept_is_not_done_again(tmp_path: Path) -> None:
    piece = Piece(scenario="standard", seed=3)
    keep(RUN, piece.file(tmp_path))
    assert do([piece], tmp_path, module="bench.faults", processes=1, said=print) == 0
    assert list(results_of(tmp_path)) == [RUN]
    assert "simulated" in write(tmp_path)
    assert (tmp_path / "faults.json").exists()


def test_a_run_that_failed_is_tried_again(tmp_path: Path) -> None:
    piece = Piece(scenario=str(tmp_path / "no.toml"), seed=3)
    said: list[str] = []
    assert do([piece], tmp_path, module="bench.faults", processes=1, said=said.append) == 1
    assert not is_done(piece.file(tmp_path))
    assert "no.toml" in said[0]
    assert "no.toml" in piece.file(tmp_path).with_suffix(".log").read_text()


@pytest.mark.parametrize(("text", "range_"), [("0-2", range(3)), ("7", range(7, 8))], ids=["first to last", "one alone"])
def test_seeds(text: str, range_: range) -> None:
    assert seeds(text) == range_


def test_the_standard_set_has_every_kind_and_room_for_the_sick() -> None:
    scenario = read("standard")
    assert scenario.plan == "each_kind"
    assert not scenario.kinds  # all of them
    assert scenario.begin_s + (len(kinds()) + 1) * scenario.spacing_s <= scenario.lasting_s
    busy = sum(row.nodes * row.copies for row in scenario.job) + sum(row.nodes for row in scenario.service)
    assert scenario.nodes - busy >= 2 * scenario.fabric.rack_nodes


# --- policies

SMALL = Scenario(
    nodes=4, lasting_s=3000.0, plan="each_kind", kinds=("host_hang", "process_crash"), begin_s=200.0, text_share=0.0,
    job=(JobRow(name="a", nodes=2, step_s=5.0),),
)  # fmt: skip


@cache
def tried(policy: str) -> dict[str, Case]:
    """Kind -> what the policy made of it."""
    return {case.kind: case for case in run_alone(SMALL, name="small", policy=policy, seed=1, speed=Speed.FAST).cases}


def test_a_time_out_sees_a_hang_after_half_an_hour_and_restarts() -> None:
    hang = tried("timeout")["host_hang"]
    assert hang.detect_s is not None
    assert 1700.0 < hang.detect_s < 1900.0
    assert (hang.verb, hang.recover_s is not None) == ("restart", True)


def test_exit_codes_see_a_crash_and_no_hang() -> None:
    assert tried("exits")["host_hang"].said == ""
    assert tried("exits")["process_crash"].said == "unknown"


def test_silence_of_logs_sees_a_hang_too() -> None:
    assert tried("silence")["host_hang"].said == "unknown"


def test_ours_names_the_hang_sooner() -> None:
    hang = tried(OURS)["host_hang"]
    assert hang.detected
    assert hang.detect_s is not None
    assert hang.detect_s < 120.0


def test_policies_without_a_fault_say_nothing_at_all() -> None:
    idle = msgspec.structs.replace(SMALL, plan="rows", kinds=(), lasting_s=2000.0)
    together = {name: one for policy in POLICIES.values() for name, one in (policy() or {}).items()}
    done = run(idle, name="idle", policy="together", detectors=together)
    assert (done.cases, done.false) == ((), ())


@pytest.mark.slow
def test_a_reduced_standard_set_is_named_and_placed() -> None:
    scenario = read("standard")
    jobs = tuple(msgspec.structs.replace(row, nodes=row.nodes // 4) for row in scenario.job if row.nodes >= 8)
    small = msgspec.structs.replace(scenario, nodes=24, job=jobs)
    (policy,) = table([run(small, name="standard", speed=Speed.FAST)]).policies
    assert policy.every.recall.rate is not None
    assert policy.every.recall.rate > 0.7
    assert policy.every.precision.rate is not None
    assert policy.every.precision.rate > 0.7

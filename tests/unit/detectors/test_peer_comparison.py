"""Who is unlike its peers is told once, with the figures, while it lasts; who only does other work is not."""

import doctest
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import detectors.models.joint
from detectors.models.online import PeerComparison
from detectors.models.signals import Signals, SignalsError
from detectors.peers import blocks, compare, robust_z
from holdfast.events import Change, Changes, Finding, Observation, Samples
from holdfast.faults import Action, Fault, Judgement, Severity
from holdfast.topology import JobId, Kind, NodeId, Target, job_of

EVERY_S = 15.0
SIGNALS = ("gpu.temp_c", "gpu.power_w", "gpu.sm_clock_hz", "gpu.tensor_active_ratio", "gpu.ecc_corrected_total")
USUAL = np.array([64.0, 610.0, 1.98e9, 0.5, 0.0])
NOISE = np.array([1.0, 5.0, 4e6, 0.003, 0.0])

Odd = Callable[[np.ndarray, float], None]


def fleet(minutes: float, odd: Odd, *, nodes: int = 6, state: str = "", at_s: float = 0.0) -> Iterator[Observation]:
    """A job's devices, eight a node, read every 15 s. odd: changes the readings, shape (nodes, 8, signals); state: of the job at `at_s`"""
    draw = np.random.Generator(np.random.Philox(11))
    for n in range(int(minutes * 4)):
        now = 1000.0 + EVERY_S * n
        if state and now - 1000.0 == at_s:
            change = Change(target=job_of("j"), state=state, at=now)
            yield Changes(at=now, source="scheduler", job=JobId("j"), changes=(change,))
        table = USUAL + NOISE * draw.normal(size=(nodes, 8, len(SIGNALS)))
        odd(table, now - 1000.0)
        for k in range(nodes):
            targets = tuple(Target(Kind.DEVICE, f"d{i}", node=f"n{k}") for i in range(8))
            where = {"source": f"dcgm:n{k}", "job": JobId("j"), "node": NodeId(f"n{k}")}
            yield Samples(at=now, targets=targets, signals=SIGNALS, values=table[k], **where)  # type: ignore[arg-type]


def told(stream: Iterator[Observation], detector: PeerComparison | None = None) -> list[Finding]:
    detector = detector or PeerComparison()
    said: list[Finding] = []
    for seen in stream:
        said += [*detector.observe(seen), *detector.tick(seen.at)]
    return said


def hot(table: np.ndarray, past_s: float) -> None:
    if 300.0 <= past_s < 600.0:
        table[2, 5, 0] += 22.0


def spike(table: np.ndarray, past_s: float) -> None:
    if past_s == 300.0:
        table[2, 5, 0] += 60.0


def hot_node(table: np.ndarray, past_s: float) -> None:
    if past_s >= 300.0:
        table[2, :, 0] += 22.0


def hot_slot(table: np.ndarray, past_s: float) -> None:
    table[:, 7, 0] += 22.0


def half_does_other_work(table: np.ndarray, past_s: float) -> None:
    table[3:, :, 1] -= 300.0


def errors_of_a_slot(table: np.ndarray, past_s: float) -> None:
    table[:, 3, 4] = 40.0 * past_s


def nothing(table: np.ndarray, past_s: float) -> None:
    pass


HOT, COOL = "peers.deviation device d5 (n2)", "-peers.deviation device d5 (n2)"


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        pytest.param(nothing, [], id="noise is no deviation"),
        pytest.param(hot, [HOT, COOL], id="a device that is hot is told once, and taken back when it is cool"),
        pytest.param(spike, [], id="one reading is no deviation"),
        pytest.param(hot_node, ["peers.deviation node n2 (n2)"], id="a node whose devices are all hot is told, not its devices"),
        pytest.param(hot_slot, [], id="a place that is hot in all machines is the machine's way"),
        pytest.param(half_does_other_work, [], id="half of the nodes do other work"),
        pytest.param(errors_of_a_slot, ["peers.shared device d3 (j)"], id="errors at one place of all machines are one claim"),
    ],
)
def test_peers(odd: Odd, said: list[str]) -> None:
    found = told(fleet(14, odd))
    assert [f"{'-' if one.cleared else ''}{one.check} {one.target}" for one in found] == said


def test_a_claim_is_a_hint_that_gives_its_figures() -> None:
    claim = told(fleet(8, hot))[0]
    assert (claim.severity, claim.judgement, claim.action) == (Severity.WARNING, Judgement.UNDECIDED, Action.WATCH)
    assert claim.fault is Fault.GPU_THERMAL_POWER
    rows = claim.detail["signals"]
    assert isinstance(rows, list)
    (row,) = rows
    assert isinstance(row, dict)
    assert {"signal", "value", "peers_median", "z", "peers", "since"} == set(row)
    assert "gpu.temp_c 8" in claim.evidence[0].text
    assert "have 64 C (median of 5 peers)" in claim.evidence[0].text


def test_three_nodes_have_each_other_and_a_device_of_two_is_nobodys_peer() -> None:
    def odd(table: np.ndarray, past_s: float) -> None:
        table[0, 0, 0] += 30.0

    assert [one.target.id for one in told(fleet(5, odd, nodes=1))] == ["d0"]
    few = (
        Samples(at=seen.at, source=seen.source, job=seen.job, targets=seen.targets[:3], signals=seen.signals, values=seen.values[:3])
        for seen in fleet(5, odd, nodes=1)
        if isinstance(seen, Samples)
    )
    assert told(few) == []


def test_a_job_that_is_over_is_compared_no_more() -> None:
    found = told(fleet(12, hot, state="finished", at_s=450.0))
    assert [one.cleared for one in found] == [False, True]
    assert found[1].at == 1450.0


@pytest.mark.slow
def test_many_signals_a_little_off_are_told_together() -> None:
    def odd(table: np.ndarray, past_s: float) -> None:
        if past_s >= 900.0:
            table[1, 4] += [8.0, -50.0, -3.5e7, -0.05, 0.0]

    found = told(fleet(28, odd, nodes=8))
    assert [(one.check, one.target.id, one.target.node) for one in found] == [("peers.joint", "d4", "n1")]
    assert {"gpu.temp_c", "gpu.power_w", "gpu.sm_clock_hz"} <= {text.text.split()[0] for text in found[0].evidence}


def test_the_models_own_example_holds() -> None:
    assert doctest.testmod(detectors.models.joint).failed == 0


def test_memory_goes_through_a_restart() -> None:
    detector, said = PeerComparison(), list[Finding]()
    for seen in fleet(14, hot, nodes=3):
        said += [*detector.observe(seen), *detector.tick(seen.at)]
        memory = detector.snapshot()
        detector = PeerComparison()
        detector.restore(memory)
    assert said == told(fleet(14, hot, nodes=3))


def test_a_table_that_divides_by_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[[signal]]\nname = "a.b_c"\nfault = "host"\nwhy = "none"\n')
    with pytest.raises(SignalsError, match=r"'a\.b_c' has neither floor nor ratio"):
        Signals.read(str(tmp_path / "own.toml"))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 40))
def test_many_groups_at_once_are_as_each_alone(seed: int, rows: int) -> None:
    draw = np.random.Generator(np.random.Philox(seed))
    values, label = draw.normal(size=(rows, 3)), draw.integers(-1, 4, rows)
    values[draw.random(values.shape) < 0.2] = np.nan
    z = compare(values, blocks(label), floor=np.zeros(3), ratio=np.full(3, 0.1)).z
    for group in range(4):
        own = label == group
        for n in range(3):
            np.testing.assert_allclose(z[own, n], robust_z(values[own, n], floor=0.1))

"""The checks in the live line: growth and its end, patience, boots, a source that is asked and lies, the node collector."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from collectors.node.notes import Notes
from collectors.node.survey import look
from collectors.node.tree import Tree
from collectors.nodestate import NodeState
from collectors.pages import Pages
from detectors.nodecheck.checks import Check, Checks, ChecksError, Condition, condition_of, sentence
from detectors.nodecheck.online import NodeChecks
from holdfast.events import Change, Changes, Observation, Samples
from holdfast.faults import Judgement, Severity
from holdfast.topology import Kind, Target
from tests.unit.detectors.seen import answers, claims, samples
from tests.unit.nodecheck.machine import machine, port

NAN = math.nan


def series(
    signal: str, values: Sequence[float], *, every_s: float = 15.0, kind: Kind = Kind.DEVICE
) -> list[Observation]:
    """One reading of one target at a time."""
    return [samples(n * every_s, {signal: [value]}, kind=kind) for n, value in enumerate(values)]


def both(at: float, columns: Mapping[str, Sequence[float]]) -> Samples:
    return samples(at, columns)


def ready(at: float) -> Changes:
    return Changes(at=at, source="k8s", changes=(Change(target=Target(Kind.NODE, "n0"), state="ready", at=at),))


REMAP, REPLAYS, HOT = "gpu.row_remap_failed device 0", "pcie.replays device 0", "gpu.too_hot device 0"
ECC, XID_79, XID_48 = "gpu.ecc_uncorrected device 0", "xid.79 device 0", "xid.48 device 0"
CLEAN = [REMAP, f"-{REMAP}"]


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        pytest.param(series("gpu.row_remap_failed", [0, 1, 1]), [REMAP], id="a state is claimed at once, and once"),
        pytest.param(series("gpu.row_remap_failed", [1, 0]), [REMAP, f"-{REMAP}"], id="and withdrawn when it is over"),
        pytest.param(series("gpu.row_remap_failed", [1, NAN, NAN]), [REMAP], id="no reading is no good one"),
        pytest.param(series("gpu.temp_c", [92, 60, 92, 60]), [], id="heat is believed at the second reading"),
        pytest.param(series("gpu.temp_c", [92, 92, 60, 60]), [HOT, f"-{HOT}"], id="and so is its end"),
        pytest.param(series("gpu.pcie_replay_total", [500, 501, 502]), [], id="a counter's height is nothing"),
        pytest.param(series("gpu.pcie_replay_total", [0, 20]), [REPLAYS], id="that it grows is"),
        pytest.param(series("gpu.pcie_replay_total", [0, 3, 6, 9, 12]), [REPLAYS], id="in several steps too"),
        pytest.param(series("gpu.pcie_replay_total", [0, 7, 7, 7, 7, 7, 14]), [], id="not when the time is longer"),
        pytest.param(series("gpu.pcie_replay_total", [900, 0, 4]), [], id="a counter that begins anew"),
        pytest.param(series("gpu.pcie_replay_total", [0, 20, *[20] * 41]), [REPLAYS, f"-{REPLAYS}"], id="over when it stands still"),
        pytest.param(series("gpu.ecc_uncorrected_total", [0, 2, 2, 0]), [ECC, f"-{ECC}"], id="errors are over with the driver"),
        pytest.param([*series("gpu.row_remap_failed", [1]), ready(99.0)], CLEAN, id="a node back in service is clean"),
        pytest.param(series("gpu.xid_last", [0, 79, 79, 48, 0]), [XID_79, f"-{XID_79}", XID_48, f"-{XID_48}"], id="codes follow"),
    ],
)  # fmt: skip
def test_a_stream(stream: list[Observation | float], said: list[str]) -> None:
    assert claims(answers(NodeChecks(), stream)) == said


def booted(at: float, since: float) -> Samples:
    """A node says when it was booted."""
    target = Target(Kind.NODE, "n0", node="n0")
    values = np.array([[since]])
    return Samples(at=at, source="page:n0", targets=(target,), signals=("node.booted_at_s",), values=values)


def test_a_node_that_booted_is_clean_and_its_counters_begin_anew() -> None:
    stream = [*series("gpu.row_remap_failed", [1]), booted(1.0, 100.0), booted(30.0, 101.0), booted(60.0, 5000.0)]
    assert claims(answers(NodeChecks(), stream)) == CLEAN


def test_devices_do_not_share_their_counters() -> None:
    stream = [both(0.0, {"gpu.pcie_replay_total": [0, 5]}), both(15.0, {"gpu.pcie_replay_total": [5, 10]})]
    assert claims(answers(NodeChecks(), stream)) == []


def test_a_port_of_a_page_that_runs_slower_than_it_has_run_is_told() -> None:
    def page(at: float, rate_bps: float, up: float = 1.0) -> Samples:
        return samples(at, {"nic.up": [up], "nic.rate_bps": [rate_bps]}, kind=Kind.NIC)

    fell = [page(0, 4e11), page(15, 2e11), page(30, 2e11)]
    assert claims(answers(NodeChecks(), fell)) == ["nic.degraded_rate nic 0"]
    assert claims(answers(NodeChecks(), [page(0, 4e11), page(15, 0.0, 0.0), page(30, 0.0, 0.0)])) == []


def test_a_finding_on_a_part_blames_its_node_and_a_lie_nobody() -> None:
    disk = samples(1.0, {"disk.failed": [1.0]}, kind=Kind.PART)
    lie = both(2.0, {"gpu.util_ratio": [9.0]})
    found = answers(NodeChecks(), [disk, lie])
    assert [(f.check, f.judgement) for f in found] == [
        ("disk.failed", Judgement.CULPRIT),
        ("source.implausible", Judgement.UNDECIDED),
    ]
    assert [(c.kind, c.id) for c in found[0].culprits] == [(Kind.NODE, "n0")]


def test_a_reading_that_cannot_be_is_not_judged() -> None:
    found = answers(NodeChecks(), [both(float(n), {"gpu.temp_c": [4000.0]}) for n in range(3)])
    assert [f.check for f in found] == ["source.implausible"]


def test_checks_can_be_replaced_and_left_out(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    row = 'id = "gpu.too_hot"\nwhen = ["gpu.temp_c >= 40"]\nfault = "gpu_thermal_power"\nseverity = "warning"\naction = "watch"'
    own.write_text(f'[[check]]\n{row}\nnode_action = "none"\ntext = "warm: {{gpu.temp_c}}"\n')
    found = answers(NodeChecks(checks=str(own)), series("gpu.temp_c", [41]))
    assert [(f.check, f.severity, f.evidence[0].text) for f in found] == [
        ("gpu.too_hot", Severity.WARNING, "0 of n0: warm: 41 C")
    ]
    assert answers(NodeChecks(off=("gpu.",)), series("gpu.row_remap_failed", [1])) == []


@pytest.mark.parametrize(
    "text",
    ["check = 1", "[[check]]\nid = 'x'", "nothing = []", "[[check", "[range]\nx = [1.0]"],
    ids=["no table", "a row that lacks keys", "no checks", "no TOML", "a range of one number"],
)
def test_a_table_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(ChecksError, match=r"own\.toml"):
        Checks.read(str(path))


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("a.b < 2", Condition("a.b", "<", 2.0, "")),
        ("a.b >= 0.5 * c.d_e", Condition("a.b", ">=", 0.5, "c.d_e")),
        ("a.b != c.d", Condition("a.b", "!=", 1.0, "c.d")),
        ("a.b is missing", Condition("a.b", "missing", 0.0, "")),
    ],
)
def test_a_condition_is_taken_apart(text: str, condition: Condition) -> None:
    assert condition_of(text) == condition


def test_every_check_of_the_package_tells_its_readings() -> None:
    rows: tuple[Check, ...] = Checks.read().rows
    assert len({row.id for row in rows}) > 120
    for row in rows:
        assert "{" not in sentence(row, {})


def test_the_collector_gives_looks_that_the_checks_judge(tmp_path: Path) -> None:
    def taken(now: float) -> list[Notes]:
        notes = Notes("n3")
        look(Tree(str(tmp_path)), notes)
        return [notes]

    machine(tmp_path)
    collector, checks = NodeState(node="n3", read=taken), NodeChecks()
    healthy = list(collector.poll(1.0))
    port(tmp_path, "mlx5_3", rate="200 Gb/sec (2X NDR)")
    later = list(collector.poll(2.0))
    found = [f for seen in (*healthy, *later) if isinstance(seen, Samples) for f in checks.observe(seen)]
    assert [(f.check, f.target) for f in found] == [("nic.degraded_rate", Target(Kind.NIC, "mlx5_3:1", node="n3"))]


def test_a_page_that_lies_is_told_until_it_is_as_it_should_be() -> None:
    form = 'DCGM_FI_DEV_GPU_TEMP{{gpu="0",Hostname="n0"}} {}\n'
    pages = [form.format(value) for value in (9223372036854775794, 9223372036854775794, 50, 51)]
    collector, checks = Pages(read=lambda now: [("dcgm:n0", pages.pop(0), "n0", "j")]), NodeChecks()
    found = [f for n in range(4) for seen in collector.poll(float(n)) if isinstance(seen, Samples) for f in checks.observe(seen)]
    assert [(f.check, f.cleared) for f in found] == [("source.blank_values", False), ("source.blank_values", True)]

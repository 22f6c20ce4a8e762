"""Health with memory: what a device has said before, a site's own word, what follows from what."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.has.history import History
from detectors.has.overrides import Overrides, OverridesError
from detectors.npd.online import KernelLog
from holdfast.events import Change, Changes, Finding, Lines, Observation
from holdfast.faults import Action, Fault, NodeAction, Severity
from holdfast.topology import JobId, Kind, NodeId, Target
from tests.unit.detectors.seen import answers, claims

OFF = "NVRM: Xid (PCI:0000:3b:00): 79, pid=4121, name=python, GPU has fallen off the bus."
PAGE = "NVRM: Xid (PCI:0000:3b:00): 31, pid=4121, name=python, Ch 00000010, intr 00000000. MMU Fault"
HUNG = "INFO: task python3:77 blocked for more than 120 seconds."
CE = "EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0)"
HUNG_NODE, OFF_DEVICE = "npd.hung_task node n0", "xid.79 device 0000:3b:00"
BOOT = "Linux version 6.8.0-45-generic"
DOWN, UP = "mlx5_core 0000:5c:00.0 eth0: Link down", "mlx5_core 0000:5c:00.0 eth0: Link up"


def kmsg(at: float, *texts: str, node: str = "n0", job: str = "j") -> Lines:
    return Lines(at=at, source=f"kmsg:{node}", file="kmsg", first=1, lines=texts, node=NodeId(node), job=JobId(job))


def node(state: str, at: float, kind: Kind = Kind.NODE, id: str = "n0", **detail: Any) -> Changes:
    change = Change(target=Target(kind, id, node="n0"), state=state, at=at, detail=detail)
    return Changes(at=at, source="k8s", changes=(change,))


def told(*stream: Observation | float, **known: Any) -> list[Finding]:
    return answers(KernelLog(**known), stream)


def wants(said: list[Finding]) -> list[NodeAction]:
    return [one.node_action for one in said if not one.cleared]


def test_the_same_fault_after_two_reboots_is_inspected() -> None:
    said = told(kmsg(1, OFF), kmsg(2, BOOT), kmsg(3, OFF), kmsg(4, BOOT), kmsg(5, OFF))
    assert wants(said) == [NodeAction.REBOOT, NodeAction.REBOOT, NodeAction.INSPECT]
    assert "2 reboots" in str(said[-1].detail["history"])


def test_another_device_is_not_blamed_for_it() -> None:
    other = OFF.replace("3b", "9c")
    said = told(kmsg(1, OFF), kmsg(2, BOOT), kmsg(3, OFF), kmsg(4, BOOT), kmsg(5, other))
    assert wants(said) == [NodeAction.REBOOT] * 3


def test_a_page_fault_under_three_jobs_is_the_devices() -> None:
    said = told(*(kmsg(n * 4000.0, PAGE, job=f"job{n}") for n in range(1, 4)), 99_000.0)
    faults = [(one.fault, one.severity) for one in said if not one.cleared]
    assert faults[0][0] is Fault.USER_CODE
    assert faults[-1] == (Fault.GPU_HW, Severity.ERROR)


def test_corrected_memory_errors_grow_up() -> None:
    said = told(kmsg(1, CE), kmsg(2, *[CE] * 30), kmsg(3, *[CE] * 2000))
    assert [(one.severity, one.node_action) for one in said if not one.cleared] == [
        (Severity.WARNING, NodeAction.NONE),
        (Severity.WARNING, NodeAction.INSPECT),
        (Severity.ERROR, NodeAction.REPLACE_HARDWARE),
    ]


def test_a_link_that_comes_and_goes_is_graver_than_one_that_went_once() -> None:
    said = told(*(kmsg(float(n), text) for n, text in enumerate([DOWN, UP, DOWN, UP, DOWN], 1)))
    assert [one.severity for one in said if not one.cleared] == [Severity.WARNING, Severity.WARNING, Severity.ERROR]


def test_a_storm_is_one_claim_and_bounded() -> None:
    detector = KernelLog()
    said = answers(detector, [kmsg(float(n), *[PAGE] * 200) for n in range(1, 21)])
    assert claims(said) == ["xid.31 device 0000:3b:00"]
    [one] = detector._claims["n0"].values()
    assert one.finding.count == 4_000
    assert len(detector.snapshot()) < 20_000


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        pytest.param([kmsg(1, *[HUNG] * 3), 4000.0], [HUNG_NODE, f"-{HUNG_NODE}"], id="tasks that went on"),
        pytest.param(
            [kmsg(1, *[HUNG] * 10), 4000.0, 90_000.0], [HUNG_NODE], id="a kernel that fell silent is not well"
        ),
        pytest.param(
            [kmsg(1, *[HUNG] * 10), kmsg(2, BOOT)], [HUNG_NODE, f"-{HUNG_NODE}"], id="a boot is the end of it"
        ),
        pytest.param(
            [kmsg(1, OFF), node("reset", 2, Kind.DEVICE, "0000:3b:00")],
            [OFF_DEVICE, f"-{OFF_DEVICE}"],
            id="a device that was reset",
        ),
        pytest.param([kmsg(1, OFF), node("cleared", 2)], [OFF_DEVICE, f"-{OFF_DEVICE}"], id="a person's word"),
        pytest.param(
            [kmsg(1, "[1.0] " + OFF, "[2.0] NVRM: Xid (PCI:0000:3b:00): 45, pid=1, name=x, Ch 1")],
            [OFF_DEVICE],
            id="what only follows is told with its cause",
        ),
        pytest.param(
            [kmsg(1, "NVRM: Xid (PCI:0000:3b:00): 45, pid=1, name=x, Ch 1, caused by previous Xid 145")],
            ["xid.45 device 0000:3b:00"],
            id="and alone where the cause was not seen",
        ),
        pytest.param([kmsg(1, "nfs: server store1 OK")], [], id="that something is well is no claim"),
        pytest.param(
            [kmsg(1, "XFS (sdb1): Log I/O Error Detected. Shutting down filesystem"), 4000.0, 90_000.0],
            ["npd.xfs_shutdown node n0"],
            id="a file system that is shut does not open by silence",
        ),
    ],
)
def test_what_ends_a_claim(stream: list[Observation | float], said: list[str]) -> None:
    assert claims(told(*stream)) == said


# --- a site's own word


def overrides(tmp_path: Path, text: str) -> str:
    (tmp_path / "own.toml").write_text(text)
    return str(tmp_path / "own.toml")


BOTH = '[[override]]\ncheck = "xid.*"\nseverity = "info"\n[[override]]\ncheck = "xid.31"\nseverity = "fatal"'
ROW = '[[override]]\ncheck = "xid.31"\n'


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        pytest.param("", Severity.ERROR, id="no word of the site"),
        pytest.param(ROW + 'severity = "info"', Severity.INFO, id="a severity of its own"),
        pytest.param(ROW + 'machine = "h100"\nseverity = "info"', Severity.INFO, id="for this machine type"),
        pytest.param(ROW + 'machine = "a100"\nseverity = "info"', Severity.ERROR, id="not for another"),
        pytest.param(ROW + 'site = "north"\nseverity = "info"', Severity.INFO, id="for this site"),
        pytest.param(ROW + 'site = "south"\nseverity = "info"', Severity.ERROR, id="not for another"),
        pytest.param(ROW + 'node = "n?"\nseverity = "info"', Severity.INFO, id="for nodes of such a name"),
        pytest.param(ROW + 'device = "0000:9c:*"\nseverity = "info"', Severity.ERROR, id="not for another device"),
        pytest.param(BOTH, Severity.FATAL, id="the last row counts"),
        pytest.param(ROW + "ignore = true", None, id="nothing at all"),
    ],
)  # fmt: skip
def test_a_sites_own_word(tmp_path: Path, text: str, severity: Severity | None) -> None:
    said = told(kmsg(1, PAGE), overrides=overrides(tmp_path, text), machines={"n*": "h100"}, site="north")
    assert [one.severity for one in said] == ([severity] if severity is not None else [])


@pytest.mark.parametrize("text", ["[[override", ROW + 'severity = "bad"', ROW + "colour = 1", "[[override]]"])
def test_what_is_no_word_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(OverridesError, match=r"own\.toml"):
        Overrides.read(overrides(tmp_path, text))


def test_an_action_of_its_own(tmp_path: Path) -> None:
    [one] = told(
        kmsg(1, OFF),
        overrides=overrides(tmp_path, '[[override]]\ncheck = "xid.79"\naction = "watch"\nnode_action = "drain"'),
    )
    assert (one.action, one.node_action) == (Action.WATCH, NodeAction.DRAIN)


def test_a_node_that_opted_out_is_left_alone() -> None:
    labels = {"holdfast.io/managed": "false"}
    said = told(kmsg(1, OFF), node("ready", 2, labels=labels), kmsg(3, OFF), node("ready", 4, labels={}), kmsg(5, OFF))
    assert [one.cleared for one in said] == [False, True, False]


# --- the memory itself


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.booleans()), max_size=60))
@settings(max_examples=50, deadline=None)
def test_a_past_is_bounded_and_kept(events: list[tuple[int, int, bool]]) -> None:
    history = History()
    for at, (place, check, boots) in enumerate(events):
        if boots:
            history.on_boot(f"n{place}")
        past = history.on_said(f"n{place} d", f"xid.{check}", f"n{place}", at=float(at), count=3, job="j", is_new=True)
        assert past.said
        assert len(past.boots) <= sum(boot for _, _, boot in events) + 1
    other = History()
    other.recall(history.memory())
    assert other.memory() == history.memory()


def test_too_many_places_forget_the_oldest() -> None:
    history = History(places=50)
    for n in range(60):
        history.on_said(f"n{n}", "x", "n", at=1.0, count=1, job="", is_new=True)
    assert list(history.memory()[0]) == [f"n{n} x" for n in range(10, 60)]

"""Outputs of a health check's commands are judged by what they say; one that cannot be read is a warning."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.has.commands import CHECKS, judge
from detectors.has.outputs import Answer
from holdfast.faults import Severity

W, E, OK = Severity.WARNING, Severity.ERROR, Severity.INFO
LINKS = '{"body": {"Link 0": {"children": {"CRC FLIT Error": {"value": "%s"}}}}}'
TEST = '{"DCGM Diagnostic": {"test_categories": [{"tests": [{"name": "Memory", "test_summary": {"status": "%s"}}]}]}}'


@pytest.mark.parametrize(
    ("check", "text", "expected", "severity"),
    [
        ("ib_physical", "Physical state: LinkUp\nPhysical state: LinkUp", {}, OK),
        ("ib_physical", "Physical state: Polling", {}, E),
        ("ib_state", "State: Active\nState: Initializing", {}, E),
        ("nvlink_links", "gpuId 0:\n  U U U\ngpuId 1:\n  U D U", {}, E),
        ("nvlink_errors", LINKS % "0", {}, OK),
        ("nvlink_errors", LINKS % "7", {}, E),
        ("nvlink_errors", LINKS % "Not Supported", {}, OK),
        ("dcgm_diagnostic", TEST % "Pass", {}, OK),
        ("dcgm_diagnostic", TEST % "Fail", {}, E),
        ("dcgm_diagnostic", TEST % "Fail", {"without": ["Memory"]}, OK),
        ("dcgm_diagnostic", "no json", {}, W),
        ("sensors", "1,FAN_1,Fan,9000.00,RPM,'OK'", {}, OK),
        ("sensors", "1,FAN_1,Fan,0.00,RPM,'At or Below (<=) Lower Critical Threshold'", {}, E),
        ("sensors", "9,REDUNDANCY_PSU,Power Supply,N/A,N/A,'Redundancy Lost'", {}, W),
        ("event_log", "1 | 11/24 | 16:00 | Memory | Uncorrectable error | Asserted", {}, E),
        ("event_log", "1 | 11/24 | 16:00 | Memory | Uncorrectable error | Deasserted", {}, OK),
        ("node_state", "idle", {}, OK),
        ("node_state", "idle+drain", {}, W),
        ("cluster_state", "90 IDLE\n10 DOWN", {}, OK),
        ("cluster_state", "70 IDLE\n30 DOWN+DRAIN", {}, E),
        ("disk_usage", "Use% IUse%\n 82%  10%", {}, W),
        ("inode_usage", "Use% IUse%\n 82%  99%", {}, E),
        ("mounts", "/a /b", {"wanted": "/a /c"}, E),
        ("disk_size", "3T", {"operator": ">=", "value": 3}, OK),
        ("disk_size", "3T", {"operator": ">", "value": 3}, E),
        ("xids", "NVRM: Xid (PCI:0000:3b:00): 31, pid=1, x", {}, W),
        ("xids", "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, x", {}, E),
        ("machine_checks", "mce: [Hardware Error]: Machine check events logged", {}, W),
        ("machine_checks", "mce: [Hardware Error]: CPU 4: Machine Check Exception: 5 Bank 7", {}, E),
        ("bus_errors", "pcieport 0000:17:00.0: AER: Corrected error received", {}, W),
        ("bus_errors", "pcieport 0000:17:00.0: AER: Uncorrected (Fatal) error received", {}, E),
        ("io_errors", "", {}, OK),
        ("link_flaps", "n7 ib0: Lost carrier", {}, E),
        ("link_flaps", "n7 eth0: Lost carrier", {}, W),
        ("zombies", "Z 77 root python3 900", {}, W),
        ("zombies", "Z 77 root python3 3", {}, OK),
        ("memory_blocks", "Node 0, zone   Normal   1 1 1 1 1 1 1 1 12 0 0", {}, OK),
        ("memory_blocks", "Node 0, zone   Normal   1 1 1 1 1 1 1 1 2 0 0", {}, E),
        ("uptime", "12", {}, W),
        ("cpu_governor", "performance", {}, OK),
        ("cpu_governor", "performance\npowersave", {}, E),
        ("retired_pages", "1 0 1", {}, E),
        ("vbios", "a\na\nb", {}, E),
        ("module", "words", {}, W),
    ],
    ids=str,
)  # fmt: skip
def test_an_output(check: str, text: str, expected: dict[str, object], severity: Severity) -> None:
    assert judge(check, Answer((0,), text), expected).severity is severity


@pytest.mark.parametrize(
    "check",
    [
        name
        for name in CHECKS
        if name not in ("path_access", "service", "ssh", "repositories", "there", "not_there", "vbios")
    ],
)
def test_a_command_that_failed_says_nothing_of_the_node(check: str) -> None:
    assert judge(check, Answer((127,), "command not found"), {}).severity is W


@given(
    st.sampled_from(sorted(CHECKS)),
    st.text(max_size=80),
    st.sampled_from([{}, {"least": 1}, {"most": "x"}, {"equal": 3}]),
)
@settings(max_examples=200, deadline=None)
def test_any_output_is_judged(check: str, text: str, expected: dict[str, object]) -> None:
    whole = {
        "least": 1,
        "most": 1,
        "equal": 1,
        "wanted": "/a",
        "operator": "<",
        "value": 1,
        "dimms": 1,
        "total": 1,
    } | expected
    assert judge(check, Answer((0,), text), whole).severity in (W, E, OK)

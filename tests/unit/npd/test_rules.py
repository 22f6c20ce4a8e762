"""Rules as data: each finds its own line by words and by expressions, none finds what a healthy node prints."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors.npd.literals import required
from detectors.npd.noted import Noted
from detectors.npd.prefilter import is_installed
from detectors.npd.reading import Reading
from detectors.npd.rules import Rules
from holdfast.faults import Fault, Severity
from tests.unit.npd.lines import BESIDE, EXAMPLES, WELL

RULES = Rules.read()
FORMS = {
    "bare": "{}",
    "dmesg": "[   12.345678] {}",
    "dmesg -x": "kern  :err   : [   12.345678] {}",
    "kmsg": "3,1021,12345678,-;{}",
    "dmesg -T": "[Mon Nov 24 16:00:00 2025] {}",
    "syslog": "Nov 24 16:00:00 n7 kernel: [   12.345678] {}",
    "rsyslog": "2025-11-24T16:00:00.123456+00:00 n7 kernel: {}",
}


def read(text: str, *, fast: bool = False) -> list[Noted]:
    reading = Reading(RULES, fast=fast)
    reading.feed("log", 1, (text + "\n").encode())
    return list(reading.found.values())


def test_every_rule_has_its_line() -> None:
    assert sorted({rule.id for rule in RULES.rules} ^ (set(EXAMPLES) | set(BESIDE))) == []


@pytest.mark.parametrize("id", EXAMPLES)
def test_a_rule_finds_its_line_and_what_it_is_about(id: str) -> None:
    text, device = EXAMPLES[id]
    assert [(one.check, one.device or "") for one in read(text)] == [(f"npd.{id}", device)]


@pytest.mark.parametrize("id", BESIDE)
def test_a_line_that_says_more_of_another_is_none_by_itself(id: str) -> None:
    other, text = BESIDE[id]
    assert read(text) == []
    [one] = read(f"{EXAMPLES[other][0]}\n{text}")
    assert one.check == f"npd.{other}"


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_line_is_the_same_behind_every_stamp(form: str) -> None:
    lines = {id: text for id, (text, _) in EXAMPLES.items() if not text.startswith("2025")}
    wrong = [id for id, text in lines.items() if [one.check for one in read(form.format(text))] != [f"npd.{id}"]]
    assert wrong == []


def test_a_line_is_the_same_in_a_journal() -> None:
    rows = {
        id: json.dumps({"MESSAGE": text, "_HOSTNAME": "n7", "SYSLOG_IDENTIFIER": "kernel"})
        for id, (text, _) in EXAMPLES.items()
    }
    assert [id for id, row in rows.items() if [one.check for one in read(row)] != [f"npd.{id}"]] == []
    data = {id: json.dumps({"MESSAGE": list(text.encode())}) for id, (text, _) in EXAMPLES.items()}
    assert [id for id, row in data.items() if [one.check for one in read(row)] != [f"npd.{id}"]] == []


def test_a_healthy_node_tells_of_no_error() -> None:
    for form in FORMS.values():
        found = read("\n".join(form.format(line) for line in WELL.splitlines()))
        assert [one.text for one in found if one.severity in (Severity.ERROR, Severity.FATAL) or not one.recovery] in (
            [],
            [one.text for one in found if one.check == "npd.pcie_narrow"],
        )


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        pytest.param(" xfs_ilock+0x2c/0x190 [xfs]", Fault.STORAGE, id="waits for its disk"),
        pytest.param(" nfs4_proc_lock+0x2c/0x190 [nfsv4]", Fault.STORAGE, id="waits for a file server"),
        pytest.param(" ? ptlrpc_set_wait+0x2c/0x190 [ptlrpc]", Fault.STORAGE, id="waits for Lustre"),
        pytest.param(" _nv012454rm+0x437/0x4b0 [nvidia]", Fault.GPU_HW, id="waits for a device"),
        pytest.param(" schedule_timeout+0x1/0x2", Fault.HOST, id="a frame that says nothing"),
        pytest.param(" talk_of_xfs_things", Fault.HOST, id="a word that is no frame"),
    ],
)
def test_a_hung_tasks_stack_tells_what_it_waits_for(frame: str, fault: Fault) -> None:
    [one] = read(
        f"INFO: task python3:77 blocked for more than 120 seconds.\nCall Trace:\n schedule+0x1/0x2\n{frame}\n do_exit+0x1/0x2"
    )
    assert one.fault is fault


def test_a_kernel_that_has_said_its_last_warning_is_known_to_be_silent() -> None:
    task = "INFO: task python3:77 blocked for more than 120 seconds."
    assert [one.silenced for one in read("\n".join([task] * 9))] == [False]
    assert [one.silenced for one in read("\n".join([task] * 10))] == [True]
    assert [one.silenced for one in read(f"{task}\nINFO: Future hung task reports are suppressed, see sysctl")] == [
        True
    ]


def test_an_out_of_memory_names_its_victim() -> None:
    text = "\n".join(EXAMPLES[id][0] for id in ("oom_invoked", "oom_kill_cgroup", "oom_cgroup", "oom_reaped"))
    [one] = read(text)
    assert (one.check, one.detail["process"], one.detail["pid"]) == ("npd.oom_cgroup", "python3", "4121")


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        pytest.param(
            ["[1.0] NVRM: Xid (PCI:0000:3b:00): 79, off", "[2.0] NVRM: Xid (PCI:0000:3b:00): 45, Ch 1"],
            {79: None, 45: 79},
            id="what follows on the same device",
        ),
        pytest.param(
            ["[1.0] NVRM: Xid (PCI:0000:3b:00): 79, off", "[2.0] NVRM: Xid (PCI:0000:9c:00): 45, Ch 1"],
            {79: None, 45: None},
            id="not on another",
        ),
        pytest.param(
            ["[1.0] NVRM: Xid (PCI:0000:3b:00): 79, off", "[900.0] NVRM: Xid (PCI:0000:3b:00): 45, Ch 1"],
            {79: None, 45: None},
            id="nor much later",
        ),
        pytest.param(
            ["NVRM: Xid (PCI:0000:3b:00): 45, Ch 1, caused by previous Xid 145"],
            {45: 145},
            id="what the line itself says",
        ),
        pytest.param(
            [
                "[1.0] NVRM: Xid (PCI:0000:3b:00): 31, x",
                "[2.0] NVRM: Xid (PCI:0000:3b:00): 43, x",
                "[3.0] NVRM: Xid (PCI:0000:3b:00): 45, x",
            ],
            {31: None, 43: 31, 45: 31},
            id="both that follow name the first",
        ),
    ],
)
def test_codes_that_only_follow_name_their_cause(lines: list[str], codes: dict[int, int | None]) -> None:
    assert {one.code: one.caused_by for one in read("\n".join(lines))} == codes


def test_two_devices_that_fall_off_the_bus_at_once_are_two() -> None:
    text = """NVRM: The NVIDIA GPU 0000:3b:00.0
NVRM: The NVIDIA GPU 0000:9c:00.0
NVRM: (PCI ID: 10de:2330) installed in this system has
NVRM: fallen off the bus and is not responding to commands.
NVRM: fallen off the bus and is not responding to commands."""
    assert sorted(one.device or "" for one in read(text)) == ["0000:3b:00", "0000:9c:00"]


def test_a_recovery_action_that_is_over_clears_its_device() -> None:
    asks = "NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"
    over = "NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"
    found = read(f"NVRM: Xid (PCI:0000:3b:00): 62, halt\n{asks}\nNVRM: Xid (PCI:0000:9c:00): 62, halt\n{over}")
    assert [(one.code, one.device, one.cleared) for one in found if one.code == 62] == [
        (62, "0000:3b:00", True),
        (62, "0000:9c:00", False),
    ]


def test_more_words_of_a_switch_do_not_count_twice() -> None:
    said = "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Non-fatal, Link 46 MC TS crumbstore MCTO (First)"
    more = "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Severity 0 Engine instance 46 Sub-engine instance 00"
    data = "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Data {0x00140004, 0x00100000}"
    [one] = read(f"{said}\n{more}\n{data}")
    assert (one.code, one.count, one.detail["link"]) == (28006, 1, "46")


@pytest.mark.parametrize(
    ("text", "check", "device", "severity"),
    [
        pytest.param(
            "NPU ID: 3, Error Code: 80E01801", "npu.80E01801", "npu3", Severity.ERROR, id="what the tool prints"
        ),
        pytest.param(
            'logicID: 4, faultCode: "0x80e18402"', "npu.80E18402", "npu4", Severity.FATAL, id="what the plugin prints"
        ),
        pytest.param(
            "system exception code[0xA819320F], try to reset", "npu.A819320F", None, Severity.FATAL, id="a black box"
        ),
    ],
)
def test_a_fault_of_an_npu_is_known_by_its_code(text: str, check: str, device: str | None, severity: Severity) -> None:
    [one] = read(text)
    assert (one.check, one.device, one.severity, one.code) == (check, device, severity, None)


@pytest.mark.parametrize("text", ["Error Code: 12345678", "faultCode of nobody", "Error Code: 80E01801F"])
def test_a_code_that_is_in_no_list_is_none(text: str) -> None:
    assert read(text) == []


# --- how lines are found


_PIECES = st.sampled_from(
    ["a", "bc", "def", r"\d+", ".*", "[xyz]", "(?:pq|rs)", "(uv)?", "k{2,3}", r"\.", "(?i:no)", "^", "$", "w*", r"\s"]
)


@given(st.lists(_PIECES, min_size=1, max_size=8).map("".join), st.text("abcdefxyzpqrsuvkno.w 12", max_size=30))
@settings(max_examples=120, deadline=None)
@example("(?i:no)def", "NOdef")
def test_a_text_that_fits_holds_one_of_the_words_taken_from_its_expression(expression: str, text: str) -> None:
    import re2

    words = required(expression)
    if words is not None and re2.compile(expression).search(text) is not None:
        assert any(word in text for word in words)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (r"Killed process \d+ (.+) total-vm:\d+kB", {"Killed process "}),
        (r"task [\S ]+:\w+ blocked for more than \w+ seconds\.", {" blocked for more than "}),
        (r"(Oops: [0-9a-f]{4}|kernel BUG at \S+)", {"Oops: ", "kernel BUG at "}),
        (r"[Oo]ut of memory", {"Out of memory", "out of memory"}),
        (r"(?i)any case", None),
        (r"\d+", None),
        (r"ab|cd", None),
        (r"(unbalanced", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # a set has no order of its own
)
def test_words_of_an_expression(expression: str, words: set[str] | None) -> None:
    assert required(expression) == words


@pytest.mark.skipif(not is_installed(), reason="the extra [fast] is not installed")
@given(
    st.lists(
        st.sampled_from([*(text for text, _ in EXAMPLES.values()), *WELL.splitlines(), "", "{", "x" * 50]), max_size=30
    )
)
@settings(max_examples=25, deadline=None)
def test_expressions_find_what_words_find(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert read(text, fast=True) == read(text, fast=False)


def test_a_rule_without_words_is_looked_for_in_every_line(tmp_path: object) -> None:
    rules = Rules.of([("own.toml", '[[rule]]\nid = "digits"\nmatch = "^[0-9]+$"\n' + _REST)])
    assert [rule.id for rule in rules.without_words()] == ["digits"]
    reading = Reading(rules, fast=False)
    reading.feed("log", 1, b"words\n123\nmore\n")
    assert [(one.check, one.line) for one in reading.found.values()] == [("npd.digits", 2)]


_REST = 'fault = "host"\nseverity = "error"\naction = "none"\nnode_action = "none"'

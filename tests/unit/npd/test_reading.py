"""Kernel and driver lines in every form in which they come: stamps taken off, errors of devices read whole."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors.has import xid
from detectors.npd.offline import Logs
from detectors.npd.reading import Reading
from detectors.npd.rules import Rules, RulesError
from detectors.npd.stamps import Stamped, stamped
from holdfast.faults import Action, Judgement, NodeAction, Severity
from holdfast.ports import Input

RULES = Rules.read()
AT = 1764000000.0  # 2025-11-24 16:00:00 UTC


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("bare words", Stamped("bare words"), id="bare"),
        pytest.param("[   12.345678] words", Stamped("words", None, 12.345678), id="dmesg"),
        pytest.param("[   12.345678] [ T1234] words", Stamped("words", None, 12.345678), id="dmesg with its caller"),
        pytest.param("<3>[   12.345678] words", Stamped("words", None, 12.345678), id="dmesg -r"),
        pytest.param("kern  :err   : [   12.345678] words", Stamped("words", None, 12.345678), id="dmesg -x"),
        pytest.param("[Mon Nov 24 16:00:00 2025] words", Stamped("words", AT), id="dmesg -T"),
        pytest.param("3,1021,12345678,-;words", Stamped("words", None, 12.345678), id="/dev/kmsg"),
        pytest.param("2025-11-24T16:00:00,000000+00:00 words", Stamped("words", AT), id="dmesg --time-format iso"),
        pytest.param(
            "2025-11-24T17:00:00+01:00 n7 kernel: words",
            Stamped("words", AT, None, "n7", "kernel"),
            id="journalctl -o short-iso",
        ),
        pytest.param(
            "Nov 24 16:00:00 n7 kernel: words",
            Stamped("words", None, None, "n7", "kernel"),
            id="syslog, without a year",
        ),
        pytest.param(
            "Nov 24 16:00:00 n7 kernel: [   12.345678] words",
            Stamped("words", None, 12.345678, "n7", "kernel"),
            id="syslog of a kernel",
        ),
        pytest.param(
            "Nov 24 16:00:00 n7 containerd[812]: words",
            Stamped("words", None, None, "n7", "containerd"),
            id="syslog of a service",
        ),
        pytest.param(
            "Nov 24 16:00:00 n7 site-agent[812]: words",
            Stamped("words", None, None, "n7", "site-agent"),
            id="syslog of a service nobody knows",
        ),
        pytest.param(
            "[   12.345678] n7 kernel: words",
            Stamped("words", None, 12.345678, "n7", "kernel"),
            id="journalctl -o short-monotonic",
        ),
        pytest.param(
            "1764000000.123456 n7 kernel: words",
            Stamped("words", AT + 0.123456, None, "n7", "kernel"),
            id="journalctl -o short-unix",
        ),
        pytest.param(
            "Mon 2025-11-24 16:00:00 UTC n7 kernel: words",
            Stamped("words", AT, None, "n7", "kernel"),
            id="journalctl -o short-full",
        ),
        pytest.param("[  +0.000012] words", Stamped("words"), id="dmesg -H"),
        pytest.param(
            "2025-11-24T16:00:00,000000+00:00 nvme nvme0: words",
            Stamped("nvme nvme0: words", AT),
            id="dmesg iso names no host",
        ),
        pytest.param("2025-11-24T16:00:00Z stderr F words", Stamped("words", AT), id="a container's log"),
        pytest.param(
            "Nov 24 16:00:00 n7 kernel: message repeated 9 times: [ words]",
            Stamped("words", None, None, "n7", "kernel", 9),
            id="what syslog counts",
        ),
        pytest.param(
            "1 2025-11-24T16:00:00Z n7 kernel - - - words", Stamped("words", AT, None, "n7", "kernel"), id="RFC 5424"
        ),
        pytest.param(
            '{"MESSAGE": "words", "__REALTIME_TIMESTAMP": "1764000000000000", "_HOSTNAME": "n7"}',
            Stamped("words", AT, None, "n7"),
            id="journalctl -o json",
        ),
        pytest.param('{"MESSAGE": [119, 111, 114, 100, 115]}', Stamped("words"), id="a journal's message as bytes"),
        pytest.param("{not a journal", Stamped("{not a journal"), id="a brace is no journal"),
        pytest.param("[Nov 31 2025 16:00:00] words", Stamped("words", None), id="a day that is none"),
    ],
)
def test_a_stamp_is_taken_off(line: str, told: Stamped) -> None:
    assert stamped(line) == told


@pytest.mark.parametrize(
    ("text", "code", "device", "instance", "caused_by"),
    [
        pytest.param(
            "NVRM: Xid (PCI:0000:3b:00): 79, pid=77, name=python, GPU has fallen off the bus.",
            79,
            "0000:3b:00",
            "",
            None,
            id="with pid and name",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.", 79, "0000:3b:00", "", None, id="without"
        ),
        pytest.param("NVRM: Xid (0000:3b:00): 31, Ch 00000010", 31, "0000:3b:00", "", None, id="without PCI:"),
        pytest.param(
            "NVRM: Xid (PCI:0000:3b:00.0): 31, pid='<unknown>', name=<unknown>, Ch 1",
            31,
            "0000:3b:00.0",
            "",
            None,
            id="with a function",
        ),
        pytest.param(
            "NVRM: Xid (PCI:00000018:01:00): 48, x", 48, "00000018:01:00", "", None, id="a domain of eight digits"
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:3b:00 GPU-I:03): 94, Contained: SM", 94, "0000:3b:00", "03", None, id="a MIG instance"
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:3b:00 GPU-CI:05): 43, pid=1", 43, "0000:3b:00", "05", None, id="a compute instance"
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:3b:00 GPU-I:03 GPU-CI:05): 43, pid=1",
            43,
            "0000:3b:00",
            "03",
            None,
            id="an instance in an instance",
        ),
        pytest.param(
            "NVRM: Xid (PCI:0000:3b:00): 45, pid=1, name=x, Ch 1, errorString CTX SWITCH TIMEOUT, caused by previous Xid 109",
            45,
            "0000:3b:00",
            "",
            109,
            id="only what follows",
        ),
        pytest.param(
            "NVRM: GPU at PCI:0000:3b:00: GPU has fallen off the bus",
            79,
            "0000:3b:00",
            "",
            None,
            id="off the bus without an Xid",
        ),
        pytest.param(
            "NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.",
            79,
            "0000:3b:00",
            "",
            None,
            id="and in its other form",
        ),
        pytest.param(
            "nvidia-nvswitch1: SXid (PCI:0000:c3:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error",
            12028,
            "0000:c3:00.0",
            "",
            None,
            id="a switch",
        ),
    ],
)
def test_an_error_of_a_device_is_read_whole(
    text: str, code: int, device: str, instance: str, caused_by: int | None
) -> None:
    said = xid.read(text)
    assert said is not None
    assert (said.code, said.device, said.instance, said.caused_by) == (code, device, instance, caused_by)


@pytest.mark.parametrize(
    "text",
    [
        "NVRM: Xid (PCI:zz): 79",
        "NVRM: Xid (PCI:0000:3b:00): words",
        "NVRM: Xid (",
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module",
        "user said: Xid 79 again",
    ],
)
def test_what_only_looks_like_an_error_is_none(text: str) -> None:
    assert xid.read(text) is None


@pytest.mark.parametrize(
    ("wants", "severity", "node_action"),
    [
        ("None", Severity.INFO, NodeAction.NONE),
        ("GPU Reset Required", Severity.FATAL, NodeAction.RESET_DEVICE),
        ("Node Reboot Required", Severity.FATAL, NodeAction.REBOOT),
        ("Drain P2P", Severity.ERROR, NodeAction.DRAIN),
        ("Drain and Reset", Severity.FATAL, NodeAction.RESET_DEVICE),
        ("Something New", Severity.WARNING, NodeAction.INSPECT),
    ],
)
def test_xid_154_names_what_it_wants(wants: str, severity: Severity, node_action: NodeAction) -> None:
    said = xid.read(f"NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x0 (None) to 0x4 ({wants})")
    assert said is not None
    assert (said.severity, said.node_action) == (severity, node_action)


@pytest.mark.parametrize("device", ["0000:3b:00", "00000000:3B:00.0", "3b:00", "0000:3b:00.0"], ids=str)
def test_a_device_is_the_same_however_it_is_printed(device: str) -> None:
    assert xid.key_of(device) == "0000:3b:00"


def found(*texts: str) -> list[tuple[str, int, int]]:
    """(check, line, count) of what a log says."""
    reading = Reading(RULES)
    reading.feed("kern.log", 1, "".join(text + "\n" for text in texts).encode())
    return [(noted.check, noted.line, noted.count) for noted in reading.found.values()]


OFF_BUS = (
    "[   99.000001] NVRM: The NVIDIA GPU 0000:b3:00.0",
    "[   99.000002] NVRM: (PCI ID: 10de:2330) installed in this system has",
    "[   99.000003] NVRM: fallen off the bus and is not responding to commands.",
)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        pytest.param(OFF_BUS, [("xid.79", 1, 1)], id="a device falls off the bus in three lines"),
        pytest.param(("x", *OFF_BUS, "y"), [("xid.79", 2, 1)], id="told under its first line"),
        pytest.param((OFF_BUS[0], "x", "y", "z", "u", OFF_BUS[2]), [], id="lines too far apart are not one message"),
        pytest.param(
            ("a kernel: NVRM: Xid (PCI:0000:3b:00): 31, x",) * 3, [("xid.31", 1, 3)], id="what is repeated is counted"
        ),
        pytest.param(
            ("NVRM: Xid (PCI:0000:3b:00): 31, x", "NVRM: Xid (3b:00.0): 31, x"), [("xid.31", 1, 2)], id="in any form"
        ),
        pytest.param(
            ("INFO: task python:77 blocked for more than 120 seconds.",), [("npd.hung_task", 1, 1)], id="a rule of ours"
        ),
        pytest.param(("all is well",), [], id="what no rule knows"),
    ],
)
def test_findings_of_a_log(texts: tuple[str, ...], said: list[tuple[str, int, int]]) -> None:
    assert found(*texts) == said


def test_a_message_cut_by_a_block_is_one() -> None:
    reading = Reading(RULES)
    for n, text in enumerate(OFF_BUS, 1):
        reading.feed("kern.log", n, text.encode() + b"\n")
    assert [(noted.check, noted.line) for noted in reading.found.values()] == [("xid.79", 1)]


_WORDS = st.sampled_from(
    [
        *(word for words in RULES.words for word in words),
        *xid.WORDS,
        "[   1.000000] ",
        "<3>",
        "0000:3b:00",
        "): 79, ",
        "\x00",
        "{",
    ]
)


@given(st.lists(st.one_of(_WORDS, st.text(max_size=30)), max_size=40), st.binary(max_size=300))
@example(["{"], b"\xff\n\n")
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_and_told_within_bounds(words: list[str], rest: bytes) -> None:
    block = "".join(words).encode("utf-8", "surrogatepass") + rest
    reading = Reading(RULES)
    reading.feed("f", 1, block)
    count = block.count(b"\n") + 1
    assert all(1 <= noted.line <= count and len(noted.text) <= 4000 for noted in reading.found.values())


@given(st.text(max_size=200))
def test_any_line_has_its_stamp_taken_off(text: str) -> None:
    told = stamped(text)
    assert text.endswith(told.text) or text.startswith("{")


_REST = 'fault = "host"\nseverity = "error"\naction = "none"\nnode_action = "none"'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("rule = 3", "rule", id="not a table"),
        pytest.param('[[rule]]\nid = "x"\nany = []\n' + _REST, "any", id="no words"),
        pytest.param('[[rule]]\nid = "x"\nany = ["a"]\nmatch = "("\n' + _REST, "own.toml", id="no expression"),
        pytest.param('[[rule]]\nid = "x"\ncolour = 1', "own.toml", id="a key nobody knows"),
        pytest.param("[[rule", "own.toml", id="not TOML"),
    ],
)
def test_rules_that_are_none_are_refused_by_name(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(RulesError, match=reason) as said:
        Rules.read(str(tmp_path / "own.toml"))
    assert "own.toml" in str(said.value)


def test_the_worst_is_the_root_and_what_follows_is_nobodys_fault(tmp_path: Path) -> None:
    log = tmp_path / "dmesg"
    log.write_text(
        "[    1.000000] EDAC MC0: 1 CE memory read error on CPU_SrcID#0\n"
        "[    2.000000] NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.\n"
        "[    3.000000] NVRM: Xid (PCI:0000:9c:00): 45, x, caused by previous Xid 79\n"
    )
    verdict = Logs().diagnose([Input(name="dmesg", path=log)], {})
    assert (verdict.verdict, [c.id for c in verdict.culprits]) == (Judgement.CULPRIT, ["0000:3b:00"])
    assert verdict.action is Action.REPLACE

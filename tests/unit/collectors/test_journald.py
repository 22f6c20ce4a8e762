"""The journal's entries from a cursor on: cut from pieces, resumed, and read by the node rules."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.journald import Journald
from detectors.npd.online import KernelLog
from holdfast.events import Lines, Observation, Samples


def entry(message: object, n: int = 1, *, transport: str = "journal", host: str = "n3") -> bytes:
    row = {
        "__CURSOR": f"s=a;i={n}",
        "MESSAGE": message,
        "_TRANSPORT": transport,
        "_HOSTNAME": host,
        "__REALTIME_TIMESTAMP": "1764000000000000",
    }
    return json.dumps(row).encode() + b"\n"


def taken(*pieces: bytes | None, **known: object) -> tuple[list[str], list[Observation]]:
    """(messages, everything that was said) of pieces that come one poll after the other."""
    waiting = list(pieces)
    collector = Journald(node="n3", read=lambda now: [waiting.pop(0)], **known)  # type: ignore[arg-type]
    said = [seen for n in range(len(pieces)) for seen in collector.poll(float(n))]
    return [json.loads(line)["MESSAGE"] for seen in said if isinstance(seen, Lines) for line in seen.lines], said


@pytest.mark.parametrize(
    ("pieces", "messages"),
    [
        pytest.param([entry("a") + entry("b")], ["a", "b"], id="entries"),
        pytest.param([entry("abc")[:20], entry("abc")[20:]], ["abc"], id="one in two pieces"),
        pytest.param([entry("x", transport="kernel") + entry("y")], ["y"], id="the kernel is left to another"),
        pytest.param([b"-- No entries --\n" + entry("a")], ["a"], id="what is no entry"),
        pytest.param([entry("a")[:20], None, entry("b")], ["b"], id="a program that ended in the middle"),
        pytest.param([entry(None) + entry([104, 105])], [[104, 105]], id="no message, and one of bytes"),
    ],
)
def test_pieces_become_lines(pieces: list[bytes | None], messages: list[object]) -> None:
    assert taken(*pieces)[0] == messages


def test_a_program_that_ends_is_a_source_that_is_down() -> None:
    said = taken(entry("a"), None, entry("b"))[1]
    states = [float(seen.values[0, 0]) for seen in said if isinstance(seen, Samples) and "source.up" in seen.signals]
    assert np.array_equal(states, [1.0, 0.0, 1.0])


def test_the_node_rules_read_the_entries() -> None:
    text = "NVRM: Xid (PCI:0000:1b:00): 79, pid=1, GPU has fallen off the bus."
    lines = [seen for seen in taken(entry(text, transport="kernel"), kernel=True)[1] if isinstance(seen, Lines)]
    assert [finding.check for seen in lines for finding in KernelLog().observe(seen)] == ["xid.79"]


def test_a_restart_goes_on_after_the_last_entry(tmp_path: Path) -> None:
    keep, log = tmp_path / "cursor", tmp_path / "words"
    program = tmp_path / "journalctl"
    program.write_text(f"#!/bin/sh\necho \"$@\" >> {log}\necho '{entry('a', 7).decode().strip()}'\nexec sleep 60\n")
    program.chmod(0o755)
    for _ in range(2):
        collector = Journald(node="n3", cursor_file=str(keep), command=(str(program),))
        for _ in range(100):
            if any(isinstance(seen, Lines) for seen in collector.poll(time.monotonic())):
                break
            time.sleep(0.05)
        collector.close()
    first, second = log.read_text().splitlines()
    assert "--since -300s" in first
    assert "--after-cursor s=a;i=7" in second


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_anything_may_come(pieces: list[bytes]) -> None:
    taken(*pieces, entry("end"))

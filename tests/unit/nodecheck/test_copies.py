"""Copies of a machine: what is learned from one, what is not followed, what is no copy, and mangled outputs."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.node import outputs
from collectors.node.expectations import ExpectationError, as_toml, learned
from collectors.node.expectations import read as read_machines
from collectors.node.notes import Notes
from collectors.node.survey import survey
from collectors.node.tree import Tree
from holdfast.faults import Judgement
from holdfast.node.offline import Node
from holdfast.offline import walk
from holdfast.ports import Input
from tests.unit.nodecheck.machine import links, machine, port, smi, write
from tests.unit.nodecheck.test_node import FULL, IBSTAT, IBSTATUS, SMART, rows, said


def test_a_finding_has_the_form_of_a_log_line_and_tells_where_it_stands(tmp_path: Path) -> None:
    machine(tmp_path)
    port(tmp_path, "mlx5_3", state="1: DOWN")
    row = rows(tmp_path)[0]
    keys = [
        "file",
        "line",
        "at",
        "check",
        "fault",
        "severity",
        "code",
        "device",
        "action",
        "node_action",
        "text",
        "count",
    ]
    assert list(row)[: len(keys)] == keys
    assert (row["file"], row["line"], row["fault"], row["host"]) == (
        "sys/class/infiniband/mlx5_3/ports/1/state",
        1,
        "nic",
        "n3",
    )
    assert "1: DOWN" in row["text"]
    json.dumps(row)


def test_a_folder_of_ports_alone_is_judged(tmp_path: Path) -> None:
    machine(tmp_path)
    port(tmp_path, "mlx5_3", state="1: DOWN")
    assert said(tmp_path / "sys/class/infiniband") == [("error", "nic.down", "mlx5_3")]


def test_a_machine_that_was_learned_misses_what_is_gone(tmp_path: Path) -> None:
    machine(tmp_path)
    write(tmp_path / "smi", smi(8))
    notes = Notes()
    survey(Tree(str(tmp_path)), notes)
    known = tmp_path.parent / f"{tmp_path.name}.toml"
    known.write_bytes(as_toml(learned(notes)))
    assert read_machines(str(known))[0].expected.devices == 8
    assert said(tmp_path, machines=str(known)) == []
    port(tmp_path, "mlx5_3", rate="200 Gb/sec (2X NDR)")
    port(tmp_path, "mlx5_4", state="1: DOWN")
    write(tmp_path / "smi", smi(6))
    write(tmp_path / "proc/meminfo", "MemTotal: 1981000000 kB\nMemAvailable: 1900000000 kB")
    found = said(tmp_path, machines=str(known))
    wanted = ["nic.down", "nic.below_expected_rate", "node.ports_missing", "node.devices_missing", "memory.smaller"]
    assert [check for check in wanted if check not in {row[1] for row in found}] == []


def test_nothing_is_learned_from_a_machine_that_cannot_be_told() -> None:
    with pytest.raises(ExpectationError, match="neither"):
        learned(Notes())


def test_a_link_out_of_a_copy_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write(secret, "1: DOWN")
    root = machine(tmp_path / "copy")
    state = root / "sys/class/infiniband/mlx5_3/ports/1/state"
    state.unlink()
    state.symlink_to(secret)
    assert said(root) == []


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "notes.txt", "hello")
    with pytest.raises(ValueError, match="neither"):
        rows(tmp_path)


def test_a_broken_report_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    machine(tmp_path)
    write(tmp_path / "smart", '{"json_format_version": [1, 0], "smartctl": {"exit_status": 8}, "device"')
    write(tmp_path / "nvlink", links(((2, 5),)))
    found = rows(tmp_path)
    assert [row["file"] for row in found if "skipped" in row] == ["smart"]
    assert "gpu.nvlink_down" in {row.get("check") for row in found}


def test_any_mixture_of_files_is_taken_apart(tmp_path: Path) -> None:
    machine(tmp_path)
    port(tmp_path, "mlx5_3", state="1: DOWN")
    write(tmp_path / "smi", smi(2, failed="Yes"))
    inputs = [
        Input(name=name, path=path) for name, path in walk([str(tmp_path)]) if Node().recognise(name, path.read_bytes())
    ]
    verdict = Node().diagnose(inputs, {})
    assert (verdict.verdict, verdict.fault.value) == (Judgement.CULPRIT, "gpu_mem")
    assert [(c.kind.value, c.id) for c in verdict.culprits] == [("device", "0000:43:00")]


def test_a_number_that_is_none_is_no_reading() -> None:
    notes = Notes()
    outputs.read_text("nvme smart-log", "x", "Smart Log for NVME device:nvme0 namespace-id:1\ncritical_warning : inf\n", notes)
    assert (notes.values, notes.skipped) == ({}, {})


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_mangled_output_ends_in_notes_or_is_skipped(data: st.DataObject) -> None:
    texts = [smi(2), links(), FULL, IBSTAT, IBSTATUS, SMART]
    text = data.draw(st.sampled_from(texts))
    at = data.draw(st.integers(0, len(text)))
    mangled = text[:at] + data.draw(st.text(max_size=40)) + text[at + data.draw(st.integers(0, 40)) :]
    notes = Notes()
    for tool in outputs.TOOLS:
        outputs.read_text(tool.kind, "x", mangled, notes)
    assert notes.dropped == 0

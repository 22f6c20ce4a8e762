"""Verdicts on real dumps and logs."""

from pathlib import Path

import pytest

from detectors.npd.offline import Logs
from detectors.tracehang.offline import Hang
from holdfast.offline import walk
from holdfast.ports import Input
from tests.field.where import data


def inputs(path: Path) -> list[Input]:
    return [Input(name=name, path=file) for name, file in walk([str(path)])]


def test_a_real_hang_of_sixteen_ranks_names_the_two_that_were_stopped() -> None:
    verdict = Hang().diagnose(inputs(data("flightrecorder", "nccl_16rank")), {})
    assert sorted((c.id, c.cause) for c in verdict.culprits) == [("10", "host_stuck"), ("15", "host_stuck")]
    assert [Path(skipped.file).name for skipped in verdict.skipped] == ["fault_injection.log"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("dmesg-with-xid-119.log", [(119, "0000:9b:00", 5, "fatal")], id="a GSP that does not answer"),
        pytest.param(
            "dmesg-oom-xid13.log",
            [(13, "0000:38:00", 16, "error"), (43, "0000:38:00", 1, "info")],
            id="the code's own fault, what follows from it, and memory",
        ),
    ],
)
def test_kernel_logs_give_exact_codes_and_devices(name: str, expected: list[tuple[int, str, int, str]]) -> None:
    rows = list(Logs().findings(inputs(data("hardware", "logs", name)), {}))
    coded = [(row["code"], row["device"], row["count"], row["severity"]) for row in rows if row["code"] is not None]
    assert coded == expected
    assert [row for row in rows if row["severity"] == "fatal" and row["code"] is None] == []


def test_a_boot_and_a_panic_tell_of_the_panic_alone() -> None:
    rows = list(Logs().findings(inputs(data("hardware", "logs", "pstore-panic-dmesg.txt")), {}))
    serious = [(row["check"], row["severity"]) for row in rows if row["severity"] in ("fatal", "error")]
    assert serious == [("npd.kernel_panic", "fatal")]

"""The management library: what it says, what it does not support, what is lost, and one that hangs."""

import threading
import time
from typing import Any, ClassVar

import pytest

from collectors.node.notes import Notes
from collectors.nvml import Nvml, ask
from detectors.nodecheck.online import NodeChecks
from holdfast.events import Samples
from holdfast.topology import Kind

BOTH = ("0000:1b:00", "0000:1c:00")


class Pci:
    """What the library says of a device's place."""

    def __init__(self, index: int) -> None:
        self.busId = f"00000000:{index + 27:02X}:00.0".encode()


class Library:
    """A library of two devices that supports little; failing: function -> code of the error it raises."""

    class NVMLError(Exception):
        """An error with its code."""

        def __init__(self, value: int) -> None:
            super().__init__(f"error {value}")
            self.value = value

    NVML_TEMPERATURE_GPU, NVML_CLOCK_SM = 0, 1
    answers: ClassVar[dict[str, Any]] = {
        "nvmlInit": None, "nvmlShutdown": None, "nvmlDeviceGetCount": 2, "nvmlDeviceGetName": b"NVIDIA H100 80GB HBM3",
        "nvmlDeviceGetTemperature": 45, "nvmlDeviceGetPowerUsage": 70_500, "nvmlDeviceGetRemappedRows": (0, 0, 0, 0),
        "nvmlDeviceGetCurrPcieLinkWidth": 16, "nvmlDeviceGetMaxPcieLinkWidth": 16,
        "nvmlDeviceGetCurrentClocksThrottleReasons": 0x1,
    }  # fmt: skip

    def __init__(self, failing: dict[str, int] | None = None, **known: Any) -> None:
        self.failing, self.known = failing or {}, {**self.answers, **known}

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            if name in self.failing:
                raise Library.NVMLError(self.failing[name])
            if name == "nvmlDeviceGetHandleByIndex":
                return arguments[0]
            if name == "nvmlDeviceGetPciInfo":
                return Pci(arguments[0])
            if name == "nvmlDeviceGetNvLinkState":
                if arguments[1] > 1:
                    raise Library.NVMLError(2)
                return self.known.get("links", (1, 1))[arguments[1]]
            if name not in self.known:
                raise Library.NVMLError(3)
            return self.known[name]

        return call


def said(library: Library) -> list[tuple[str, str]]:
    """(check, target) of what the checks find in one look, looked at twice."""
    checks = NodeChecks()
    found = []
    for n in range(2):
        notes = Notes("n3")
        ask(library, notes)
        found += [f for seen in notes.samples(float(n), source="nvml:n3") for f in checks.observe(seen)]
    return [(f.check, f.target.id) for f in found]


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        pytest.param(Library(), [], id="all is well"),
        pytest.param(Library(nvmlDeviceGetRemappedRows=(0, 1, 0, 1)), [("gpu.row_remap_failed", d) for d in BOTH], id="rows"),
        pytest.param(
            Library(nvmlDeviceGetCurrentClocksThrottleReasons=0x80 | 0x8), [("gpu.power_brake", d) for d in BOTH],
            id="braked by the board",
        ),
        pytest.param(Library(links=(1, 0)), [("gpu.nvlink_down", d) for d in BOTH], id="a link is down"),
        pytest.param(Library({"nvmlInit": 18}), [("node.driver_mismatch", "n3")], id="a library of another version"),
        pytest.param(Library({"nvmlInit": 9}), [("node.driver_not_answering", "n3")], id="no driver"),
        pytest.param(Library({"nvmlDeviceGetTemperature": 15}), [("gpu.lost", d) for d in BOTH], id="lost"),
        pytest.param(Library({"nvmlDeviceGetHandleByIndex": 15}), [("gpu.lost", "0"), ("gpu.lost", "1")], id="lost before it is named"),
    ],
)  # fmt: skip
def test_what_the_library_says_is_judged(library: Library, expected: list[tuple[str, str]]) -> None:
    assert said(library) == expected


def test_readings_have_our_units() -> None:
    notes = Notes("n3")
    ask(Library(), notes)
    row = next(row for target, row in notes.values.items() if target.kind is Kind.DEVICE)
    assert (row["gpu.temp_c"], row["gpu.power_w"], row["pcie.lanes"], row["gpu.nvlinks_up"]) == (45.0, 70.5, 16.0, 2.0)
    assert notes.facts["gpu.model"] == "NVIDIA H100 80GB HBM3"


def test_a_library_that_hangs_holds_nobody_and_is_told() -> None:
    asked, leave = threading.Event(), threading.Event()

    class Hanging(Library):
        def __getattr__(self, name: str) -> Any:
            if name == "nvmlInit":
                asked.set()
                leave.wait(60.0)
            return super().__getattr__(name)

    collector = Nvml(node="n3", every_s=10.0, timeout_s=20.0, library=Hanging())
    assert list(collector.poll(0.0)) == []
    asked.wait(10.0)
    seen = list(collector.poll(31.0))
    assert [f.check for one in seen if isinstance(one, Samples) for f in NodeChecks().observe(one)] == [
        "node.driver_not_answering"
    ]
    assert list(collector.poll(40.0)) == []
    collector.close()
    leave.set()


def test_a_machine_without_the_library_is_a_source_that_is_down() -> None:
    collector = Nvml(node="n3")
    for _ in range(100):
        seen = list(collector.poll(time.monotonic()))
        if seen:
            break
        time.sleep(0.02)
    assert [(one.signals, float(one.values[0, 0])) for one in seen if isinstance(one, Samples)] == [
        (("source.up",), 0.0)
    ]

"""Why a rank is slow, by what its node reads: from pages of single nodes, or from one table over many."""

import numpy as np
import pytest

from detectors.traceslow.machine import Machines
from holdfast.events import Samples
from holdfast.faults import Fault
from holdfast.topology import Kind, NodeId, Target

NODES = [f"n{n}" for n in range(6)]
SIGNALS = ("gpu.sm_clock_hz", "pcie.lanes", "gpu.temp_c")


def readings(**odd: float) -> np.ndarray:
    """Eight devices a node, all alike but device 3 of node n2."""
    values = np.tile([1.98e9, 16.0, 62.0], (len(NODES) * 8, 1))
    for name, value in odd.items():
        values[2 * 8 + 3, ("clock", "lanes", "temp").index(name)] = value
    return values


def machines(values: np.ndarray, *, together: bool) -> Machines:
    told = Machines()
    targets = tuple(Target(Kind.DEVICE, f"0000:0{n}:00", node=node) for node in NODES for n in range(8))
    for at in (100.0, 115.0):
        if together:
            told.take(Samples(at=at, source="dcgm:job", targets=targets, signals=SIGNALS, values=values))
            continue
        for n, node in enumerate(NODES):
            rows = slice(n * 8, n * 8 + 8)
            told.take(
                Samples(at=at, source=f"dcgm:{node}", node=NodeId(node), targets=targets[rows], signals=SIGNALS, values=values[rows])
            )
    return told


@pytest.mark.parametrize("together", [False, True], ids=["pages of nodes", "one table"])
@pytest.mark.parametrize(
    ("odd", "cause", "fault"),
    [
        pytest.param({"lanes": 4.0}, "pcie", Fault.PCIE, id="a link that is narrower"),
        pytest.param({"clock": 1.4e9}, "clocks", Fault.GPU_THERMAL_POWER, id="a clock that is lower"),
        pytest.param({"clock": 1.4e9, "temp": 88.0}, "throttle", Fault.GPU_THERMAL_POWER, id="a clock that is lower on a hot device"),
        pytest.param({}, None, None, id="nothing"),
    ],
)
def test_what_is_odd_about_a_node(*, together: bool, odd: dict[str, float], cause: str | None, fault: Fault | None) -> None:
    reason = machines(readings(**odd), together=together).why("n2", NODES, cause="slow_worker", place=3, at=116.0)
    assert (reason and reason.cause, reason and reason.fault) == (cause, fault)
    assert reason is None or reason.target.id == "0000:03:00"

"""Which of two findings of one job explains the other."""

from typing import Any

import pytest

from holdfast.events import Finding
from holdfast.faults import Fault, Judgement, Perception, Severity
from holdfast.topology import JobId, Kind, Target
from remedier.correlate import depth
from remedier.record import best_of

PORT = Target(Kind.NIC, "mlx5_2:1", node="n1")
SWITCH = Target(Kind.LINK, "switch of mlx5_2:1")


def finding(perception: Perception, fault: Fault, *, target: Target = PORT, **known: Any) -> Finding:
    facts: dict[str, Any] = {"check": "c", "confidence": 0.9, **known}
    return Finding(at=1.0, id="f", job=JobId("j"), target=target, perception=perception, fault=fault, **facts)


@pytest.mark.parametrize(
    ("deep", "shallow"),
    [
        pytest.param(
            finding(Perception.NODE_FAULT, Fault.FABRIC, target=SWITCH, cause="switch_down"), finding(Perception.NODE_FAULT, Fault.NIC),
            id="a switch that is gone explains the links that end at it",
        ),
        pytest.param(
            finding(Perception.LOG_ERROR, Fault.SCHEDULER), finding(Perception.PROCESS_ABNORMAL, Fault.UNKNOWN, check="process.signal"),
            id="a scheduler's word explains the signals it sent",
        ),
        pytest.param(
            finding(Perception.PROCESS_ABNORMAL, Fault.UNKNOWN, check="process.signal"), finding(Perception.LOG_ERROR, Fault.SOFTWARE),
            id="another line does not explain a signal from outside",
        ),
        pytest.param(
            finding(Perception.SLOW, Fault.UNKNOWN, judgement=Judgement.UNDECIDED),
            finding(Perception.NODE_FAULT, Fault.NIC, cause="peer_deviation"), id="what is only unlike its peers explains nothing",
        ),
    ],
)  # fmt: skip
def test_the_deeper_explains(deep: Finding, shallow: Finding) -> None:
    assert depth(deep) > depth(shallow)


def test_a_switch_that_loses_packets_explains_damaged_ones_and_no_link_that_is_gone() -> None:
    lossy = finding(Perception.NODE_FAULT, Fault.FABRIC, target=SWITCH, cause="switch_errors")
    damaged = finding(Perception.NODE_FAULT, Fault.NIC, check="nic.rx_errors", severity=Severity.WARNING, confidence=0.6)
    down = finding(Perception.NODE_FAULT, Fault.NIC, check="nic.down", confidence=0.95)
    assert best_of((damaged, lossy)) is lossy
    assert best_of((damaged, lossy, down)) is down

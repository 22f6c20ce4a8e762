"""Which of two findings of one job explains the other."""

from typing import Any

import pytest

from holdfast.events import Finding
from holdfast.faults import Fault, Judgement, Perception
from holdfast.topology import JobId, Kind, Target
from remedier.correlate import depth

PORT = Target(Kind.NIC, "mlx5_2:1", node="n1")


def finding(perception: Perception, fault: Fault, *, target: Target = PORT, **known: Any) -> Finding:
    facts: dict[str, Any] = {"check": "c", "confidence": 0.9, **known}
    return Finding(at=1.0, id="f", job=JobId("j"), target=target, perception=perception, fault=fault, **facts)


@pytest.mark.parametrize(
    ("deep", "shallow"),
    [
        pytest.param(
            finding(Perception.NODE_FAULT, Fault.FABRIC, target=Target(Kind.LINK, "switch of mlx5_2:1")),
            finding(Perception.NODE_FAULT, Fault.NIC), id="a switch explains the ports at it",
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

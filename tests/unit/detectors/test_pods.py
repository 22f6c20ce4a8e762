"""Claims from the scheduler's word about workers and nodes."""

from typing import Any

import pytest

from detectors.pods import Pods
from holdfast.events import Change, Changes
from holdfast.topology import JobId, Kind, Target, job_of

WORKER = Target(Kind.PROCESS, "j-worker-0", node="n1", job="j")
NODE = Target(Kind.NODE, "n1", node="n1")


def changed(target: Target, state: str, **known: Any) -> Changes:
    return Changes(at=1.0, source="kubernetes", job=JobId("j"), changes=(Change(target=target, state=state, at=1.0, **known),))


@pytest.mark.parametrize(
    ("seen", "claims"),
    [
        pytest.param([changed(WORKER, "running")], [], id="a worker that runs"),
        pytest.param([changed(WORKER, "deleted")], [("pods.removed", False)], id="a worker is deleted"),
        pytest.param([changed(WORKER, "evicted")] * 2, [("pods.removed", False)], id="a removal is claimed once"),
        pytest.param([changed(WORKER, "deleted", detail={"order": "i1/replace/2"})], [], id="one that was ordered is no claim"),
        pytest.param(
            [changed(WORKER, "deleted"), changed(WORKER, "running")], [("pods.removed", False), ("pods.removed", True)],
            id="a worker that runs again takes the claim back",
        ),
        pytest.param([changed(WORKER, "failed", exit_code=1)], [("pods.failed", False)], id="a worker fails"),
        pytest.param(
            [changed(WORKER, "deleted"), changed(job_of("j"), "failed")], [("pods.removed", False)],
            id="that the job fails for want of it takes nothing back",
        ),
        pytest.param(
            [changed(WORKER, "deleted"), changed(job_of("j"), "started", attempt=1)],
            [("pods.removed", False), ("pods.removed", True)], id="the next attempt has new workers",
        ),
        pytest.param(
            [changed(NODE, "not_ready"), changed(NODE, "ready")], [("pods.node_not_ready", False), ("pods.node_not_ready", True)],
            id="a node that comes back",
        ),
        pytest.param([changed(NODE, "cordoned")], [], id="a cordoned node is no fault"),
    ],
)  # fmt: skip
def test_claims(seen: list[Changes], claims: list[tuple[str, bool]]) -> None:
    detector = Pods()
    assert [(f.check, f.cleared) for one in seen for f in detector.observe(one)] == claims


def test_a_worker_killed_for_memory_says_so() -> None:
    (finding,) = Pods().observe(changed(WORKER, "failed", exit_code=137, signal=9, reason="OOMKilled"))
    assert (finding.fault.value, finding.cause) == ("host_resource", "out_of_memory")

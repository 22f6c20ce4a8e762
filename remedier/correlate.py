"""Which findings speak of the same fault, and which of them explains the others."""

from holdfast.events import Finding
from holdfast.faults import Fault, Judgement, Perception
from holdfast.topology import Kind, Target

# How deep a finding reaches into the chain of causes: the deeper one explains the shallower of the same job.
# A device fault explains the killed process, that explains the error in the log, and that the job's exit.
_DEPTH: dict[Perception, int] = {
    Perception.NODE_FAULT: 60,
    Perception.PROCESS_ABNORMAL: 40,
    Perception.POD_DELETED: 40,
    Perception.LOG_ERROR: 30,
    Perception.LOSS_ANOMALY: 25,
    Perception.HANG: 20,
    Perception.SLOW: 15,
    Perception.HEARTBEAT_LOST: 10,
    Perception.POD_FAILED: 5,
    Perception.SLO_BREACH: 5,
}

# A process that went by its own exit code was told to by something its log explains; a signal came from outside.
_ITS_OWN_WORD = frozenset({"process.exit_code", "process.abort"})
_BY_ITSELF = -15
_UNDECIDED = -8

# A switch that is gone explains the links that end at it; one that loses packets explains no link that is gone.
_SWITCH = 2
# A scheduler that says it ended the job explains the signals of its processes.
_SCHEDULER = 12

# What another monitor says (detectors/alerts.py), and what is only unlike its peers (detectors/models), is a hint: whatever was seen
# explains more.
_HINTS = frozenset({"outside_alert", "peer_deviation"})

# Claims about a source of telemetry say nothing of the job's own fault.
APART = frozenset({Perception.HEARTBEAT_LOST})


def depth(finding: Finding) -> int:
    """How near the root a finding is; the largest of an incident's findings gives it its verdict."""
    if finding.cause in _HINTS:
        return 0
    deep = _DEPTH[finding.perception]
    if finding.check in _ITS_OWN_WORD:
        deep += _BY_ITSELF
    if finding.judgement is Judgement.UNDECIDED:
        deep += _UNDECIDED
    if finding.fault is Fault.FABRIC and finding.cause == "switch_down":
        deep += _SWITCH
    if finding.fault is Fault.SCHEDULER and finding.perception is Perception.LOG_ERROR:
        deep += _SCHEDULER
    return deep


def key(finding: Finding) -> str:
    """Findings with the same key belong to one incident while it lives: the job's, or the target's without a job."""
    if finding.perception in APART:
        return f"{finding.perception}: {place(finding.target)}"
    return f"job {finding.job}" if finding.job else place(finding.target)


def place(target: Target) -> str:
    """The key of what is said of a target that has no job: its node where it has one."""
    node = node_of(target)
    return f"node {node}" if node else str(target)


def node_of(target: Target) -> str:
    """The node a target is on, or is; "" where that is not known."""
    return target.node or (target.id if target.kind is Kind.NODE else "")

"""Judges what the commands of a node's health check printed: a table of checks, each an answer and what was expected.

The thresholds are those that GCM, Meta's open cluster monitor (github.com/facebookresearch/gcm), takes where nothing else is
said; a command that fails is a warning, because it says nothing of the node.
"""

from detectors.has import outputs
from detectors.has.outputs import Answer, Expected, Judge, Opinion
from holdfast.faults import Severity


def judge(check: str, answer: Answer, expected: Expected | None = None) -> Opinion:
    """The opinion of a check by its name; expected: what its row of CHECKS takes.

    raises KeyError: no such check
    """
    try:
        return CHECKS[check](answer, expected or {})
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        return outputs.warning(f"not what {check} reads: {error}")


CHECKS: dict[str, Judge] = {
    "credentials": outputs.ran(outputs.least),
    "cpu_frequency": outputs.ran(outputs.least),
    "module": outputs.ran(outputs.least),
    "controllers": outputs.ran(outputs.least),
    "password": outputs.ran(outputs.equal),
    "package": outputs.ran(outputs.equal, empty_is=Severity.ERROR),
    "clock_source": outputs.ran(outputs.equal),
    "device_count": outputs.ran(outputs.equal),
    "path_access": outputs.succeeds,
    "service": outputs.succeeds,
    "ssh": outputs.succeeds,
    "repositories": outputs.says_something,
    "dcgm_diagnostic": outputs.diagnostic,
    "nvlink_errors": outputs.ran(outputs.link_errors),
    "nvlink_links": outputs.ran(outputs.links),
    "ib_physical": outputs.ran(outputs.every_line("LinkUp")),
    "ib_state": outputs.ran(outputs.every_line("Active")),
    "ib_interfaces": outputs.ran(outputs.interfaces),
    "adapters": outputs.ran(outputs.adapters),
    "memory_size": outputs.ran(outputs.memory),
    "cpu_governor": outputs.ran(outputs.governor),
    "memory_blocks": outputs.ran(outputs.blocks),
    "uptime": outputs.ran(outputs.uptime),
    "process": outputs.ran(outputs.process, empty_is=Severity.ERROR),
    "sensors": outputs.ran(outputs.sensors, empty_is=Severity.INFO),
    "event_log": outputs.ran(outputs.event_log, empty_is=Severity.INFO),
    "node_state": outputs.ran(outputs.node_state),
    "cluster_state": outputs.ran(outputs.cluster_state),
    "disk_usage": outputs.ran(outputs.usage(0)),
    "inode_usage": outputs.ran(outputs.usage(1)),
    "mounted": outputs.ran(outputs.process, empty_is=Severity.ERROR),
    "mounts": outputs.ran(outputs.mounts, empty_is=Severity.INFO),
    "there": outputs.there(True),
    "not_there": outputs.there(False),
    "disk_size": outputs.ran(outputs.size),
    "link_flaps": outputs.flaps,
    "xids": outputs.ran(outputs.xids, empty_is=Severity.INFO),
    "io_errors": outputs.ran(outputs.nothing, empty_is=Severity.INFO),
    "machine_checks": outputs.ran(outputs.graded, empty_is=Severity.INFO),
    "bus_errors": outputs.ran(outputs.graded, empty_is=Severity.INFO),
    "zombies": outputs.ran(outputs.zombies, empty_is=Severity.INFO),
    "stuck_processes": outputs.ran(outputs.nothing, empty_is=Severity.INFO),
    "gpu_processes": outputs.ran(outputs.nothing, empty_is=Severity.INFO),
    "gpu_temperature": outputs.ran(outputs.any_over),
    "gpu_memory_used": outputs.ran(outputs.any_over),
    "retired_pages": outputs.ran(outputs.retired),
    "remapped_rows": outputs.ran(outputs.any_over),
    "ecc_errors": outputs.ran(outputs.any_over),
    "vbios": outputs.same,
    "bandwidth": outputs.ran(outputs.bandwidth),
}

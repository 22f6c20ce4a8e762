"""The words of the system: perceptions, faults, symptoms, verbs and verdicts, exactly as the commands print them."""

from enum import StrEnum


class Perception(StrEnum):
    """How something was seen."""

    LOG_ERROR = "log_error"
    NODE_FAULT = "node_fault"
    HANG = "hang"
    SLOW = "slow"
    POD_FAILED = "pod_failed"
    POD_DELETED = "pod_deleted"
    HEARTBEAT_LOST = "heartbeat_lost"
    PROCESS_ABNORMAL = "process_abnormal"
    LOSS_ANOMALY = "loss_anomaly"
    SLO_BREACH = "slo_breach"


class Symptom(StrEnum):
    """What an operator sees; never a fault."""

    HANG = "hang"
    SLOW = "slow"
    CRASH = "crash"
    LOSS = "loss"
    SLO = "slo"
    NONE = "none"


class Fault(StrEnum):
    """What broke."""

    GPU_HW = "gpu_hw"
    GPU_MEM = "gpu_mem"
    GPU_THERMAL_POWER = "gpu_thermal_power"
    NVLINK = "nvlink"
    PCIE = "pcie"
    NIC = "nic"
    FABRIC = "fabric"
    HOST = "host"
    HOST_RESOURCE = "host_resource"
    STORAGE = "storage"
    PLATFORM = "platform"
    SOFTWARE = "software"
    USER_CODE = "user_code"
    SDC = "sdc"
    SERVING = "serving"
    SCHEDULER = "scheduler"
    WORKLOAD = "workload"
    UNKNOWN = "unknown"
    NONE = "none"


class Judgement(StrEnum):
    """Whether somebody is to blame."""

    CULPRIT = "culprit"
    NOBODY = "nobody"
    HEALTHY = "healthy"
    UNDECIDED = "undecided"


class Action(StrEnum):
    """What a verdict recommends for the job."""

    RESTART = "restart"
    REPLACE = "replace"
    RESUBMIT = "resubmit"
    STOP = "stop"
    WATCH = "watch"
    NONE = "none"


class NodeAction(StrEnum):
    """What a finding recommends for the node."""

    NONE = "none"
    CORDON = "cordon"
    DRAIN = "drain"
    REPAIR = "repair"
    RESET_DEVICE = "reset_device"
    REBOOT = "reboot"
    INSPECT = "inspect"
    REPLACE_HARDWARE = "replace_hardware"


class Verb(StrEnum):
    """What an order tells a backend to do."""

    COLLECT = "collect"
    RESTART = "restart"
    REPLACE = "replace"
    RESUBMIT = "resubmit"
    STOP = "stop"
    CORDON = "cordon"
    UNCORDON = "uncordon"
    DRAIN = "drain"
    REPAIR = "repair"
    RESET_DEVICE = "reset_device"
    REBOOT = "reboot"


class Severity(StrEnum):
    """How bad a finding is."""

    FATAL = "fatal"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class HangCause(StrEnum):
    """Why a rank holds up its job."""

    DEVICE_STUCK = "device_stuck"
    HOST_STUCK = "host_stuck"
    STOPPED = "stopped"
    EXITED = "exited"
    MISMATCH = "mismatch"
    MISSING_SEND = "missing_send"
    MISSING_RECV = "missing_recv"
    NO_DUMP = "no_dump"

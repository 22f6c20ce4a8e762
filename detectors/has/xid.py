"""XIDs and SXIDs in every shape in which the driver prints them, and a device that falls off the bus without any."""

import re

import msgspec

from detectors.catalog.tables import nvlink_is_fatal, sxids, xids
from holdfast.faults import Action, Fault, NodeAction, Severity

# What a block has to hold for any of the shapes below to be in it.
WORDS = (
    "NVRM: Xid (",
    "SXid (PCI:",
    "fallen off the bus",
    "NVRM: The NVIDIA GPU",
    "NVSwitch non-fatal error",
    "NVSwitch fatal error",
)

_PCI = r"(?:PCI:)?((?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)"
_XID = re.compile(
    rf"NVRM: Xid \({_PCI}(?: GPU-(?:CI|I):(\w+))*(?: GPU-C?I:\w+)*\): (\d{{1,6}})\b(?:, ?)?(.*)", re.DOTALL
)
_OFF = re.compile(rf"NVRM: GPU (?:at )?{_PCI}:? (?:GPU )?has fallen off the bus")
_OFF_FIRST = re.compile(rf"NVRM: The NVIDIA GPU {_PCI}\s*$")
_SXID = re.compile(rf"SXid \({_PCI}\): (\d{{1,6}}), ?(.*)", re.DOTALL)
_MANAGER = re.compile(rf"NVSwitch (non-fatal|fatal) error (\d{{1,6}}) .*?NVSwitch pci bus id {_PCI}")
_CAUSED = re.compile(r"caused by previous Xid (\d{1,6})")
_RECOVERY = re.compile(r"to 0x[0-9a-fA-F]+ \(([^)]+)\)")
_LINK = re.compile(
    r"(?:^|, )([A-Z][A-Za-z0-9_]*(?:/[A-Za-z0-9_]+)?)\s+(Nonfatal|Fatal)\s+.*?\((0x[0-9a-fA-F]{1,8}) (0x[0-9a-fA-F]{1,8})"
)

# XID 154 names what it wants done.
_WANTED = {
    "none": (Severity.INFO, Action.NONE, NodeAction.NONE),
    "gpu reset required": (Severity.FATAL, Action.REPLACE, NodeAction.RESET_DEVICE),
    "node reboot required": (Severity.FATAL, Action.REPLACE, NodeAction.REBOOT),
    "drain p2p": (Severity.ERROR, Action.REPLACE, NodeAction.DRAIN),
    "drain and reset": (Severity.FATAL, Action.REPLACE, NodeAction.RESET_DEVICE),
}
_UNKNOWN = (Severity.WARNING, Action.WATCH, NodeAction.INSPECT)


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One error of a device. code: XID or SXID; device: PCI address as printed; caused_by: the XID it follows from."""

    check: str
    code: int
    device: str
    fault: Fault
    severity: Severity
    action: Action
    node_action: NodeAction
    name: str = ""
    instance: str = ""
    caused_by: int | None = None


def read(text: str) -> Said | None:
    """The error a line tells of, None if none."""
    if "Xid (" in text and (found := _XID.search(text)):
        return _xid(found)
    if "SXid (" in text and (found := _SXID.search(text)):
        return _sxid(found.group(1), int(found.group(2)), found.group(3))
    if "fallen off" in text and (found := _OFF.search(text)):
        return _off(found.group(1))
    if "NVSwitch" in text and (found := _MANAGER.search(text)):
        return _sxid(found.group(3), int(found.group(2)), found.group(1).capitalize())
    return None


def read_off_bus(lines: list[str]) -> Said | None:
    """A device that fell off the bus, told in several lines without an XID; `lines` begins with the one that names it."""
    first = _OFF_FIRST.search(lines[0].rstrip()) if lines else None
    if first is None:
        return None
    return _off(first.group(1)) if any("fallen off the bus" in line for line in lines[1:4]) else None


def key_of(device: str) -> str:
    """A device however it is printed: without its function, its domain four digits."""
    short = re.sub(r"\.[0-7]$", "", device).lower()
    parts = short.split(":")
    return ":".join([parts[0][-4:].zfill(4) if len(parts) == 3 else "0000", *parts[-2:]])


def _off(device: str) -> Said:
    row = xids()[79]
    bare = re.sub(r"\.[0-7]$", "", device)
    return Said(
        check="xid.79", code=79, device=bare if bare.count(":") == 2 else f"0000:{bare}", fault=row.fault,
        severity=row.severity, action=row.action, node_action=row.node_action, name=row.name,
    )  # fmt: skip


def _xid(found: re.Match[str]) -> Said:
    device, instance, code, rest = found.group(1), found.group(2) or "", int(found.group(3)), found.group(4)
    row = xids().get(code)
    fault = row.fault if row else Fault.GPU_HW
    severity, action, node_action = (row.severity, row.action, row.node_action) if row else _UNKNOWN
    if code == 154:
        wanted = _RECOVERY.search(rest)
        severity, action, node_action = _WANTED.get(wanted.group(1).lower() if wanted else "", _UNKNOWN)
    elif 144 <= code <= 150:
        severity, action, node_action = _nvlink(code, rest)
    caused = _CAUSED.search(rest)
    if caused is not None:  # it only follows: the code that it names asks for what is to be done
        severity, action, node_action = Severity.INFO, Action.NONE, NodeAction.NONE
    return Said(
        check=f"xid.{code}", code=code, device=device, fault=fault, severity=severity, action=action, node_action=node_action,
        name=row.name if row else "", instance=instance, caused_by=int(caused.group(1)) if caused else None,
    )  # fmt: skip


def _nvlink(code: int, rest: str) -> tuple[Severity, Action, NodeAction]:
    link = _LINK.search(rest)
    if link is None:
        fatal = " Fatal " in rest
    else:
        info, status = int(link.group(3), 16), int(link.group(4), 16)
        fatal = nvlink_is_fatal(code, unit=link.group(1), info=info, status=status, said_fatal=link.group(2) == "Fatal")
    if fatal:
        return Severity.FATAL, Action.REPLACE, NodeAction.RESET_DEVICE
    return Severity.WARNING, Action.WATCH, NodeAction.NONE


def _sxid(device: str, code: int, rest: str) -> Said:
    name, fault = sxids().get(code, ("", Fault.NVLINK))
    if rest.startswith("Fatal"):
        severity, action, node_action = Severity.FATAL, Action.REPLACE, NodeAction.REBOOT
    elif rest.startswith(("Non-fatal", "Data")):
        severity, action, node_action = Severity.WARNING, Action.WATCH, NodeAction.NONE
    else:
        severity, action, node_action = Severity.ERROR, Action.WATCH, NodeAction.INSPECT
    return Said(
        check=f"sxid.{code}",
        code=code,
        device=device,
        fault=fault,
        severity=severity,
        action=action,
        node_action=node_action,
        name=name,
    )

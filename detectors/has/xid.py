"""XIDs and SXIDs in every shape in which the driver prints them, and a device that falls off the bus without any."""

import re
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from detectors.catalog.tables import CodeRow, nvlink_is_fatal, sxids, xids
from holdfast.faults import Action, Fault, NodeAction, Severity

# What a block has to hold for any of the shapes below to be in it.
WORDS = (
    "NVRM: Xid (",
    "SXid (",
    "fallen off the bus",
    "NVRM: The NVIDIA GPU",
    "NVSwitch non-fatal error",
    "NVSwitch fatal error",
    "NVSwitch Fatal error",
    "NVSwitch Non-fatal error",
    ": XID ",
)

_PCI = r"(?:PCI:)?((?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)"
_XID = re.compile(
    rf"NVRM: Xid \({_PCI}(?: GPU-I:(\w{{1,8}}))?(?: GPU-CI:(\w{{1,8}}))?(?: GPU-\w{{1,8}}:[\w-]{{1,64}})*\): (\d{{1,6}})\b(?:, ?)?(.*)",
    re.DOTALL,
)
_OFF = re.compile(rf"NVRM: GPU (?:at )?{_PCI}:? (?:GPU )?has fallen off the bus")
_OFF_FIRST = re.compile(rf"NVRM: The NVIDIA GPU {_PCI}\s*$")
_OFF_WHOLE = re.compile(rf"NVRM: The NVIDIA GPU {_PCI}\s[^)]{{0,400}}\)?[^)]{{0,400}}fallen off the bus")
_SXID = re.compile(rf"SXid \({_PCI}\): (\d{{1,6}})\b,? ?(.*)", re.DOTALL)
_MANAGER = re.compile(
    rf"NVSwitch ([Nn]on-fatal|[Ff]atal) error (\d{{1,6}}) .{{0,400}}?NVSwitch pci bus id {_PCI}(.*)", re.DOTALL
)
_VIRTUAL = re.compile(r"vmiop_log: .{0,80}: XID (\d{1,6}) detected")
_CAUSED = re.compile(r"caused by previous Xid (\d{1,6})")
_RECOVERY = re.compile(r"to 0x[0-9a-fA-F]+ \(([^)]+)\)")
_PROCESS = re.compile(r"pid='?([^,']{1,40})'?, name=([^,]{1,80}?)(?:,|$)")
_PORT = re.compile(r"(?:Link|port) (-?\d{1,3})\b")
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
_RESETS = (NodeAction.RESET_DEVICE, NodeAction.REBOOT, NodeAction.REPLACE_HARDWARE)


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One error of a device.

    code: XID or SXID; device: PCI address as printed, "" where none is; instance: MIG instance, else compute instance
    caused_by: the XID it follows from; detail: process, link, unit, what a recovery wants
    is_switch: of an NVSwitch; goes_on: a line more about what was said; recovered: the device wants nothing any more
    sticky: only a reset, a reboot or a person ends it
    """

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
    detail: Mapping[str, str] = {}
    is_switch: bool = False
    goes_on: bool = False
    recovered: bool = False
    sticky: bool = False


@lru_cache(maxsize=4096)
def read(text: str) -> Said | None:
    """The error a line tells of, None if none."""
    if "Xid (" in text and (found := _XID.search(text)):
        return _xid(found)
    if "SXid (" in text and (found := _SXID.search(text)):
        return _sxid(found.group(1), int(found.group(2)), found.group(3))
    if "fallen off" in text and (found := _OFF.search(text) or _OFF_WHOLE.search(text)):
        return _off(found.group(1))
    if "NVSwitch" in text and (found := _MANAGER.search(text)):
        return _sxid(found.group(3), int(found.group(2)), f"{found.group(1).capitalize()}{found.group(4)}")
    if "vmiop_log" in text and (found := _VIRTUAL.search(text)):
        return _coded(int(found.group(1)), "")
    return None


def read_off_bus(lines: list[str]) -> Said | None:
    """A device that fell off the bus, told in several lines without an XID; `lines` begins with the one that names it."""
    first = _OFF_FIRST.search(lines[0].rstrip()) if lines else None
    if first is None:
        return None
    return _off(first.group(1)) if any("fallen off the bus" in line for line in lines[1:4]) else None


@lru_cache(maxsize=4096)
def key_of(device: str) -> str:
    """A device however it is printed: without its function, its domain four digits."""
    short = re.sub(r"\.[0-7]$", "", device).lower()
    parts = short.split(":")
    return ":".join([parts[0][-4:].zfill(4) if len(parts) == 3 else "0000", *parts[-2:]])


def _off(device: str) -> Said:
    bare = re.sub(r"\.[0-7]$", "", device)
    return _coded(79, bare if bare.count(":") == 2 else f"0000:{bare}")


def _coded(code: int, device: str) -> Said:
    """An error as the catalogue has it."""
    row = xids().get(code)
    severity, action, node_action = (row.severity, row.action, row.node_action) if row else _UNKNOWN
    return Said(
        check=f"xid.{code}", code=code, device=device, fault=row.fault if row else Fault.GPU_HW, severity=severity, action=action,
        node_action=node_action, name=row.name if row else "", sticky=row.sticky if row else False,
    )  # fmt: skip


def _xid(found: re.Match[str]) -> Said:
    device, instance, compute, code, rest = (
        found.group(1),
        found.group(2) or "",
        found.group(3) or "",
        int(found.group(4)),
        found.group(5),
    )
    said = _coded(code, device)
    severity, action, node_action, detail = said.severity, said.action, said.node_action, _detail(rest)
    if compute and instance:
        detail["compute_instance"] = compute
    recovered = False
    if code == 154:
        wanted = _RECOVERY.search(rest)
        word = wanted.group(1).strip() if wanted else ""
        severity, action, node_action = _WANTED.get(word.lower(), _UNKNOWN)
        detail |= {"wanted": word} if word else {}
        recovered = word.lower() == "none"
    elif 144 <= code <= 150:
        severity, action, node_action = _nvlink(code, rest, detail)
    caused = _CAUSED.search(rest)
    if caused is not None:  # it only follows: the code that it names asks for what is to be done
        severity, action, node_action = Severity.INFO, Action.NONE, NodeAction.NONE
    return msgspec.structs.replace(
        said, severity=severity, action=action, node_action=node_action, instance=instance or compute,
        caused_by=int(caused.group(1)) if caused else None, detail=detail, recovered=recovered,
        sticky=node_action in _RESETS and severity in (Severity.FATAL, Severity.ERROR),
    )  # fmt: skip


def _detail(rest: str) -> dict[str, str]:
    found = _PROCESS.search(rest)
    if found is None or "unknown" in found.group(1):
        return {}
    return {"pid": found.group(1), "process": found.group(2)}


def _nvlink(code: int, rest: str, detail: dict[str, str]) -> tuple[Severity, Action, NodeAction]:
    link = _LINK.search(rest)
    if (port := _PORT.search(rest)) is not None:
        detail["link"] = port.group(1)
    if link is None:
        fatal = " Fatal " in rest
    else:
        info, status = int(link.group(3), 16), int(link.group(4), 16)
        detail |= {"unit": link.group(1)}
        fatal = nvlink_is_fatal(code, unit=link.group(1), info=info, status=status, said_fatal=link.group(2) == "Fatal")
    if fatal:
        return Severity.FATAL, Action.REPLACE, NodeAction.RESET_DEVICE
    return Severity.WARNING, Action.WATCH, NodeAction.NONE


def _sxid(device: str, code: int, rest: str) -> Said:
    row = sxids().get(code)
    severity, action, node_action = _switch_wants(row, rest)
    port = _PORT.search(rest)
    return Said(
        check=f"sxid.{code}", code=code, device=device, fault=row.fault if row else Fault.NVLINK, severity=severity, action=action,
        node_action=node_action, name=row.name if row else "", detail={"link": port.group(1)} if port else {}, is_switch=True,
        goes_on=rest.startswith(("Data", "Severity ")), sticky=severity is Severity.FATAL,
    )  # fmt: skip


def _switch_wants(row: CodeRow | None, rest: str) -> tuple[Severity, Action, NodeAction]:
    """What an SXID asks for: the line's own word, and the guide's where it knows the line's to be too mild."""
    if rest.startswith("Fatal"):
        return Severity.FATAL, Action.REPLACE, NodeAction.REBOOT
    if rest.startswith(("Non-fatal", "Data")) and (row is None or row.public_action not in ("stalls", "always_fatal")):
        node_action = row.node_action if row is not None and row.severity is Severity.WARNING else NodeAction.NONE
        return Severity.WARNING, Action.WATCH, node_action
    if row is not None:
        return row.severity, row.action, row.node_action
    return Severity.ERROR, Action.WATCH, NodeAction.INSPECT

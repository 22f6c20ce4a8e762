"""`smartctl -j`, `nvme smart-log` and `df`: what disks say of their own health, and how full file systems are."""

import re
from typing import Any

import msgspec

from collectors.node.notes import Notes, Place
from collectors.node.tree import number_of
from holdfast.topology import Kind

# ATA attributes whose raw value counts sectors or commands that were lost (smartmontools' drive database).
_ATA = {5: "disk.reallocated_total", 187: "disk.uncorrected_total", 197: "disk.pending_sectors", 198: "disk.uncorrected_total"}
_NVME_BITS = {0: "spare is low", 1: "temperature", 2: "reliability is degraded", 3: "read only", 4: "volatile backup failed"}
_WEAR = (
    ("media_errors", "disk.media_errors_total", 1.0),
    ("percentage_used", "disk.worn_ratio", 0.01),
    ("percent_used", "disk.worn_ratio", 0.01),
)
_FAILING = 1 << 3  # bit 3 of smartctl's exit status: the disk says that it fails
_SIZE = r"[\d.]+[KMGTPE]?i?"
_ROOM = re.compile(
    rf"^(\S{{1,256}})\s+(?:[a-z0-9_.]{{2,16}}\s+)?({_SIZE})\s+({_SIZE}|-)\s+(-?{_SIZE}|-)\s+(\d{{1,3}}|-)%?\s+(/.{{0,400}})$"
)
_PSEUDO = ("tmpfs", "devtmpfs", "udev", "overlay", "squashfs", "/dev/loop", "efivarfs", "none", "shm")


def tells_smart(head: str) -> bool:
    return '"smartctl"' in head and '"json_format_version"' in head


def read_smart(file: str, text: str, notes: Notes) -> None:
    """One report, or several after each other or in a list.

    raises ValueError: not JSON
    """
    for report in _reports(text):
        if isinstance(report, dict):
            _smart(file, text, report, notes)


def _reports(text: str) -> list[Any]:
    try:
        whole = msgspec.json.decode(text)
        return whole if isinstance(whole, list) else [whole]
    except msgspec.DecodeError as error:
        pieces = re.split(r"(?<=^\})\s*\n(?=\{)", text, flags=re.MULTILINE)
        if len(pieces) < 2:
            raise ValueError(f"not JSON: {error}") from error
        try:
            return [msgspec.json.decode(piece) for piece in pieces[:512]]
        except msgspec.DecodeError as error_:
            raise ValueError(f"not JSON: {error_}") from error_


def _smart(file: str, text: str, report: dict[str, Any], notes: Notes) -> None:
    disk = str(_of(report, "device", "name") or _of(report, "serial_number") or file)[:128]

    def note(signal: str, value: Any, key: str, told: str) -> None:
        if isinstance(value, bool | int | float):
            notes.add(Kind.PART, disk, signal, float(value), Place(file, _line(text, f'"{key}"'), told, disk))

    model = str(_of(report, "model_name") or "")[:80]
    passed, status = _of(report, "smart_status", "passed"), _of(report, "smartctl", "exit_status")
    if isinstance(passed, bool):
        note("disk.smart_failed", not passed, "smart_status", f"{model}: SMART status {'passed' if passed else 'FAILED'}")
    elif isinstance(status, int):
        note("disk.smart_failed", bool(status & _FAILING), "exit_status", f"{model}: smartctl ended with {status}")
    log = _of(report, "nvme_smart_health_information_log")
    if isinstance(log, dict):
        _nvme(log, note)
    for row in _of(report, "ata_smart_attributes", "table") or ():
        if isinstance(row, dict) and (signal := _ATA.get(row.get("id", 0))):
            raw = _of(row, "raw", "value")
            note(signal, raw if not isinstance(raw, int) else raw & 0xFFFFFFFF, str(row.get("name")), f"{row.get('name')}: {raw}")
        if isinstance(row, dict) and row.get("when_failed") == "now":
            note("disk.attribute_failing", True, str(row.get("name")), f"{row.get('name')} is below its threshold")
    note("disk.reallocated_total", _of(report, "scsi_grown_defect_list"), "scsi_grown_defect_list", "grown defects")
    note("disk.temp_c", _of(report, "temperature", "current"), "temperature", f"{_of(report, 'temperature', 'current')} C")


def _nvme(log: dict[str, Any], note: Any) -> None:
    warning = log.get("critical_warning")
    if isinstance(warning, int):
        said = ", ".join(word for bit, word in _NVME_BITS.items() if warning & 1 << bit)
        note("disk.critical_warning", warning, "critical_warning", f"critical_warning {warning}: {said or 'none'}")
        note("disk.reports_read_only", bool(warning & 1 << 3), "critical_warning", f"critical_warning {warning}")
    for key, signal, factor in _WEAR:
        value = log.get(key)
        if isinstance(value, int | float):
            note(signal, value * factor, key, f"{key}: {value}")
    spare = log.get("available_spare", log.get("avail_spare"))
    least = log.get("available_spare_threshold", log.get("spare_thresh"))
    if isinstance(spare, int | float) and isinstance(least, int | float):
        note("disk.spare_ratio", spare / 100.0, "available_spare", f"available spare {spare} %, threshold {least} %")
        note("disk.spare_least_ratio", least / 100.0, "available_spare", f"available spare {spare} %, threshold {least} %")


def tells_nvme(head: str) -> bool:
    in_words = "Smart Log for NVME device" in head and "critical_warning" in head
    return in_words or ('"critical_warning"' in head and '"avail_spare"' in head)


def read_nvme(file: str, text: str, notes: Notes) -> None:
    """`nvme smart-log`, in words or JSON.

    raises ValueError: not JSON where it begins so
    """
    log: dict[str, Any] = {}
    disk = file
    if text.lstrip().startswith("{"):
        try:
            log = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise ValueError(f"not JSON: {error}") from error
    for line in text.splitlines() if not log else ():
        if (head := re.match(r"Smart Log for NVME device:(\S{1,64})", line)) is not None:
            disk = head.group(1)
        name, colon, value = line.partition(":")
        number = number_of(value.strip().rstrip("%").split(" ")[0].replace(",", ""))
        if colon and number is not None:
            log[name.strip().casefold()] = int(number)

    def note(signal: str, value: Any, key: str, told: str) -> None:
        if isinstance(value, bool | int | float):
            notes.add(Kind.PART, disk, signal, float(value), Place(file, _line(text, key), told, disk))

    _nvme(log, note)


def tells_room(head: str) -> bool:
    first = head.lstrip().partition("\n")[0]
    return first.startswith("Filesystem") and ("Use%" in first or "Capacity" in first or "IUse%" in first)


def read_room(file: str, text: str, notes: Notes) -> None:
    """`df` and `df -i`, in blocks or for people."""
    rows = text.lstrip().splitlines()
    signal = "fs.inodes_used_ratio" if "IUse%" in rows[0] else "fs.used_ratio"
    for number, line in enumerate(rows, 1):
        found = _ROOM.match(line[:1000])
        if found and not found.group(1).startswith(_PSEUDO) and found.group(5) != "-":
            where = found.group(6).strip()
            notes.add(Kind.PART, where, signal, float(found.group(5)) / 100.0, Place(file, number, line.strip(), where))


def _of(report: Any, *keys: str) -> Any:
    for key in keys:
        report = report.get(key) if isinstance(report, dict) else None
    return report


def _line(text: str, word: str) -> int:
    """The line in which a word stands first, 0 if in none."""
    at = text.find(word)
    return text.count("\n", 0, at) + 1 if at >= 0 else 0

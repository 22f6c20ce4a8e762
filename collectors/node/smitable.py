"""The table that `nvidia-smi` prints without options: two rows for each GPU."""

import re

from collectors.node.notes import Notes, Place, numbered
from collectors.node.tree import number_of
from holdfast.topology import Kind

_HEAD = re.compile(r"NVIDIA-SMI [\d.]{3,20}\s+(?:KMD Version|Driver Version): ([\d.]{3,20})")
_FIRST = re.compile(
    r"^\|\s{1,4}(\d{1,3})\s+(\S.{0,80}?)\s*\|\s*(?:[0-9A-Fa-f]{4})?([0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2})\.[0-7]\s[^|]{0,40}\|\s*(\S{1,20})"
)
_SECOND = (
    (re.compile(r"\s(\d{1,3})C\s"), "gpu.temp_c", 1.0),
    (re.compile(r"\s(\d{1,4})W\s*/"), "gpu.power_w", 1.0),
    (re.compile(r"/\s*(\d{1,4})W\s"), "gpu.power_limit_w", 1.0),
    (re.compile(r"\s(\d{1,7})MiB\s*/"), "gpu.mem_used_bytes", 1048576.0),
    (re.compile(r"/\s*(\d{1,7})MiB\s"), "gpu.mem_total_bytes", 1048576.0),
    (re.compile(r"\s(\d{1,3})%\s{2,}"), "gpu.util_ratio", 0.01),
)
_LOST = re.compile(r"ERR!|GPU is lost|Unknown Error|requires reset", re.IGNORECASE)


def tells(head: str) -> bool:
    return bool(_HEAD.search(head[:8000])) and "| Fan" in head


def read(file: str, text: str, notes: Notes) -> None:
    """Note what the rows say; a field that cannot be read ("ERR!") is a device that does not answer."""
    id = printed = ""
    devices = dict[str, None]()
    for number, line in numbered(text, 300):
        head, first = _HEAD.search(line), _FIRST.match(line)
        if head is not None:
            notes.facts["driver"] = head.group(1)
        elif first is not None:
            id, printed = first.group(3).lower(), first.group(3)
            devices[id] = None
            name = re.sub(r"\s+(?:On|Off|N/A)$", "", first.group(2))
            notes.facts.setdefault("gpu.model", name)
            place = Place(file, number, line.strip("| "), printed)
            notes.add(Kind.DEVICE, id, "gpu.ecc_uncorrected_total", number_of(first.group(4)), place)
            if _LOST.search(line):
                notes.add(Kind.DEVICE, id, "gpu.lost", 1.0, place)
        elif id and line.startswith("|") and ("MiB" in line or _LOST.search(line)):
            place = Place(file, number, line.strip("| "), printed)
            for form, signal, factor in _SECOND:
                found = form.search(line)
                notes.add(Kind.DEVICE, id, signal, float(found.group(1)) * factor if found else None, place)
            if _LOST.search(line):
                notes.add(Kind.DEVICE, id, "gpu.lost", 1.0, place)
            id = ""
    if devices:
        notes.tell("node.devices_answering", float(len(devices)), file, f"{len(devices)} GPUs: {' '.join(devices)}"[:300])

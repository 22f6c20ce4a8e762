"""`lspci -vvv`: links of devices against what they and the slot above can do, error bits, devices that answer no more."""

import re
from typing import NamedTuple

from collectors.node.notes import Notes, Place
from collectors.node.pci import speed_of
from holdfast.topology import Kind

_HEAD = re.compile(r"^((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) ([^:\n]{2,80}): (.{1,300})$")
_LINK = re.compile(r"Speed ([\d.]{1,6}\s?GT/s|unknown)[^,]{0,20}, Width x(\d{1,2})")
_BUS = re.compile(r"Bus: primary=[0-9a-f]{2}, secondary=([0-9a-f]{2}), subordinate=([0-9a-f]{2})")
_FATAL_BITS = re.compile(r"\b(DLP|SDES|TLP|FCP|CmpltTO|CmpltAbrt|RxOF|MalfTLP|ECRC|SurpriseDown|PoisonedTLP)\+")
_ACCELERATORS = ("3D controller", "VGA compatible controller", "Processing accelerators", "Display controller")
_MAKERS = ("NVIDIA", "Advanced Micro Devices", "AMD/ATI", "Huawei", "Kunlun", "Habana", "Baidu", "Cambricon")
_CARRIERS = ("Infiniband controller", "InfiniBand controller", "Ethernet controller", "Non-Volatile memory controller")
_INSIDE = ("\tControl: ", "\tLnkSta:", "\t\tLnkSta:", "\tFlags: ", "\tKernel driver", "\t!!!")
_DEAD = ("(rev ff)", "!!! Unknown header type")


class _Function(NamedTuple):
    """One function as it stands in the listing: its lines with their numbers, the first its head."""

    address: str
    kind: str
    what: str
    lines: list[tuple[int, str]]


_Slots = dict[tuple[str, str], tuple[float | None, float | None]]


def tells(head: str) -> bool:
    """Some other text may stand before the list."""
    lines = head.splitlines()[:400]
    return any(_HEAD.match(line) for line in lines) and any(line.startswith(_INSIDE) for line in lines)


def read(file: str, text: str, notes: Notes) -> None:
    """Note every accelerator, network card and disk controller of the listing."""
    functions = _functions(text)
    slots = _slots(functions)
    accelerators = switches = 0
    for one in functions:
        switches += one.kind == "Bridge" and "NVIDIA" in one.what
        if one.kind in _ACCELERATORS and any(maker in one.what for maker in _MAKERS):
            accelerators += 1
            _note(file, one, Kind.DEVICE, _normal(one.address), slots, notes)
        elif one.kind in _CARRIERS:
            _note(file, one, Kind.PART, one.address, slots, notes)
    if accelerators:
        notes.tell("node.accelerators_on_bus", float(accelerators), file, f"{accelerators} accelerators on the bus")
    if switches:
        notes.tell("node.nvswitches", float(switches), file, f"{switches} NVSwitches on the bus")


def _functions(text: str) -> list[_Function]:
    found: list[_Function] = []
    for number, line in enumerate(text.splitlines(), 1):
        head = _HEAD.match(line[:500])
        if head is not None:
            found.append(_Function(head.group(1), re.sub(r" \[[0-9a-f]{4}\]$", "", head.group(2)), head.group(3), [(number, line[:500])]))
        elif found and line.startswith(("\t", " ")) and len(found[-1].lines) < 1000:
            found[-1].lines.append((number, line[:500]))
    return found


def _slots(functions: list[_Function]) -> _Slots:
    """(domain, bus) -> (GT/s, lanes) of the bridge above it at its best."""
    slots = {}
    for one in functions:
        bus = next((found for _, line in one.lines if (found := _BUS.search(line))), None)
        best = _link(one, "LnkCap:")
        if bus is not None and best is not None:
            slots[_domain(one.address), bus.group(1)] = best[:2]
    return slots


def _note(file: str, one: _Function, kind: Kind, id: str, slots: _Slots, notes: Notes) -> None:
    number, head = one.lines[0]
    dead = any(word in line for _, line in one.lines[:3] for word in _DEAD)
    notes.add(kind, id, "pcie.lost", float(dead), Place(file, number, head, one.address))
    now, best = _link(one, "LnkSta:"), _link(one, "LnkCap:")
    if now is not None and best is not None and not dead:
        place = Place(file, now[2], f"{one.what[:80]}: {now[3]}", one.address)
        bus = one.address.rpartition(":")[0].rpartition(":")[2] or one.address[:2]
        slot = slots.get((_domain(one.address), bus), (None, None))
        for signal, current, most, above in (("speed_gts", now[0], best[0], slot[0]), ("lanes", now[1], best[1], slot[1])):
            stem, _, unit = signal.partition("_")
            limit = "pcie.lanes_max" if signal == "lanes" else f"pcie.{stem}_max_{unit}"
            notes.add(kind, id, f"pcie.{signal}", current, place)
            notes.add(kind, id, limit, min((v for v in (most, above) if v), default=None), place)
    for number, line in one.lines:
        if "UESta:" in line:
            bits = _FATAL_BITS.findall(line)
            notes.add(kind, id, "pcie.uncorrected_bits", float(len(bits)), Place(file, number, line.strip(), one.address))


def _link(one: _Function, word: str) -> tuple[float | None, float | None, int, str] | None:
    """(GT/s, lanes, line, text) of a link's capability or state."""
    for number, line in one.lines:
        if word in line and (found := _LINK.search(line)) is not None:
            return speed_of(found.group(1)), float(found.group(2)), number, line.strip()
    return None


def _domain(address: str) -> str:
    return address.rpartition(":")[0].rpartition(":")[0] or "0000"


def _normal(address: str) -> str:
    """A device's address without its function, its domain four digits."""
    bus = address.rpartition(".")[0]
    return bus if bus.count(":") == 2 else f"0000:{bus}"

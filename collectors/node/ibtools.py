"""`ibstat`, `ibstatus` and `chronyc tracking`: ports and clock as these tools print them."""

import re

from collectors.node.infiniband import note_alike, rate_of
from collectors.node.notes import Notes, Place, numbered
from collectors.node.tree import number_of
from holdfast.topology import Kind

_CA = re.compile(r"^CA '([^']{1,64})'")
_PORT = re.compile(r"^\s+Port (\d{1,3}):\s*$")
_FIELD = re.compile(r"^\s*([A-Za-z][A-Za-z0-9 _]{1,40}?)\s*:\s*(.{0,200})$")
_STATUS = re.compile(r"^Infiniband device '([^']{1,64})' port (\d{1,3}) status:", re.IGNORECASE)
_STATES = {"down": 1.0, "initializing": 2.0, "init": 2.0, "armed": 3.0, "active": 4.0}
_PHYSICAL = {
    "sleep": 1.0, "polling": 2.0, "disabled": 3.0, "portconfigurationtraining": 4.0, "linkup": 5.0, "linkerrorrecovery": 6.0,
    "phy test": 7.0, "phytest": 7.0,
}  # fmt: skip
_OFFSET = re.compile(r"^System time\s*:\s*([\d.]{1,20}) seconds (fast|slow)")


def tells_stat(head: str) -> bool:
    return bool(re.search(r"^CA '[^'\n]{1,64}'\s*$", head, re.MULTILINE)) or bool(
        re.search(r"^\s*(?:Physical state: \w+|State: (?:Active|Down|Initializing|Armed))\s*$", head, re.MULTILINE)
    )


def tells_status(head: str) -> bool:
    return bool(re.search(_STATUS.pattern, head, re.MULTILINE | re.IGNORECASE))


def read_stat(file: str, text: str, notes: Notes) -> None:
    """ibstat, whole or the lines of it that somebody kept; a port without a name is told by its number in the file."""
    card, port, kind, layer = "", "1", "", ""
    boards: dict[tuple[str, str], list[tuple[str, float, float]]] = {}
    seen: dict[str, dict[str, float]] = {}
    nameless = 0
    for number, line in numbered(text, 300):
        if (head := _CA.match(line)) is not None:
            card, port, kind, layer = head.group(1), "1", "", ""
            continue
        if (head := _PORT.match(line)) is not None:
            port = head.group(1)
            continue
        field = _FIELD.match(line)
        if field is None:
            continue
        name, value = field.group(1).strip().casefold(), field.group(2).strip()
        if name == "ca type":
            kind = value
        if not card and name in ("state", "physical state") and name in seen.get(f"#{nameless}:1", {}):
            nameless += 1
        id = f"{card or f'#{nameless}'}:{port}"
        row = seen.setdefault(id, {})
        row["kind"] = 0.0
        place = Place(file, number, line.strip(), card or f"port {nameless}")
        if name == "state":
            row[name] = _STATES.get(value.casefold(), 0.0)
            notes.add(Kind.NIC, id, "nic.state_id", row[name], place)
        elif name == "physical state":
            row[name] = _PHYSICAL.get(value.casefold(), 0.0)
            notes.add(Kind.NIC, id, "nic.phys_state_id", row[name], place)
        elif name == "rate" and number_of(value) is not None:
            row[name] = (number_of(value) or 0.0) * 1e9
            notes.add(Kind.NIC, id, "nic.rate_bps", row[name], place)
        elif name == "link layer":
            layer = value
            notes.add(Kind.NIC, id, "nic.is_infiniband", float(layer == "InfiniBand"), place)
            boards.setdefault((kind, layer), []).append((id, row.get("state", -1.0), row.get("rate", 0.0)))
    note_alike(boards, notes)


def read_status(file: str, text: str, notes: Notes) -> None:
    """ibstatus: the kernel's own words, one block for each port."""
    id, name = "", ""
    rows: dict[str, tuple[float, float]] = {}
    layers: dict[str, str] = {}
    for number, line in numbered(text, 300):
        if (head := _STATUS.match(line)) is not None:
            name, id = head.group(1), f"{head.group(1)}:{head.group(2)}"
            rows[id] = (-1.0, 0.0)
            continue
        field = _FIELD.match(line)
        if field is None or not id:
            continue
        key, value = field.group(1).strip().casefold(), field.group(2).strip()
        place = Place(file, number, line.strip(), name)
        if key in ("state", "phys state"):
            state = number_of(value.partition(":")[0])
            notes.add(Kind.NIC, id, "nic.state_id" if key == "state" else "nic.phys_state_id", state, place)
            if key == "state" and state is not None:
                rows[id] = (state, rows[id][1])
        elif key == "rate":
            rate, lanes = rate_of(value)
            notes.add(Kind.NIC, id, "nic.rate_bps", rate, place)
            notes.add(Kind.NIC, id, "nic.lanes", lanes, place)
            rows[id] = (rows[id][0], rate or 0.0)
        elif key == "link_layer":
            layers[id] = value
            notes.add(Kind.NIC, id, "nic.is_infiniband", float(value == "InfiniBand"), place)
    boards: dict[tuple[str, str], list[tuple[str, float, float]]] = {}
    for id, (state, rate) in rows.items():
        boards.setdefault(("", layers.get(id, "")), []).append((id, state, rate or 0.0))
    # without the board's name, cards of several kinds may stand beside each other: only the number of the like is said
    note_alike({key: [(id, state, 0.0) for id, state, _ in alike] for key, alike in boards.items()}, notes)


def tells_clock(head: str) -> bool:
    return "Reference ID    :" in head and "Leap status     :" in head


def read_clock(file: str, text: str, notes: Notes) -> None:
    """Whether chrony follows anybody, and how far off the clock is."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("Leap status"):
            lost = "Not synchronised" in line
            notes.tell("node.clock_unsynchronised", float(lost), file, line.strip(), line=number)
        elif (offset := _OFFSET.match(line)) is not None:
            notes.tell("node.clock_offset_s", number_of(offset.group(1)), file, line.strip(), line=number)

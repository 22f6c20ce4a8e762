"""What a machine of a type should have: read from data, learned from a healthy one, noted beside what it has."""

import tomllib
from importlib import resources
from pathlib import Path

import msgspec

from collectors.node.infiniband import ACTIVE
from collectors.node.notes import Notes, Place
from holdfast.topology import Kind, Target


class ExpectationError(ValueError):
    """Not a file of machine types; the message names the file and the place."""


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Numbers of one machine; None is no expectation."""

    devices: int | None = None
    device_lanes: int | None = None
    nvlinks: int | None = None
    nics: int | None = None
    disks: int | None = None
    cpus: int | None = None
    hugepages: int | None = None
    memory_bytes: float | None = None


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A type of machine. product, device: what it is told by, "" any; ports: name -> bits per second; tests: signal -> least."""

    type: str
    product: str = ""
    device: str = ""
    expected: Expected = msgspec.field(default_factory=Expected)
    ports: dict[str, float] = {}
    tests: dict[str, float] = {}

    def fits(self, facts: dict[str, str]) -> bool:
        product, device = facts.get("product", ""), facts.get("gpu.model", "")
        return (not self.product or self.product == product) and (not self.device or self.device in device)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    machine: tuple[Machine, ...] = ()


def read(own: str = "") -> tuple[Machine, ...]:
    """Machine types of the user's own file, those of the package behind them.

    raises ExpectationError: unreadable, not TOML, an unknown key
    """
    shipped = (resources.files("collectors.node") / "machines.toml").read_text(encoding="utf-8")
    texts = [("machines.toml", shipped)]
    try:
        if own:
            texts.insert(0, (own, Path(own).read_text(encoding="utf-8")))
        return tuple(machine for _, text in texts for machine in msgspec.convert(tomllib.loads(text), _File).machine)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ExpectationError(f"{texts[0][0]}: {error}") from error


def note(notes: Notes, machines: tuple[Machine, ...]) -> None:
    """Note what this machine should have, each number from the first type that fits and names it."""
    fitting = [machine for machine in machines if machine.fits(notes.facts) and (machine.product or machine.device)]
    fitting.sort(key=lambda machine: not machine.product)
    _count(notes)
    for signal, key in _OF_NODE.items():
        machine = next((m for m in fitting if getattr(m.expected, key) is not None), None)
        if machine is not None:
            wanted = float(getattr(machine.expected, key))
            have = notes.places.get((Target(Kind.NODE, notes.node, node=notes.node), _HAVE.get(signal, "")))
            have = have or Place(machine.type, 0, f"{key} {wanted:.0f}", "")
            notes.tell(signal, wanted, have.file, have.text, line=have.line)
    for target, row in list(notes.values.items()):
        for has, signal, key in _OF_DEVICE:
            machine = next((m for m in fitting if getattr(m.expected, key) is not None), None)
            if target.kind is Kind.DEVICE and has in row and machine is not None:
                notes.add(Kind.DEVICE, target.id, signal, float(getattr(machine.expected, key)), notes.places[target, has])
        if target.kind is Kind.NIC and "nic.rate_bps" in row:
            rate = next((m.ports[target.id] for m in fitting if target.id in m.ports), None)
            notes.add(Kind.NIC, target.id, "nic.rate_expected_bps", rate, notes.places[target, "nic.rate_bps"])


    tests = {signal: least for m in reversed(fitting) for signal, least in m.tests.items()}
    for target, row in list(notes.values.items()):
        for signal in [signal for signal in row if signal in tests]:
            place = notes.places[target, signal]
            told = place._replace(text=f"{signal} is {row[signal]:g}, at least {tests[signal]:g} is expected: {place.text}")
            notes.add(target.kind, target.id, "test.below_least", float(row[signal] < tests[signal]), told)


_OF_NODE = {
    "node.devices_expected": "devices", "node.nics_expected": "nics", "node.disks_expected": "disks", "node.cpus_expected": "cpus",
    "node.hugepages_expected": "hugepages", "node.mem_expected_bytes": "memory_bytes",
}  # fmt: skip
_HAVE = {"node.devices_expected": "node.devices", "node.mem_expected_bytes": "node.mem_total_bytes", "node.nics_expected": "node.nics_up"}
_OF_DEVICE = (("pcie.lanes", "pcie.lanes_expected", "device_lanes"), ("gpu.nvlinks_up", "gpu.nvlinks_expected", "nvlinks"))


def _count(notes: Notes) -> None:
    """Ports that are active and disks that are there, as numbers of the node."""
    ports = {target.id: row["nic.state_id"] for target, row in notes.values.items() if target.kind is Kind.NIC and "nic.state_id" in row}
    up = sum(state == ACTIVE for state in ports.values())
    place = next((place for (target, signal), place in notes.places.items() if signal == "nic.state_id"), Place("", 0, "", ""))
    if ports:
        notes.tell("node.nics_up", float(up), place.file, f"{up} of {len(ports)} ports are active")
    disks = [target.id for target, row in notes.values.items() if target.kind is Kind.PART and "disk.resetting" in row]
    if disks:
        notes.tell("node.disks", float(len(disks)), "sys/class/nvme", f"{len(disks)} NVMe disks: {' '.join(disks)}"[:200])


def learned(notes: Notes, *, type: str = "") -> Machine:
    """What a machine has now, as what one of its type should have.

    raises ExpectationError: nothing is known by which another of its type could be told
    """
    product, device = notes.facts.get("product", ""), notes.facts.get("gpu.model", "")
    if not product and not device:
        raise ExpectationError("neither the board's product name nor a device's name is known: nothing tells machines of this type")
    _count(notes)

    def have(*signals: str) -> int | None:
        value = next((v for signal in signals if (v := notes.get(signal)) is not None), None)
        return int(value) if value else None

    def most(signal: str) -> int | None:
        values = [row[signal] for target, row in notes.values.items() if target.kind is Kind.DEVICE and signal in row]
        return int(max(values)) if values and max(values) > 0 else None

    expected = Expected(
        devices=have("node.devices", "node.devices_answering", "node.accelerators_on_bus"), device_lanes=most("pcie.lanes"),
        nvlinks=most("gpu.nvlinks_up"), nics=have("node.nics_up"), disks=have("node.disks"), cpus=have("node.cpus_online"),
        hugepages=have("node.hugepages"), memory_bytes=notes.get("node.mem_total_bytes"),
    )  # fmt: skip
    ports = {
        target.id: row["nic.rate_bps"]
        for target, row in notes.values.items()
        if target.kind is Kind.NIC and row.get("nic.state_id") == ACTIVE and "nic.rate_bps" in row
    }
    return Machine(type=type or product or device, product=product, device=device, expected=expected, ports=ports)


def as_toml(machine: Machine) -> bytes:
    """A machine type as a file of them."""
    return msgspec.toml.encode({"machine": [msgspec.to_builtins(machine)]})

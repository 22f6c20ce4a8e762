"""PCIe devices from /sys/bus/pci: link width and speed against what device and slot can do, and their error counters."""

from collectors.node.notes import Notes, Place
from collectors.node.tree import Tree, number_of
from holdfast.topology import Kind

# PCI class codes (the upper four digits): display and processing accelerators; controllers whose link carries a job's data.
_ACCELERATORS = ("0x0300", "0x0302", "0x0380", "0x1200")
_CARRIERS = ("0x0207", "0x0200", "0x0108", "0x0106", "0x0107")
_MAKERS = frozenset({"0x10de", "0x1002", "0x19e5", "0x1d22", "0x1da3", "0x9999", "0x1cae"})
_BRIDGE = "0x0604"
_NVSWITCH = ("0x10de", "0x0680")
_NO_LANES = 63.0  # what a configuration space of ones says: the device does not answer any more
_AER = {
    "aer_dev_correctable": ("TOTAL_ERR_COR", "pcie.correctable_total"),
    "aer_dev_nonfatal": ("TOTAL_ERR_NONFATAL", "pcie.nonfatal_total"),
    "aer_dev_fatal": ("TOTAL_ERR_FATAL", "pcie.fatal_total"),
}


def read(tree: Tree, notes: Notes) -> None:
    """Note every accelerator, network card and disk controller, and how many accelerators and switches there are."""
    root = f"{tree.sys}/bus/pci/devices"
    addresses = tree.names(root)
    if not addresses:
        return
    accelerators = switches = 0
    for address in addresses:
        base = f"{root}/{address}"
        kind = tree.text(f"{base}/class") or ""
        maker = tree.text(f"{base}/vendor") or ""
        if kind.startswith(_ACCELERATORS) and maker in _MAKERS and not tree.is_dir(f"{base}/physfn"):
            accelerators += 1
            _device(tree, notes, base, Kind.DEVICE, address.rpartition(".")[0], address)
        elif kind.startswith(_CARRIERS):
            _device(tree, notes, base, Kind.PART, address, address)
        switches += maker == _NVSWITCH[0] and kind.startswith(_NVSWITCH[1])
    shown = tree.shown(root)
    notes.tell("node.accelerators_on_bus", float(accelerators), shown, f"{accelerators} accelerators on the bus")
    notes.tell("node.nvswitches", float(switches), shown, f"{switches} NVSwitches on the bus")


def _device(tree: Tree, notes: Notes, base: str, kind: Kind, id: str, name: str) -> None:
    def note(signal: str, value: float | None, file: str, text: str) -> None:
        notes.add(kind, id, signal, value, Place(tree.shown(f"{base}/{file}"), 1, text, name))

    width, speed = tree.text(f"{base}/current_link_width") or "", tree.text(f"{base}/current_link_speed") or ""
    lanes, rate = number_of(width), speed_of(speed)
    note("pcie.lost", float(lanes == _NO_LANES), "current_link_width", f"link width {width}, speed {speed}" if width else "")
    if lanes is not None and 0.0 < lanes < _NO_LANES:
        note("pcie.lanes", lanes, "current_link_width", width)
        most = _least(number_of(tree.text(f"{base}/max_link_width")), _slot(tree, base, "max_link_width", number_of))
        note("pcie.lanes_max", most, "current_link_width", width)
        note("pcie.speed_gts", rate, "current_link_speed", speed)
        fastest = _least(speed_of(tree.text(f"{base}/max_link_speed") or ""), _slot(tree, base, "max_link_speed", speed_of))
        note("pcie.speed_max_gts", fastest, "current_link_speed", speed)
    for file, (total, signal) in _AER.items():
        text = tree.text(f"{base}/{file}")
        for n, line in enumerate(text.splitlines(), 1) if text else ():
            name_, _, count = line.partition(" ")
            if name_ == total:
                notes.add(kind, id, signal, number_of(count.strip()), Place(tree.shown(f"{base}/{file}"), n, line, name))


def _slot(tree: Tree, base: str, file: str, read_: object) -> float | None:
    """What the port above a device can do, None where it is not known."""
    real = tree.real(base)
    above = real.rpartition("/")[0]
    if not above or not (tree.text(f"{above}/class") or "").startswith(_BRIDGE):
        return None
    text = tree.text(f"{above}/{file}") or ""
    return speed_of(text) if read_ is speed_of else number_of(text)


def _least(*values: float | None) -> float | None:
    known = [value for value in values if value is not None and value > 0]
    return min(known, default=None)


def speed_of(text: str) -> float | None:
    """GT/s of "32.0 GT/s PCIe" or "16GT/s"."""
    number = text.strip().partition("GT")[0].strip()
    return number_of(number)

"""`nvidia-smi -q`: sections by indentation, each GPU's fields by their path."""

import re
from collections.abc import Callable, Iterator, Mapping

from collectors.node.notes import Notes, Place, numbered
from holdfast.topology import Kind

_HEAD = "NVSMI LOG"
_GPU = re.compile(r"^GPU (?:([0-9a-fA-F]{4,8}):)?([0-9a-fA-F]{2}:[0-9a-fA-F]{2})\.([0-7])\s*$")
_NUMBER = re.compile(r"^(-?\d{1,15}(?:\.\d{1,6})?)")
_LOST = re.compile(r"GPU is lost|GPU requires reset|Unknown Error|ERR!|GPU has fallen off|Reboot required", re.IGNORECASE)
_MOST_DEPTH = 12


def _plain(text: str) -> float | None:
    found = _NUMBER.match(text)
    return float(found.group(1)) if found else None


def _times(factor: float) -> Callable[[str], float | None]:
    def read_(text: str) -> float | None:
        value = _plain(text)
        return None if value is None else value * factor

    return read_


def _is(*words: str) -> Callable[[str], float | None]:
    """1 for one of the words, 0 for another; nothing where the field does not apply."""

    def read_(text: str) -> float | None:
        return None if text in ("N/A", "[N/A]", "") else float(text.casefold() in words)

    return read_


_YES, _ACTIVE, _MHZ, _MIB = _is("yes", "active", "pending"), _is("active"), _times(1e6), _times(1048576.0)
_RECOVERY = {"none": 0.0, "reset": 1.0, "gpu reset": 1.0, "reboot": 2.0, "node reboot": 2.0, "drain p2p": 3.0, "drain and reset": 4.0}
_FABRIC = {"completed": 0.0, "in progress": 1.0, "not started": 2.0}

_EVENTS = {
    "Idle": "gpu.throttle_idle", "SW Power Cap": "gpu.throttle_sw_power", "HW Slowdown": "gpu.throttle_hw",
    "HW Thermal Slowdown": "gpu.throttle_hw_thermal", "HW Power Brake Slowdown": "gpu.throttle_power_brake",
    "SW Thermal Slowdown": "gpu.throttle_sw_thermal",
}  # fmt: skip
# The end of a field's path -> signal. Newer drivers name some sections otherwise: both names stand here.
FIELDS: Mapping[tuple[str, ...], tuple[str, Callable[[str], float | None]]] = {
    **{("Clocks Throttle Reasons", name): (signal, _ACTIVE) for name, signal in _EVENTS.items()},
    **{("Clocks Event Reasons", name): (signal, _ACTIVE) for name, signal in _EVENTS.items()},
    ("GPU Recovery Action",): ("gpu.recovery_action_id", lambda text: _RECOVERY.get(text.casefold())),
    ("FB Memory Usage", "Total"): ("gpu.mem_total_bytes", _MIB),
    ("FB Memory Usage", "Used"): ("gpu.mem_used_bytes", _MIB),
    ("Utilization", "Gpu"): ("gpu.util_ratio", _times(0.01)),
    ("Utilization", "GPU"): ("gpu.util_ratio", _times(0.01)),
    ("ECC Mode", "Current"): ("gpu.ecc_enabled", _is("enabled")),
    ("Volatile", "SRAM Uncorrectable"): ("gpu.ecc_sram_uncorrected_total", _plain),
    ("Volatile", "SRAM Uncorrectable Parity"): ("gpu.ecc_sram_uncorrected_total", _plain),
    ("Volatile", "SRAM Uncorrectable SEC-DED"): ("gpu.ecc_sram_secded_total", _plain),
    ("Volatile", "DRAM Uncorrectable"): ("gpu.ecc_uncorrected_total", _plain),
    ("Volatile", "DRAM Correctable"): ("gpu.ecc_corrected_total", _plain),
    ("Volatile", "Double Bit", "Total"): ("gpu.ecc_uncorrected_total", _plain),
    ("Volatile", "Single Bit", "Total"): ("gpu.ecc_corrected_total", _plain),
    ("Aggregate", "SRAM Uncorrectable"): ("gpu.ecc_sram_uncorrected_aggregate_total", _plain),
    ("Aggregate", "DRAM Uncorrectable"): ("gpu.ecc_uncorrected_aggregate_total", _plain),
    ("Aggregate", "DRAM Correctable"): ("gpu.ecc_corrected_aggregate_total", _plain),
    ("Aggregate", "Double Bit", "Total"): ("gpu.ecc_uncorrected_aggregate_total", _plain),
    ("Aggregate", "SRAM Threshold Exceeded"): ("gpu.ecc_sram_exceeded", _YES),
    ("Retired Pages", "Single Bit ECC"): ("gpu.retired_sbe_total", _plain),
    ("Retired Pages", "Double Bit ECC"): ("gpu.retired_dbe_total", _plain),
    ("Retired Pages", "Pending Page Blacklist"): ("gpu.retired_pending", _YES),
    ("Remapped Rows", "Correctable Error"): ("gpu.remapped_corrected_total", _plain),
    ("Remapped Rows", "Uncorrectable Error"): ("gpu.remapped_uncorrected_total", _plain),
    ("Remapped Rows", "Pending"): ("gpu.row_remap_pending", _YES),
    ("Remapped Rows", "Remapping Failure Occurred"): ("gpu.row_remap_failed", _YES),
    ("Bank Remap Availability Histogram", "None"): ("gpu.banks_without_spare", _plain),
    ("Temperature", "GPU Current Temp"): ("gpu.temp_c", _plain),
    ("Temperature", "GPU Slowdown Temp"): ("gpu.temp_slowdown_c", _plain),
    ("Temperature", "GPU T.Limit Temp"): ("gpu.temp_margin_c", _plain),
    ("Temperature", "Memory Current Temp"): ("gpu.mem_temp_c", _plain),
    ("Temperature", "Memory Max Operating Temp"): ("gpu.mem_temp_max_c", _plain),
    ("GPU Power Readings", "Power Draw"): ("gpu.power_w", _plain),
    ("GPU Power Readings", "Instantaneous Power Draw"): ("gpu.power_w", _plain),
    ("GPU Power Readings", "Average Power Draw"): ("gpu.power_w", _plain),
    ("Power Readings", "Power Draw"): ("gpu.power_w", _plain),
    ("GPU Power Readings", "Current Power Limit"): ("gpu.power_limit_w", _plain),
    ("GPU Power Readings", "Default Power Limit"): ("gpu.power_limit_default_w", _plain),
    ("Power Readings", "Power Limit"): ("gpu.power_limit_w", _plain),
    ("Power Readings", "Default Power Limit"): ("gpu.power_limit_default_w", _plain),
    ("Clocks", "SM"): ("gpu.sm_clock_hz", _MHZ),
    ("Max Clocks", "SM"): ("gpu.sm_clock_max_hz", _MHZ),
    ("PCIe Generation", "Current"): ("pcie.generation", _plain),
    ("PCIe Generation", "Max"): ("pcie.generation_max", _plain),
    ("PCIe Generation", "Host Max"): ("pcie.generation_host_max", _plain),
    ("Link Width", "Current"): ("pcie.lanes", _plain),
    ("Link Width", "Max"): ("pcie.lanes_max", _plain),
    ("Replays Since Reset",): ("gpu.pcie_replay_total", _plain),
    ("Fabric", "State"): ("gpu.fabric_state_id", lambda text: _FABRIC.get(text.casefold())),
    ("Fabric", "Status"): ("gpu.fabric_failed", lambda text: None if text == "N/A" else float(text.casefold() != "success")),
}
_DEEPEST = max(map(len, FIELDS))


def tells(head: str) -> bool:
    return _HEAD in head


def fields(text: str) -> Iterator[tuple[int, str, tuple[str, ...], str]]:
    """(line, GPU or "", path of sections down to the field, value) of every "name : value", sections by indentation."""
    gpu, stack = "", list[tuple[int, str]]()
    for number, given in numbered(text):
        line = given.expandtabs(8).rstrip()
        if not line or line.startswith("="):
            continue
        if (head := _GPU.match(line)) is not None:
            gpu, stack = f"{(head.group(1) or '0000')[-4:].lower()}:{head.group(2).lower()}", []
            continue
        depth = len(line) - len(line.lstrip())
        while stack and stack[-1][0] >= depth:
            stack.pop()
        name, colon, value = line.strip().partition(" : ")
        if not colon and line.rstrip().endswith(" :"):
            name, colon = line.strip().removesuffix(":"), ":"
        name = name.strip()
        if colon:
            yield number, gpu, (*(section for _, section in stack), name), value.strip()
        elif len(stack) < _MOST_DEPTH:
            stack.append((depth, name))


def read(file: str, text: str, notes: Notes) -> None:
    """Note the fields of each GPU, how many there are, and versions that should be the same and are not."""
    bioses: dict[str, Place] = {}
    devices = dict[str, None]()
    for number, gpu, path, value in fields(text):
        place = Place(file, number, f"{' / '.join(path)}: {value}", gpu)
        if not gpu:
            _node(path[-1], value, notes, place)
            continue
        devices[gpu] = None
        if _LOST.search(value):
            notes.add(Kind.DEVICE, gpu, "gpu.lost", 1.0, place)
        if path == ("VBIOS Version",):
            bioses.setdefault(value, place)
        elif path == ("Product Name",):
            notes.facts["gpu.model"] = value
        for length in range(_DEEPEST, 0, -1):
            found = FIELDS.get(path[-length:]) if len(path) >= length and (length > 1 or len(path) <= 4) else None
            if found is not None:
                _note(notes, gpu, found[0], found[1](value), place)
                break
    notes.tell("node.devices_answering", float(len(devices)), file, f"{len(devices)} GPUs: {' '.join(devices)}"[:300])
    if bioses:
        odd = list(bioses.values())[-1]
        notes.tell("node.vbios_versions", float(len(bioses)), file, f"VBIOS versions: {', '.join(bioses)}", line=odd.line)


def _note(notes: Notes, gpu: str, signal: str, value: float | None, place: Place) -> None:
    if signal == "pcie.generation_host_max":  # the slot may be slower than the device: that is no degraded link
        known = next((row.get("pcie.generation_max") for t, row in notes.values.items() if t.id == gpu and t.kind is Kind.DEVICE), None)
        if value is None or known is None or known <= value:
            return
        signal = "pcie.generation_max"
    notes.add(Kind.DEVICE, gpu, signal, value, place)


def _node(name: str, value: str, notes: Notes, place: Place) -> None:
    if name == "Driver Version":
        notes.facts["driver"] = value
    elif name == "Attached GPUs":
        notes.tell("node.devices", _plain(value), place.file, place.text, line=place.line)

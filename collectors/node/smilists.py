"""The other outputs of nvidia-smi: NVLink states and errors, query-gpu rows as CSV, and the sentences it refuses with."""

import re

from collectors.node.notes import Notes, Place, numbered
from holdfast.topology import Kind

_GPU = re.compile(r"^GPU (\d{1,3}): (.{1,120}?) \(UUID: ([^)]{1,80})\)")
_RATE = re.compile(r"^\s+Link (\d{1,3}): ([\d.]{1,10}) GB/s\s*$")
_INACTIVE = re.compile(r"^\s+Link (\d{1,3}): <?inactive>?", re.IGNORECASE)
_ERRORS = re.compile(r"^\s+Link (\d{1,3}): (Replay|Recovery|CRC(?: FLIT| Data)?)\s+Errors?: (\d{1,19})", re.IGNORECASE)
_KINDS = {"replay": "replay", "recovery": "recovery", "crc": "crc", "crc flit": "crc", "crc data": "crc"}

# What nvidia-smi says instead of an answer -> signal and, where it names a device, its address.
_REFUSALS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?:Failed to initialize NVML: )?Driver/library version mismatch"), "node.driver_mismatch"),
    (re.compile(r"No devices were found"), "node.no_devices"),
    (re.compile(r"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver"), "node.driver_not_answering"),
    (re.compile(r"Failed to initialize NVML: (?!Driver/library)"), "node.driver_not_answering"),
    (re.compile(r"NVIDIA-SMI couldn't find libnvidia-ml\.so"), "node.driver_not_answering"),
    (re.compile(r"Unable to determine the device handle for (?:GPU\d{0,3}: |GPU )?([0-9A-Fa-f:.]{7,16}): "), "gpu.lost"),
)


def tells_links(head: str) -> bool:
    return bool(re.search(r"^GPU \d{1,3}: .{1,200}\(UUID: GPU-[^\n]*\)\s*\n(?:\s*\n)?[ \t]+Link \d", head, re.MULTILINE))


def read_links(file: str, text: str, notes: Notes) -> None:
    """`nvidia-smi nvlink -s` and `-e`: how many links each GPU has up and how fast, or how many errors they counted."""
    links: dict[str, tuple[list[float], int, Place]] = {}
    errors: dict[tuple[str, str], tuple[float, Place]] = {}
    gpu = ""
    for number, line in numbered(text, 300):
        if (head := _GPU.match(line)) is not None:
            gpu = head.group(1)
            notes.facts.setdefault("gpu.model", head.group(2))
            continue
        place = Place(file, number, line.strip(), gpu)
        if (rate := _RATE.match(line)) is not None:
            rates, down, first = links.setdefault(gpu, ([], 0, place))
            rates.append(float(rate.group(2)))
        elif _INACTIVE.match(line):
            rates, down, first = links.setdefault(gpu, ([], 0, place))
            links[gpu] = (rates, down + 1, place if down == 0 else first)
        elif (count := _ERRORS.match(line)) is not None:
            key = (gpu, f"gpu.nvlink_{_KINDS[' '.join(count.group(2).casefold().split())]}_errors_total")
            total, worst = errors.get(key, (0.0, place))
            errors[key] = (total + float(count.group(3)), place if float(count.group(3)) else worst)
    for gpu, (rates, down, place) in links.items():
        notes.add(Kind.DEVICE, gpu, "gpu.nvlinks_up", float(len(rates)), place)
        notes.add(Kind.DEVICE, gpu, "gpu.nvlinks_down", float(down), place)
        if rates:
            slow = min(rates)
            notes.add(Kind.DEVICE, gpu, "gpu.nvlink_slowest_ratio", slow / max(max(one) for one, _, _ in links.values() if one), place)
    for (gpu, signal), (total, place) in errors.items():
        notes.add(Kind.DEVICE, gpu, signal, total, place)


_QUERY: dict[str, tuple[str, float]] = {
    "temperature.gpu": ("gpu.temp_c", 1.0), "temperature.memory": ("gpu.mem_temp_c", 1.0), "power.draw": ("gpu.power_w", 1.0),
    "power.draw.instant": ("gpu.power_w", 1.0), "power.limit": ("gpu.power_limit_w", 1.0),
    "power.default_limit": ("gpu.power_limit_default_w", 1.0), "utilization.gpu": ("gpu.util_ratio", 0.01),
    "memory.total": ("gpu.mem_total_bytes", 1048576.0), "memory.used": ("gpu.mem_used_bytes", 1048576.0),
    "clocks.sm": ("gpu.sm_clock_hz", 1e6), "clocks.current.sm": ("gpu.sm_clock_hz", 1e6), "clocks.max.sm": ("gpu.sm_clock_max_hz", 1e6),
    "pcie.link.gen.current": ("pcie.generation", 1.0), "pcie.link.gen.gpucurrent": ("pcie.generation", 1.0),
    "pcie.link.gen.max": ("pcie.generation_max", 1.0), "pcie.link.width.current": ("pcie.lanes", 1.0),
    "pcie.link.width.max": ("pcie.lanes_max", 1.0),
    "ecc.errors.uncorrected.volatile.total": ("gpu.ecc_uncorrected_total", 1.0),
    "ecc.errors.corrected.volatile.total": ("gpu.ecc_corrected_total", 1.0),
    "ecc.errors.uncorrected.aggregate.total": ("gpu.ecc_uncorrected_aggregate_total", 1.0),
    "ecc.errors.corrected.aggregate.total": ("gpu.ecc_corrected_aggregate_total", 1.0),
    "retired_pages.single_bit_ecc.count": ("gpu.retired_sbe_total", 1.0),
    "retired_pages.double_bit.count": ("gpu.retired_dbe_total", 1.0), "retired_pages.pending": ("gpu.retired_pending", 1.0),
    "remapped_rows.correctable": ("gpu.remapped_corrected_total", 1.0),
    "remapped_rows.uncorrectable": ("gpu.remapped_uncorrected_total", 1.0), "remapped_rows.pending": ("gpu.row_remap_pending", 1.0),
    "remapped_rows.failure": ("gpu.row_remap_failed", 1.0), "ecc.mode.current": ("gpu.ecc_enabled", 1.0),
}  # fmt: skip
_QUERY |= {
    f"clocks_{word}_reasons.{name}": (f"gpu.throttle_{signal}", 1.0)
    for word in ("throttle", "event")
    for name, signal in {
        "hw_slowdown": "hw", "hw_thermal_slowdown": "hw_thermal", "hw_power_brake_slowdown": "power_brake",
        "sw_thermal_slowdown": "sw_thermal", "sw_power_cap": "sw_power", "gpu_idle": "idle",
    }.items()
}  # fmt: skip
_QUERY |= {name.replace("clocks_", "clocks."): row for name, row in _QUERY.items() if name.startswith("clocks_")}
_WHOLE = 4  # a query of fewer was asked of some devices, as like as not
_NAMES = ("pci.bus_id", "gpu_bus_id", "index", "uuid", "gpu_uuid")
_WORDS = {"yes": 1.0, "no": 0.0, "active": 1.0, "not active": 0.0, "enabled": 1.0, "disabled": 0.0, "pending": 1.0}
_BROKEN = re.compile(r"GPU is lost|requires reset|Unknown Error", re.IGNORECASE)
_WHO = frozenset({"index", "uuid", "gpu_uuid", "pci.bus_id", "name", "timestamp", "gpu_bus_id"})
_BUS = re.compile(r"^(?:[0-9a-fA-F]{4})?([0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})\.[0-7]$")


def tells_csv(head: str) -> bool:
    first = head.lstrip().partition("\n")[0]
    names = {name.split("[")[0].strip() for name in first.split(",")}
    return len(names) >= 2 and bool(names & _WHO) and bool(names & set(_QUERY))


def read_csv(file: str, text: str, notes: Notes) -> None:
    """`nvidia-smi --query-gpu=... --format=csv` with its header, with and without units."""
    rows = text.lstrip().splitlines()
    names = [name.split("[")[0].strip() for name in rows[0].split(",")]
    devices = dict[str, None]()
    for number, row in enumerate(rows[1:], 2):
        cells = [cell.strip() for cell in row[:4000].split(",")]
        if len(cells) != len(names):
            continue
        said = dict(zip(names, cells, strict=True))
        bus = _BUS.match(said.get("pci.bus_id") or said.get("gpu_bus_id") or "")
        printed = next((said[name] for name in _NAMES if said.get(name)), str(number - 2))
        id = bus.group(1).lower() if bus else printed
        devices[id] = None
        for name, cell in said.items():
            place = Place(file, number, f"{name}: {cell}", printed)
            if _BROKEN.search(cell):
                notes.add(Kind.DEVICE, id, "gpu.lost", 1.0, place)
            elif name in _QUERY:
                signal, factor = _QUERY[name]
                notes.add(Kind.DEVICE, id, signal, _cell(cell, factor), place)
            elif name == "name":
                notes.facts.setdefault("gpu.model", cell)
    if len(devices) >= _WHOLE:
        notes.tell("node.devices_answering", float(len(devices)), file, f"{len(devices)} GPUs")


def _cell(cell: str, factor: float) -> float | None:
    word = _WORDS.get(cell.casefold())
    if word is not None:
        return word
    try:
        return float(cell.split()[0]) * factor if cell else None
    except ValueError:
        return None


def tells_refusal(head: str) -> bool:
    """A few lines that begin so; a log that quotes them is none."""
    return len(head) < 2000 and any(form.match(line) for line in head.splitlines() for form, _ in _REFUSALS)


def read_refusal(file: str, text: str, notes: Notes) -> None:
    """Note why nvidia-smi gave no answer, or which device it has lost."""
    for number, line in enumerate(text.splitlines(), 1):
        for form, signal in _REFUSALS:
            found = form.match(line[:1000])
            if found is None:
                continue
            if signal.startswith("node."):
                notes.tell(signal, 1.0, file, line.strip(), line=number)
            else:
                bus = _BUS.match(found.group(1))
                id = bus.group(1).lower() if bus else found.group(1)
                notes.add(Kind.DEVICE, id, signal, 1.0, Place(file, number, line.strip(), found.group(1)))
            break



"""Sensors of the board and memory: hwmon temperatures, fans and alarms, EDAC error counts, processor throttling."""

import re

from collectors.node.notes import Notes, Place
from collectors.node.tree import Tree
from holdfast.topology import Kind

_MOST_SENSORS = 2048
_INPUT = re.compile(r"^(temp|fan|in|power|curr)(\d{1,3})_(input|alarm|crit_alarm|max_alarm|min_alarm|fault)$")
_PER_C = 1000.0


def read(tree: Tree, notes: Notes) -> None:
    """Note what the board's chips and memory controllers say."""
    _hwmon(tree, notes)
    _edac(tree, notes)
    _throttles(tree, notes)


def _hwmon(tree: Tree, notes: Notes) -> None:
    root = f"{tree.sys}/class/hwmon" if tree.sys else ""
    for chip in tree.names(root)[:256]:
        base = f"{root}/{chip}"
        if not tree.text(f"{base}/name") and tree.is_dir(f"{base}/device"):
            base = f"{base}/device"  # where older kernels keep them
        label = tree.text(f"{base}/name") or chip
        files = tree.names(base)[:_MOST_SENSORS]
        for file in files:
            found = _INPUT.match(file)
            if found:
                _sensor(tree, notes, base, f"{label}/{chip} {found.group(1)}{found.group(2)}", found, frozenset(files))


def _sensor(tree: Tree, notes: Notes, base: str, id: str, found: re.Match[str], files: frozenset[str]) -> None:
    what, number, part = found.groups()
    stem = f"{what}{number}"
    value = tree.number(f"{base}/{found.string}")
    name = tree.text(f"{base}/{stem}_label") if f"{stem}_label" in files else None
    place = Place(tree.shown(f"{base}/{found.string}"), 1, "" if value is None else f"{value:.0f}", f"{id} {name or ''}".strip())
    if part == "fault":
        notes.add(Kind.PART, id, "sensor.fault", value, place)
    elif part != "input":
        notes.add(Kind.PART, id, "sensor.alarm" if part != "crit_alarm" else "sensor.crit_alarm", value, place)
    elif what == "temp" and value is not None:
        notes.add(Kind.PART, id, "sensor.temp_c", value / _PER_C, place)
        for limit in ("crit", "max"):
            most = tree.number(f"{base}/{stem}_{limit}") if f"{stem}_{limit}" in files else None
            if most is not None and 0.0 < most < 200 * _PER_C:  # chips write 0 or 127000 for "none"
                notes.add(Kind.PART, id, f"sensor.temp_{limit}_c", most / _PER_C, place)
    elif what == "fan":
        notes.add(Kind.PART, id, "sensor.fan_rpm", value, place)
        notes.add(Kind.PART, id, "sensor.fan_min_rpm", tree.number(f"{base}/{stem}_min"), place)


def _edac(tree: Tree, notes: Notes) -> None:
    root = f"{tree.sys}/devices/system/edac/mc" if tree.sys else ""
    for controller in tree.names(root):
        if not controller.startswith("mc"):
            continue
        base = f"{root}/{controller}"
        for file, signal in (("ue_count", "memory.uncorrected_total"), ("ce_count", "memory.corrected_total")):
            count = tree.number(f"{base}/{file}")
            place = Place(tree.shown(f"{base}/{file}"), 1, f"{count or 0:.0f}{_worst(tree, base, file)}", controller)
            notes.add(Kind.PART, controller, signal, count, place)


def _worst(tree: Tree, base: str, file: str) -> str:
    """Which module most of a controller's errors are of, as it is labelled."""
    counts = []
    for module in tree.names(base):
        if module.startswith(("dimm", "rank")):
            count = tree.number(f"{base}/{module}/dimm_{file}") or 0.0
            counts.append((count, tree.text(f"{base}/{module}/dimm_label") or module))
    worst = max(counts, default=(0.0, ""))
    return f", {worst[0]:.0f} of them in {worst[1]}" if worst[0] else ""


def _throttles(tree: Tree, notes: Notes) -> None:
    root = f"{tree.sys}/devices/system/cpu" if tree.sys else ""
    total, seen = 0.0, set[str]()
    for cpu in tree.names(root):
        base = f"{root}/{cpu}/topology"
        package = tree.text(f"{base}/physical_package_id") if cpu.startswith("cpu") and cpu[3:].isdigit() else None
        if package is not None and package not in seen:  # the package's count is the same on each of its processors
            seen.add(package)
            total += tree.number(f"{root}/{cpu}/thermal_throttle/package_throttle_count") or 0.0
    if seen:
        notes.tell("node.cpu_throttles_total", total, tree.shown(root), f"processor packages throttled {total:.0f} times")

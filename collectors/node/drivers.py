"""The accelerators' driver: what it holds, in which version, and whether the libraries beside it are of the same one."""

import re
from pathlib import Path

from collectors.node.notes import Notes, Place
from collectors.node.tree import Tree
from holdfast.topology import Kind

_VERSION = re.compile(r"(?:Kernel Module(?: for \w+)?\s+|Open Kernel Module[^\n]{0,40}?\s)(\d{3}\.\d{1,3}(?:\.\d{1,3})?)")
_LIBRARY = re.compile(r"^libnvidia-ml\.so\.(\d{3}\.\d{1,3}(?:\.\d{1,3})?)$")
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib/aarch64-linux-gnu", "usr/lib", "run/nvidia/driver/usr/lib/x86_64-linux-gnu")
_DEVICE = re.compile(r"^(?:nvidia|davinci|xpu)(\d{1,3})$")
_FIELD = re.compile(r"^([A-Za-z ]{2,32}):\s*(.{0,200})$")


def read(tree: Tree, notes: Notes) -> None:
    """Note versions, devices known to the driver and device files."""
    _versions(tree, notes)
    _known(tree, notes)
    files = [name for name in tree.names(tree.dev) if _DEVICE.match(name)] if tree.dev else []
    if files:
        notes.tell("node.device_files", float(len(files)), tree.shown(tree.dev), " ".join(files))
    if tree.sys and tree.is_dir(f"{tree.sys}/module/nvidia"):
        peer = tree.is_dir(f"{tree.sys}/module/nvidia_peermem") or tree.is_dir(f"{tree.sys}/module/nv_peer_mem")
        told = "" if peer else "no module nvidia_peermem"
        notes.tell("node.peer_memory_missing", float(not peer), tree.shown(f"{tree.sys}/module"), told)


def _versions(tree: Tree, notes: Notes) -> None:
    path = f"{tree.proc}/driver/nvidia/version" if tree.proc else ""
    text = tree.text(path) or ""
    found = _VERSION.search(text[:2000])
    loaded = found.group(1) if found else tree.text(f"{tree.sys}/module/nvidia/version") if tree.sys else None
    if loaded is None:
        return
    notes.facts["driver"] = loaded
    libraries = sorted({version for folder in _LIBRARIES for version in _libraries(tree, f"{tree.root.rstrip('/')}/{folder}")})
    if libraries:
        told = f"kernel module {loaded}, libnvidia-ml {', '.join(libraries)}"
        notes.tell("node.driver_mismatch", float(loaded not in libraries), tree.shown(path), told, line=1)


def _libraries(tree: Tree, folder: str) -> list[str]:
    names = tree.names(folder) if Path(folder).is_dir() else []
    return [found.group(1) for name in names if (found := _LIBRARY.match(name))]


def _known(tree: Tree, notes: Notes) -> None:
    """Devices the driver has taken: a lost one has a UUID of question marks, an excluded one says so."""
    root = f"{tree.proc}/driver/nvidia/gpus" if tree.proc else ""
    addresses = tree.names(root)
    for address in addresses:
        path = f"{root}/{address}/information"
        id = address.rpartition(".")[0]
        for number, line in enumerate((tree.text(path) or "").splitlines(), 1):
            field = _FIELD.match(line)
            if field is None:
                continue
            name, value = field.group(1), field.group(2).strip()
            place = Place(tree.shown(path), number, line, address)
            if name == "GPU UUID":
                notes.add(Kind.DEVICE, id, "gpu.unknown_identity", float("?" in value), place)
            elif name == "GPU Excluded":
                notes.add(Kind.DEVICE, id, "gpu.excluded", float(value == "Yes"), place)
            elif name == "Model":
                notes.facts.setdefault("gpu.model", value)
    if addresses:
        notes.tell("node.devices", float(len(addresses)), tree.shown(root), f"{len(addresses)} devices known to the driver")

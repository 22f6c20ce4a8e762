"""Disks, RAID arrays and file systems: /sys/block, /sys/class/nvme, /proc/mdstat, /proc/mounts, and how full they are."""

import os
import re

from collectors.node.notes import Notes, Place, numbered
from collectors.node.tree import Tree
from holdfast.topology import Kind

# File systems that hold data; of others read-only says nothing.
_KEPT = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "wekafs", "bcachefs"}
)
_REMOTE = frozenset({"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "wekafs"})
_GIVEN_UP = frozenset({"emergency_ro", "shutdown"})
_ARRAY = re.compile(r"^(md\w{1,32}) : (\w{1,16})(.{0,2000})$")
_MEMBERS = re.compile(r"\[(\d{1,4})/(\d{1,4})\]")
_FAILED = re.compile(r"\(F\)")
_WELL = {"running", "live", "clean", "active", "active-idle", "write-pending", "new", "readonly", "read-auto", "resetting", "connecting"}


def read(tree: Tree, notes: Notes) -> None:
    """Note disks, arrays and mounts."""
    _disks(tree, notes)
    _nvme(tree, notes)
    if not any(signal == "raid.degraded_disks" for _, signal in notes.places):
        _mdstat(tree, notes)
    _mounts(tree, notes)


def _disks(tree: Tree, notes: Notes) -> None:
    root = f"{tree.sys}/block" if tree.sys else ""
    for disk in tree.names(root):
        base = f"{root}/{disk}"
        state = tree.text(f"{base}/device/state")
        if state is not None:
            place = Place(tree.shown(f"{base}/device/state"), 1, state, disk)
            notes.add(Kind.PART, disk, "disk.failed", float(state not in _WELL), place)
        if tree.is_dir(f"{base}/md"):
            _array(tree, notes, f"{base}/md", disk)


def _array(tree: Tree, notes: Notes, base: str, array: str) -> None:
    state, level = tree.text(f"{base}/array_state") or "", tree.text(f"{base}/level") or ""
    place = Place(tree.shown(f"{base}/array_state"), 1, f"{level} {state}".strip(), array)
    if level:  # a container has none, and is always inactive
        notes.add(Kind.PART, array, "raid.inactive", float(state in ("inactive", "broken", "suspended", "clear")), place)
    degraded = tree.number(f"{base}/degraded")
    members = tree.number(f"{base}/raid_disks")
    place = Place(tree.shown(f"{base}/degraded"), 1, f"{level}: {degraded or 0:.0f} of {members or 0:.0f} disks are missing", array)
    notes.add(Kind.PART, array, "raid.degraded_disks", degraded, place)


def _nvme(tree: Tree, notes: Notes) -> None:
    root = f"{tree.sys}/class/nvme" if tree.sys else ""
    for name in tree.names(root):
        state = tree.text(f"{root}/{name}/state")
        if state is not None:
            place = Place(tree.shown(f"{root}/{name}/state"), 1, state, name)
            notes.add(Kind.PART, name, "disk.failed", float(state not in _WELL), place)
            notes.add(Kind.PART, name, "disk.resetting", float(state in ("resetting", "connecting")), place)


def _mdstat(tree: Tree, notes: Notes) -> None:
    text = tree.text(f"{tree.proc}/mdstat") if tree.proc else None
    if text:
        read_mdstat(text, tree.shown(f"{tree.proc}/mdstat"), notes)


def read_mdstat(text: str, file: str, notes: Notes) -> None:
    """/proc/mdstat: "[4/3] [UUU_]" under an array is one disk missing, "(F)" behind a member one that failed."""
    array, failed = "", 0
    for number, line in numbered(text, 2200):
        head = _ARRAY.match(line)
        if head:
            array, failed = head.group(1), len(_FAILED.findall(head.group(3)))
            place = Place(file, number, line.strip(), array)
            raid = " raid" in head.group(3) or " linear" in head.group(3)
            notes.add(Kind.PART, array, "raid.inactive", float(head.group(2) == "inactive" and raid), place)
            notes.add(Kind.PART, array, "raid.failed_disks", float(failed), place)
        elif array and (members := _MEMBERS.search(line)):
            missing = float(int(members.group(1)) - int(members.group(2)))
            notes.add(Kind.PART, array, "raid.degraded_disks", max(0.0, missing), Place(file, number, line.strip(), array))
            array = ""


def _mounts(tree: Tree, notes: Notes) -> None:
    path = next((p for p in (f"{tree.proc}/1/mounts", f"{tree.proc}/self/mounts", f"{tree.proc}/mounts") if tree.text(p)), "")
    text = tree.text(path) if tree.proc and path else None
    rows = [(number, line.split()) for number, line in enumerate(text.splitlines() if text else (), 1)][:65_536]
    rows = [(number, fields) for number, fields in rows if len(fields) >= 4 and fields[2] in _KEPT]
    writable = {fields[0] for _, fields in rows if "rw" in fields[3].split(",")}
    for number, (device, where, type_, said, *_) in rows[:4096]:
        if tree.live and "/kubelet/pods/" in where:  # what is shown to a pod: the host's own mount tells of it
            continue
        name, options = _plain(where), set(said.split(","))
        place = Place(tree.shown(path), number, f"{device} {where} {type_} {said}"[:500], name)
        alone = "ro" in options and device not in writable  # not a disk shown read-only beside its own mount
        gave_up = bool(_GIVEN_UP & options) or (alone and "errors=remount-ro" in options)
        notes.add(Kind.PART, name, "fs.readonly", float(alone), place)
        notes.add(Kind.PART, name, "fs.gave_up", float(gave_up), place)
        if tree.live and type_ not in _REMOTE:  # a server that is away would hold us
            _room(notes, name, place)


def _room(notes: Notes, where: str, place: Place) -> None:
    try:
        room = os.statvfs(where)
    except OSError:
        return
    if room.f_blocks:
        left = room.f_bavail / room.f_blocks
        notes.add(Kind.PART, where, "fs.used_ratio", 1.0 - left, place)
    if room.f_files:
        notes.add(Kind.PART, where, "fs.inodes_used_ratio", 1.0 - room.f_favail / room.f_files, place)


def _plain(where: str) -> str:
    """A mount point as it is named: the kernel writes spaces as \\040."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8) & 255), where)[:512]

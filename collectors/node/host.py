"""The kernel's own figures from /proc and /sys: memory, pressure, processes in no good state, tables that fill up, time."""

import ctypes

from collectors.node.notes import Notes
from collectors.node.tree import Tree, number_of

_PER_KIB = 1024.0
_MEMORY = {
    "MemTotal": "node.mem_total_bytes", "MemAvailable": "node.mem_available_bytes", "HardwareCorrupted": "node.mem_corrupted_bytes",
    "SwapTotal": "node.swap_total_bytes", "SwapFree": "node.swap_free_bytes",
}  # fmt: skip
_HUGE = {"HugePages_Total": "node.hugepages", "HugePages_Free": "node.hugepages_free"}
_TRACKED = ("net/netfilter/nf_conntrack_count", "net/netfilter/nf_conntrack_max")  # below /proc/sys
_UNSYNC = 0x0040  # STA_UNSYNC of adjtimex(2)


def read(tree: Tree, notes: Notes) -> None:
    """Note what the kernel counts."""
    if tree.proc:
        for reader in (_memory, _pressure, _boot, _tables, _vm):
            reader(tree, notes)
    if tree.sys:
        _processors(tree, notes)
        _product(tree, notes)
    if tree.live:
        _clock(notes)


def _memory(tree: Tree, notes: Notes) -> None:
    path = f"{tree.proc}/meminfo"
    shown = tree.shown(path)
    for line_number, line in enumerate((tree.text(path) or "").splitlines(), 1):
        name, _, rest = line.partition(":")
        value = number_of(rest.split()[0]) if rest.split() else None
        if name in _MEMORY and value is not None:
            notes.tell(_MEMORY[name], value * _PER_KIB, shown, line, line=line_number)
        elif name in _HUGE:
            notes.tell(_HUGE[name], value, shown, line, line=line_number)


def _pressure(tree: Tree, notes: Notes) -> None:
    """Pressure stall information: "full" is the share of time in which nothing could run (Documentation/accounting/psi.rst)."""
    for what in ("cpu", "memory", "io"):
        path = f"{tree.proc}/pressure/{what}"
        for number, line in enumerate((tree.text(path) or "").splitlines(), 1):
            kind, *pairs = line.split() or [""]
            read_ = dict(pair.partition("=")[::2] for pair in pairs)
            share, total = number_of(read_.get("avg60")), number_of(read_.get("total"))
            if kind in ("some", "full") and share is not None:
                notes.tell(f"node.pressure_{what}_{kind}_ratio", share / 100.0, tree.shown(path), line, line=number)
                if total is not None:
                    notes.tell(f"node.pressure_{what}_{kind}_s_total", total / 1e6, tree.shown(path), line, line=number)


def _boot(tree: Tree, notes: Notes) -> None:
    for number, line in enumerate((tree.text(f"{tree.proc}/stat") or "").splitlines(), 1):
        name, _, rest = line.partition(" ")
        if name == "btime":
            notes.tell("node.booted_at_s", number_of(rest.strip()), tree.shown(f"{tree.proc}/stat"), line, line=number)
    text = tree.text(f"{tree.proc}/uptime") or ""
    notes.tell("node.uptime_s", number_of(text.split()[0]) if text.split() else None, tree.shown(f"{tree.proc}/uptime"), text)
    load = tree.text(f"{tree.proc}/loadavg") or ""
    notes.tell("node.load1", number_of(load.split()[0]) if load.split() else None, tree.shown(f"{tree.proc}/loadavg"), load)
    tainted = tree.number(f"{tree.proc}/sys/kernel/tainted")
    if tainted is not None:  # bit 7: the kernel has died (oops), bit 4: a machine check, bit 14: soft lockup
        shown, taint = tree.shown(f"{tree.proc}/sys/kernel/tainted"), int(tainted)
        notes.tell("node.kernel_died", float(bool(taint & 1 << 7)), shown, f"tainted {taint}")
        notes.tell("node.kernel_machine_check", float(bool(taint & 1 << 4)), shown, f"tainted {taint}")
        notes.tell("node.kernel_soft_lockup", float(bool(taint & 1 << 14)), shown, f"tainted {taint}")


def _tables(tree: Tree, notes: Notes) -> None:
    used, most = (tree.number(f"{tree.proc}/sys/{file}") for file in _TRACKED)
    if used is not None and most:
        notes.tell("node.conntrack_used_ratio", used / most, tree.shown(f"{tree.proc}/sys/{_TRACKED[0]}"), f"{used:.0f} of {most:.0f}")
    numbers = [number_of(field) for field in (tree.text(f"{tree.proc}/sys/fs/file-nr") or "").split()]
    if len(numbers) == 3 and numbers[0] is not None and numbers[2]:
        text = f"{numbers[0]:.0f} of {numbers[2]:.0f}"
        notes.tell("node.files_used_ratio", numbers[0] / numbers[2], tree.shown(f"{tree.proc}/sys/fs/file-nr"), text)
    hung = tree.number(f"{tree.proc}/sys/kernel/hung_task_detect_count")
    notes.tell("node.hung_tasks_total", hung, tree.shown(f"{tree.proc}/sys/kernel/hung_task_detect_count"), f"{hung or 0:.0f}")


def _vm(tree: Tree, notes: Notes) -> None:
    path = f"{tree.proc}/vmstat"
    for number, line in enumerate((tree.text(path) or "").splitlines(), 1):
        if line.startswith("oom_kill "):
            notes.tell("node.oom_kills_total", number_of(line[9:]), tree.shown(path), line, line=number)


def _processors(tree: Tree, notes: Notes) -> None:
    root = f"{tree.sys}/devices/system"
    for signal, file in (("node.cpus_present", "present"), ("node.cpus_online", "online")):
        text = tree.text(f"{root}/cpu/{file}")
        notes.tell(signal, count_of(text) if text else None, tree.shown(f"{root}/cpu/{file}"), text or "", line=1)
    clock = f"{root}/clocksource/clocksource0"
    current, available = tree.text(f"{clock}/current_clocksource"), tree.text(f"{clock}/available_clocksource") or ""
    if current:
        # the kernel leaves tsc when it has found it unstable; a virtual machine's own clock is fine
        slow = current in ("hpet", "acpi_pm", "jiffies", "pit", "refined-jiffies")
        shown = tree.shown(f"{clock}/current_clocksource")
        notes.tell("node.slow_clocksource", float(slow), shown, f"{current}; available: {available}", line=1)


def _product(tree: Tree, notes: Notes) -> None:
    for base in (f"{tree.sys}/class/dmi/id", f"{tree.sys}/devices/virtual/dmi/id"):
        product = tree.text(f"{base}/product_name")
        if product:
            notes.facts["product"] = product[:200]
            return


def count_of(text: str) -> float | None:
    """How many a list such as "0-63,96" names."""
    total = 0
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        low, high = number_of(first), number_of(last or first)
        if low is None or high is None:
            return None
        total += int(high - low) + 1
    return float(total)


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2), as far as it is read; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("room", ctypes.c_byte * 256),
    )  # fmt: skip


def _clock(notes: Notes) -> None:
    """Whether the kernel's clock is kept by somebody; asking changes nothing (modes 0)."""
    try:
        asked = _Timex()
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(asked))
    except (OSError, AttributeError):
        return
    if state >= 0:
        text = f"adjtimex: state {state}, status {asked.status:#x}, most error {asked.maxerror / 1e6:.3f} s"
        notes.tell("node.clock_unsynchronised", float(bool(asked.status & _UNSYNC)), "adjtimex", text)


class Processes:
    """Processes that wait where nothing can interrupt them, and those nobody has buried; remembers since when, look by look."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}

    def read(self, tree: Tree, notes: Notes, at: float | None) -> None:
        """at: seconds of the look, None for a look that has no time (a copy)."""
        stuck: dict[tuple[str, str], str] = {}
        zombies: list[str] = []
        names: set[str] = set()
        pids = [name for name in tree.names(tree.proc) if name.isdigit()] if tree.proc else []
        for pid in pids:
            cut = _stat_of(tree.text(f"{tree.proc}/{pid}/stat") or "")
            if cut is None:
                continue
            name, state, started, size = cut
            names.add(name)
            if state == "D" and size != "0":  # kernel threads wait so as a matter of course
                stuck[pid, started] = name
            elif state == "Z":
                zombies.append(f"{name} ({pid})")
        if not names:
            return
        notes.facts["processes"] = "\n".join(sorted(names))
        self._since = {key: self._since.get(key, at or 0.0) for key in stuck}
        shown = tree.shown(tree.proc)
        listed = "; ".join(f"{name} ({pid}){_where(tree, pid)}" for (pid, _), name in list(stuck.items())[:8])
        notes.tell("node.uninterruptible", float(len(stuck)), shown, listed)
        if at is not None:
            longest = max((at - since for since in self._since.values()), default=0.0)
            notes.tell("node.uninterruptible_s", longest, shown, listed)
        notes.tell("node.zombies", float(len(zombies)), shown, "; ".join(zombies[:8]))


def _where(tree: Tree, pid: str) -> str:
    """The kernel function a process waits in, where that is shown."""
    channel = tree.text(f"{tree.proc}/{pid}/wchan") or ""
    stack = (tree.text(f"{tree.proc}/{pid}/stack") or "").splitlines()
    frame = stack[0].rpartition("] ")[2] if stack else channel
    return f" in {frame[:80]}" if frame not in ("", "0") else ""


def _stat_of(text: str) -> tuple[str, str, str, str] | None:
    """(name, state, start time, size in bytes) of /proc/PID/stat; the name may hold anything, brackets too."""
    name, found, rest = text.partition("(")[2].rpartition(")")[0], ")" in text, text.rpartition(")")[2].split()
    return (name, rest[0], rest[19], rest[20]) if found and len(rest) > 20 else None

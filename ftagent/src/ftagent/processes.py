"""What /proc says of processes."""

import os

# fields of /proc/PID/stat after the name, from 0: state is field 3 of the file
_STATE, _PARENT, _UTIME, _STIME, _START, _EXIT_CODE = 0, 1, 11, 12, 19, 49
TICKS = os.sysconf("SC_CLK_TCK")


class Stat:
    """A reading of /proc/PID/stat. state: one letter; start_time: clock ticks since boot; exit_status: as from wait."""

    __slots__ = ("cpu_s", "exit_status", "name", "parent", "pid", "start_time", "state")

    def __init__(self, pid, text):
        # type: (int, str) -> None
        # the name stands in parentheses and may itself hold spaces and parentheses
        self.pid = pid
        self.name = text[text.index("(") + 1 : text.rindex(")")]
        fields = text[text.rindex(")") + 2 :].split()
        self.state = fields[_STATE]
        self.parent = int(fields[_PARENT])
        self.cpu_s = (int(fields[_UTIME]) + int(fields[_STIME])) / TICKS
        self.start_time = int(fields[_START])
        self.exit_status = int(fields[_EXIT_CODE]) if len(fields) > _EXIT_CODE else 0


def stat(pid):
    # type: (int) -> object
    """Read one process, None if it is not there (any more)."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as file:
            return Stat(pid, file.read())
    except (OSError, ValueError, IndexError):
        return None


def start_time(pid):
    # type: (int) -> int
    """When a process began, clock ticks since boot; 0 if it is not there."""
    found = stat(pid)
    return found.start_time if found else 0


def alive(pid, started):
    # type: (int, int) -> bool
    """Whether this very process, not a later one of the same number, is there and not a zombie."""
    found = stat(pid)
    return found is not None and found.start_time == started and found.state not in "ZX"


def everybody():
    # type: () -> dict
    """Every process of the machine, by pid."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            one = stat(int(name))
            if one is not None:
                found[one.pid] = one
    return found


def below(roots, known):
    # type: (set, dict) -> list
    """The roots' descendants among `known`, children after their parents."""
    children = {}  # type: dict
    for one in known.values():
        children.setdefault(one.parent, []).append(one.pid)
    found = []
    line = list(roots)
    seen = set(roots)
    while line:
        for child in sorted(children.get(line.pop(0), ())):
            if child not in seen:
                seen.add(child)
                found.append(known[child])
                line.append(child)
    return found


def environment(pid):
    # type: (int) -> dict
    """A process's environment at its start, {} where it may not be read."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            parts = file.read(1 << 20).split(b"\0")
    except OSError:
        return {}
    pairs = (part.decode("utf-8", "replace").partition("=") for part in parts if b"=" in part)
    return {name: value for name, _, value in pairs}


def word(pid, name):
    # type: (int, str) -> str
    """A one-word file of a process, such as wchan; "" where it may not be read."""
    try:
        with open("/proc/%d/%s" % (pid, name), "rb") as file:
            return file.read(4096).replace(b"\0", b" ").strip().decode("utf-8", "replace")
    except OSError:
        return ""


def storage_bytes(pid):
    # type: (int) -> int
    """Bytes a process has read and written through storage, 0 where it may not be read."""
    total = 0
    for line in word(pid, "io").splitlines():
        name, _, value = line.partition(":")
        if name in ("read_bytes", "write_bytes") and value.strip().isdigit():
            total += int(value)
    return total


def how_it_ended(status):
    # type: (int) -> tuple
    """A wait status as (exit code or None, signal or None)."""
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None

"""What stands before a kernel message: dmesg, kmsg, journal, syslog, fabric manager and bare form -> time, host, text."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec


class Stamped(msgspec.Struct, frozen=True):
    """A message.

    at: Unix seconds, None where the line names no whole date; uptime_s: seconds since boot, as dmesg and kmsg say
    sender: the program that said it, "" where the line does not name it; repeats: how often it was said, as syslog counts
    """

    text: str
    at: float | None = None
    uptime_s: float | None = None
    host: str = ""
    sender: str = ""
    repeats: int = 1


class _Journal(msgspec.Struct):
    MESSAGE: str | list[int] | None = ""
    realtime: str = msgspec.field(default="", name="__REALTIME_TIMESTAMP")
    host: str = msgspec.field(default="", name="_HOSTNAME")
    identifier: str = msgspec.field(default="", name="SYSLOG_IDENTIFIER")


_JOURNAL = msgspec.json.Decoder(_Journal)
_LEVEL = re.compile(
    r"(?:<\d{1,3}>|(?:kern|user|daemon|syslog|auth)\s*:(?:emerg|alert|crit|err|warn|notice|info|debug)\s*:\s*)"
)
_LEVEL_FIRST = frozenset("<kudsa")
_KMSG = re.compile(r"\d{1,3},\d+,(\d+),[^;]{0,40};")
_UPTIME = re.compile(r"\[\s*(\d{1,10}\.\d{1,6})\]\s?(?:\[\s*[TC]\s*\d+\]\s?)?")
_CTIME = re.compile(r"\[(\w{3} \w{3}\s+\d{1,2} \d\d:\d\d:\d\d \d{4})\]\s?")
_MANAGER = re.compile(r"\[(\w{3} \d{1,2} \d{4} \d\d:\d\d:\d\d)\]\s")
_SHORT = re.compile(r"(\[(?:\w{3}\d{1,2}|\w{3} \d{1,2}) \d\d:\d\d\]\s|\[\s*\+\d+\.\d+\]\s)")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)\s+")
_FULL = re.compile(r"\w{3} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,9})?) (?:UTC|GMT) ")
_UNIX = re.compile(r"(\d{9,11}\.\d{3,9}) (?=\S+ [\w./@-]+(?:\[\d+\])?: )")
_SYSLOG = re.compile(r"(\w{3}\s+\d{1,2} \d\d:\d\d:\d\d(?:\.\d+)?)\s+")
_RFC5424 = re.compile(r"1 (\S+) (\S+) (\S+) \S+ \S+ (?:-|\[[^\]]*\]) ?")
_CONTAINER = re.compile(r"std(?:out|err) [FP] ")
_SENDER = re.compile(
    r"([\w.:-]{1,253}) "
    r"((?:kernel|systemd|containerd|dockerd|kubelet|nvidia-[\w-]+|rasdaemon|mcelog|smartd|chronyd|nv-fabricmanager))(?:\[\d+\])?: ?"
)
# Behind a syslog date stands a host and a program, whatever its name.
_ANY_SENDER = re.compile(r"([\w.:-]{1,253}) ([\w./@()-]{1,64})(?:\[\d+\])?: ?")
# What nine of ten lines of a node begin with, in one go.
_SYSLOG_KERNEL = re.compile(
    r"\w{3} [ \d]\d \d\d:\d\d:\d\d ([\w.:-]{1,253}) kernel: \[\s*(\d{1,10}\.\d{1,6})\] (?=[^\[ ])"
)
_KERNEL = re.compile(r"kernel: ?")
_REPEATED = re.compile(r"message repeated (\d{1,6}) times?: \[ ?(.*)\]$", re.DOTALL)


def stamped(line: str) -> Stamped:
    """Take a line apart; what is not recognised is text."""
    if (usual := _SYSLOG_KERNEL.match(line)) is not None:
        text = line[usual.end() :]
        if not text.startswith("message repeated "):
            return Stamped(text, None, float(usual.group(2)), usual.group(1), "kernel")
    if line.startswith("{"):
        found = _of_journal(line)
        if found is not None:
            return found
    text = line
    if line[:1] in _LEVEL_FIRST and (level := _LEVEL.match(line)) is not None:
        text = line[level.end() :]
    if text[:1].isdigit():
        if (kmsg := _KMSG.match(text)) is not None:
            return _repeated(text[kmsg.end() :], None, int(kmsg.group(1)) / 1e6, "", "")
        if (rfc := _RFC5424.match(text)) is not None:
            return _repeated(text[rfc.end() :], _iso(rfc.group(1)), None, rfc.group(2), rfc.group(3))
    at, text, any_sender = _dated(text)
    host = sender = ""
    form = _ANY_SENDER if any_sender else _SENDER
    if (said := form.match(text)) is not None:
        host, sender, text = said.group(1), said.group(2), text[said.end() :]
    elif (kernel := _KERNEL.match(text)) is not None:
        sender, text = "kernel", text[kernel.end() :]
    uptime_s: float | None = None
    if text[:1] == "[" and (since := _UPTIME.match(text)) is not None:
        uptime_s, text = float(since.group(1)), text[since.end() :]
        if not host and (said := _SENDER.match(text)) is not None:  # journalctl -o short-monotonic
            host, sender, text = said.group(1), said.group(2), text[said.end() :]
    return _repeated(text, at, uptime_s, host, sender)


def _dated(text: str) -> tuple[float | None, str, bool]:
    """The date, the rest, and whether a host and a program stand behind such a date."""
    first = text[:1]
    for form, read, any_sender in _DATES["[" if first == "[" else "0" if first.isdigit() else "a"]:
        found = form.match(text)
        if found is not None:
            rest = text[found.end() :]
            if any_sender and (container := _CONTAINER.match(rest)) is not None:
                return read(found.group(1)), rest[container.end() :], False
            # dmesg writes a comma before the fraction, and no host behind it
            return read(found.group(1)), rest, any_sender and "," not in found.group(1)
    return None, text, False


def _repeated(text: str, at: float | None, uptime_s: float | None, host: str, sender: str) -> Stamped:
    if text.startswith("message repeated ") and (again := _REPEATED.match(text)) is not None:
        return Stamped(again.group(2), at, uptime_s, host, sender, max(1, int(again.group(1))))
    return Stamped(text, at, uptime_s, host, sender)


def _of_journal(line: str) -> Stamped | None:
    try:
        row = _JOURNAL.decode(line)
    except msgspec.MsgspecError:
        return None
    given = row.MESSAGE or ""
    text = given if isinstance(given, str) else bytes(b & 255 for b in given).decode("utf-8", "replace")
    at = (
        int(row.realtime) / 1e6
        if row.realtime.isdecimal() and row.realtime.isascii() and len(row.realtime) < 20
        else None
    )
    return _repeated(text, at, None, row.host, row.identifier) if text else None


def _iso(text: str) -> float | None:
    try:
        when = datetime.fromisoformat(text.replace(",", "."))
    except ValueError:
        return None
    try:
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError):
        return None


def _named(form: str) -> Callable[[str], float | None]:
    def read(text: str) -> float | None:
        try:
            # a kernel log in a bare date names no zone; UTC is what servers keep
            return datetime.strptime(" ".join(text.split()), form).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return None

    return read


def _nothing(text: str) -> None:
    return None


# By what it begins with ("[", a digit, a letter): its form, how the date is read, and whether a host stands behind it.
_DATES: dict[str, tuple[tuple[re.Pattern[str], Callable[[str], float | None], bool], ...]] = {
    "[": (
        (_CTIME, _named("%a %b %d %H:%M:%S %Y"), False),
        (_MANAGER, _named("%b %d %Y %H:%M:%S"), False),
        (_SHORT, _nothing, False),
    ),
    "0": ((_ISO, _iso, True), (_UNIX, float, True)),
    "a": ((_SYSLOG, _nothing, True), (_FULL, _iso, True)),
}

"""What stands before a kernel message: dmesg, kmsg, journal, syslog, fabric manager and bare form -> time, host, text."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec


class Stamped(msgspec.Struct, frozen=True):
    """A message. at: Unix seconds, None where the line names no whole date; uptime_s: seconds since boot, as dmesg and kmsg say."""

    text: str
    at: float | None = None
    uptime_s: float | None = None
    host: str = ""


class _Journal(msgspec.Struct):
    MESSAGE: str | list[int] = ""
    realtime: str = msgspec.field(default="", name="__REALTIME_TIMESTAMP")
    host: str = msgspec.field(default="", name="_HOSTNAME")


_JOURNAL = msgspec.json.Decoder(_Journal)
_LEVEL = re.compile(
    r"^(?:<\d{1,3}>|(?:kern|user|daemon|syslog|auth)\s*:(?:emerg|alert|crit|err|warn|notice|info|debug)\s*:\s*)"
)
_KMSG = re.compile(r"^\d{1,3},\d+,(\d+),[^;]{0,40};")
_UPTIME = re.compile(r"^\[\s*(\d{1,10}\.\d{1,6})\]\s?(?:\[\s*[TC]\s*\d+\]\s?)?")
_CTIME = re.compile(r"^\[(\w{3} \w{3}\s+\d{1,2} \d\d:\d\d:\d\d \d{4})\]\s?")
_MANAGER = re.compile(r"^\[(\w{3} \d{1,2} \d{4} \d\d:\d\d:\d\d)\]\s")
_ISO = re.compile(r"^(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)\s+")
_SYSLOG = re.compile(r"^\w{3}\s+\d{1,2} \d\d:\d\d:\d\d(?:\.\d+)?\s+")
_RFC5424 = re.compile(r"^1 (\S+) (\S+) \S+ \S+ \S+ (?:-|\[[^\]]*\]) ?")
_SENDER = re.compile(
    r"^([\w.:-]{1,253}) "
    r"((?:kernel|systemd|containerd|kubelet|nvidia-[\w-]+|rasdaemon|mcelog|smartd|chronyd|nv-fabricmanager)(?:\[\d+\])?): ?"
)
_KERNEL = re.compile(r"^kernel: ?")


def stamped(line: str) -> Stamped:
    """Take a line apart; what is not recognised is text."""
    if line.startswith("{"):
        found = _of_journal(line)
        if found is not None:
            return found
    text = _LEVEL.sub("", line)
    if (kmsg := _KMSG.match(text)) is not None:
        return Stamped(text[kmsg.end() :], None, int(kmsg.group(1)) / 1e6)
    if (rfc := _RFC5424.match(text)) is not None:
        return Stamped(text[rfc.end() :], _iso(rfc.group(1)), None, rfc.group(2))
    at: float | None = None
    host = ""
    for form, read in _DATES:
        if (date := form.match(text)) is not None:
            at, text = read(date.group(1)), text[date.end() :]
            break
    else:
        if (date := _SYSLOG.match(text)) is not None:
            text = text[date.end() :]
    if (sender := _SENDER.match(text)) is not None:
        host, text = sender.group(1), text[sender.end() :]
    text = _KERNEL.sub("", text)
    if (since := _UPTIME.match(text)) is not None:
        return Stamped(text[since.end() :], at, float(since.group(1)), host)
    return Stamped(text, at, None, host)


def _of_journal(line: str) -> Stamped | None:
    try:
        row = _JOURNAL.decode(line)
    except msgspec.MsgspecError:
        return None
    text = (
        row.MESSAGE if isinstance(row.MESSAGE, str) else bytes(b & 255 for b in row.MESSAGE).decode("utf-8", "replace")
    )
    at = int(row.realtime) / 1e6 if row.realtime.isdigit() and len(row.realtime) < 20 else None
    return Stamped(text, at, None, row.host) if text else None


def _iso(text: str) -> float | None:
    try:
        when = datetime.fromisoformat(text.replace(",", "."))
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _named(form: str) -> Callable[[str], float | None]:
    def read(text: str) -> float | None:
        try:
            # a kernel log in a bare date names no zone; UTC is what servers keep
            return datetime.strptime(" ".join(text.split()), form).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return None

    return read


_DATES: tuple[tuple[re.Pattern[str], Callable[[str], float | None]], ...] = (
    (_CTIME, _named("%a %b %d %H:%M:%S %Y")),
    (_MANAGER, _named("%b %d %Y %H:%M:%S")),
    (_ISO, _iso),
)

"""Takes what launchers, schedulers and loggers put before a line off it: rank, node and time."""

import re
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

MOST_PREFIXES = 8
MOST_CHARACTERS = 16_384

ANSI = re.compile(r"\x1b\[[0-9;?]{0,16}[A-Za-z]")
_STAMP = r"(?P<stamp>\d{4}[-/]\d\d[-/]\d\d[T _]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)"

# One prefix each, taken off the front in any order. Bounded repetitions only, anchored, so that no line costs more than its length.
_PREFIXES = tuple(
    re.compile(form)
    for form in (
        r"\[[Rr]ank ?(?P<rank>\d{1,6})\]:? ?",
        r"\[[A-Za-z_]{1,32}?(?P<local>\d{1,4})\]:",
        r"(?P<label>\d{1,6}): ",
        rf"\[?{_STAMP}\]? ?(?:(?:stdout|stderr) [FP] )?",
        r"\[(?P<pod>pod/[\w.-]{1,253}/[\w.-]{1,64})\] ",
        r"\(\S{0,64} ?pid=\d{1,9}(?:, ip=(?P<ip>[\d.]{7,15}))?\) ?",
        r"(?P<node>(?:[a-z][a-z0-9-]{0,62}\d[a-z0-9.-]{0,62}|\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})): ",
        r"(?P<service>[a-z][a-z0-9_-]{0,62}\d)\s{0,16}\| ",
        r"(?P<syslog>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (?P<host>[\w.-]{1,64}) (?=[\w/.-]{1,48}(?:\[\d{1,9}\])?: )",
        r"\[[EWIF](?P<glog>\d{3,4} \d\d:\d\d:\d\d\.\d{1,9}) [\w.]{1,64}:\d{1,6}\] ?",
        r"\[(?:INFO|WARNING|ERROR|CRITICAL)\] \[(?P<where>[\w.]{1,64}:\d{1,6}:\w{1,64})\] ",
        r" +(?=\[|iteration)",
    )
)
_IN_TEXT = re.compile(r"\[[Rr]ank ?(\d{1,6})\]|\bRank (\d{1,6})\]|\brank[ =:]{1,3}(\d{1,6})\b")
_JSON_TEXTS = ("log", "message", "msg", "text", "MESSAGE")
_JSON_TIMES = ("time", "timestamp", "ts", "@timestamp", "asctime")


class Bare(NamedTuple):
    """A line without its prefixes. rank: -1 unknown; local: rank within its node, -1 unknown; at: Unix seconds, 0.0 unknown.

    label: what stands for a rank in scheduler output (`srun --label`), -1 none; stream: equal for lines of one writer
    """

    text: str
    rank: int = -1
    local: int = -1
    label: int = -1
    node: str = ""
    at: float = 0.0
    stream: str = ""


def seconds_of(stamp: str) -> float:
    """Unix seconds of a written time, read as UTC where it names no zone; 0.0 if it is none."""
    text = stamp.replace("/", "-").replace("_", "T").replace(",", ".").replace(" ", "T", 1)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def bare(line: str, *, year: int = 1970) -> Bare:
    """Take every known prefix off a line. year: for stamps that do not say theirs."""
    text = ANSI.sub("", line[:MOST_CHARACTERS])
    if text.startswith("{"):
        unpacked = _from_json(text)
        if unpacked is not None:
            text = unpacked
    found: dict[str, str] = {}
    at = 0.0
    for _ in range(MOST_PREFIXES):
        match = next((m for form in _PREFIXES if (m := form.match(text)) and m.end() > 0), None)
        if match is None:
            break
        said = {name: value for name, value in match.groupdict().items() if value}
        at = _time(said, year) or at
        found = said | found
        text = text[match.end() :]
    node = found.get("node") or found.get("ip") or found.get("host") or found.get("service") or ""
    if "pod" in found:
        node = found["pod"].split("/")[1]
    rank, local, label = (int(found.get(name, -1)) for name in ("rank", "local", "label"))
    stream = f"{rank}/{local}/{label}/{node}"
    return Bare(text.rstrip("\r\n"), rank, local, label, node, at, stream)


def rank_in(text: str) -> int:
    """The rank a line speaks of, -1 if it names none."""
    match = _IN_TEXT.search(text)
    return int(next(group for group in match.groups() if group)) if match else -1


def _time(said: dict[str, str], year: int) -> float:
    if "stamp" in said:
        return seconds_of(said["stamp"])
    for name, form in (("glog", "%Y %m%d %H:%M:%S"), ("syslog", "%Y %b %d %H:%M:%S")):
        if name in said:
            text = said[name].split(".")[0]
            month_first = text.rjust(13, "0") if name == "glog" else text
            try:
                return datetime.strptime(f"{year} {month_first}", form).replace(tzinfo=UTC).timestamp()
            except ValueError:
                return 0.0
    return 0.0


def _from_json(text: str) -> str | None:
    """The line inside a container runtime's or logger's JSON line, with its time and rank before it."""
    try:
        row = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    said = next((row[key] for key in _JSON_TEXTS if isinstance(row.get(key), str)), None)
    if said is None:
        return None
    when = next((row[key] for key in _JSON_TIMES if isinstance(row.get(key), str)), "")
    rank = row.get("rank")
    front = f"[rank{rank}]: " if isinstance(rank, int) and rank >= 0 else ""
    stamp = f"{when} " if when and seconds_of(when) else ""
    trace = next((row[key] for key in ("exc_info", "exception", "stack_trace") if isinstance(row.get(key), str)), "")
    return f"{front}{stamp}{said.rstrip()}" + (f" {trace.strip().splitlines()[-1]}" if trace.strip() else "")

"""Takes what launchers, schedulers and loggers put before a line off it: rank, node, time and how grave it is."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import msgspec

MOST_PREFIXES = 8
MOST_CHARACTERS = 16_384
YEARLESS = 1972  # what a stamp without a year is read as: a leap year that no log is of

_TAG = re.compile(r"\[1,\d{1,6}\]<std(?:out|err)>:")  # of mpirun, which puts it into the middle of lines too
ANSI = re.compile(r"\x1b\[[0-9;?]{0,16}[A-Za-z]")
STAMP = r"\d{4}[-/]\d\d[-/]\d\d[T _-]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
_STAMP = f"(?P<stamp>{STAMP})"
_LEVEL = r"(?P<level>DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)"
_WRITER = r"(?=(?:kernel|systemd|slurmd|slurmctld|slurmstepd|kubelet|containerd|dockerd|nvidia-[\w-]{1,32})(?:\[\d{1,9}\])?: )"

# One prefix each, taken off the front in any order, under the characters that it can begin with ("0": a digit, "a": a letter).
# Bounded repetitions only, anchored, so that no line costs more than its length.
_FORMS: tuple[tuple[str, str], ...] = (
    ("[", r"\[[Rr]ank:? ?(?P<rank>\d{1,6})\]:? ?"),
    ("[", r"\[\d{1,3}(?:;\d{1,3}){0,3}m ?"),
    ("[", r"\[1,(?P<label>\d{1,6})\]<std(?:out|err)>:? ?"),
    ("[", rf"\[{_STAMP}(?:,? ?(?:TP|DP|PP|EP)\d{{1,4}}){{0,4}}\] ?"),
    ("[", r"\[[EWIF](?P<glog>\d{3,4} \d\d:\d\d:\d\d\.\d{1,9}) [\w.]{1,64}:\d{1,6}\] ?"),
    ("[", r"\[(?:[EWIF] )[\w.]{1,64}:\d{1,6}\] ?"),
    ("[", rf"\[{_LEVEL}\] ?(?:\[(?P<where>[\w.]{{1,64}}:\d{{1,6}}:\w{{1,64}})\] )?"),
    ("[", r"\[(?P<pod>pod/[\w.-]{1,253}/[\w.-]{1,64})\] "),
    ("[", r"\[[A-Za-z_]{1,32}?(?P<local>\d{1,4})\]:"),
    ("[", r"\[(?P<label>\d{1,6})\] (?!NCCL)"),
    ("[", r"\[(?P<ctime>[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4})\] ?"),
    ("[", r"\[\d\d:\d\d:\d\d\]\[(?P<node>[\w.-]{1,128})\]\[\d{1,9}\](?=\[)"),
    ("0", rf"{_STAMP} ?(?:(?:stdout|stderr) [FP] )?"),
    ("0", r"(?P<label>\d{1,6}): "),
    ("0", r"(?P<node>\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}): "),
    ("(", r"\((?P<sky>[\w-]{1,128}), rank=(?P<rank>\d{1,6}), pid=\d{1,9}(?:, ip=(?P<ip>[\d.]{7,15}))?\) ?"),
    ("(", r"\(PID:\d{1,9}, Device:-?\d{1,4}, RankID:(?:(?P<rank>\d{1,6})|-1)\) ?"),
    ("(", r"\(\S{0,64} ?pid=(?P<pid>\d{1,9})(?:, ip=(?P<ip>[\d.]{7,15}))?\) ?"),
    ("(", r"\(Worker_[A-Z0-9_]{1,32} pid=(?P<pid>\d{1,9})\) ?"),
    ("a", r"[EWIF](?P<glog>\d{4} \d\d:\d\d:\d\d\.\d{1,9})\s{1,8}\d{1,16} [\w./-]{1,200}:\d{1,6}\] ?(?:\[\d{1,3}(?:/\d{1,3})?\] ?)?"),
    ("a", rf"{_LEVEL} (?P<vllm>\d\d-\d\d \d\d:\d\d:\d\d) (?:\[[\w./-]{{1,128}}:\d{{1,6}}\] ?)?"),
    ("a", r"(?P<node>[\w][\w.-]{0,127}):\d{1,9}:\d{1,9} \[(?P<local>\d{1,3})\] (?=\S{0,64} ?\S{0,16} ?(?:NCCL|RCCL|HCCL|misc|transport))"),
    ("a", r"(?P<syslog>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (?P<host>[\w.-]{1,64}) (?=[\w/.-]{1,48}(?:\[\d{1,9}\])?: )"),
    ("a", rf"(?P<host>[\w.-]{{1,64}}) {_WRITER}"),
    ("a", r"[\w.-]{1,64}/\d{1,5} (?=\[)"),
    ("a", r"(?P<node>[a-z][a-z0-9-]{0,62}\d[a-z0-9.-]{0,62}): "),
    ("a", r"(?P<service>[a-z][a-z0-9_-]{0,62}\d)\s{0,16}\| "),
    (" |-", rf"\s{{0,4}}(?:- [\w.-]{{1,64}} )?[|-] {_LEVEL}\s{{0,8}}(?:[|-] (?:[\w.<>]{{1,128}}:[\w.<>]{{1,128}}:\d{{1,6}} - )?)?"),
    (" ", r" {1,64}(?=\[|iteration)"),
)  # fmt: skip
_DIGITS, _LETTERS = "0123456789", "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _by_first() -> dict[str, tuple[re.Pattern[str], ...]]:
    found: dict[str, list[re.Pattern[str]]] = {}
    for firsts, form in _FORMS:
        compiled = re.compile(form)
        for first in {"0": _DIGITS, "a": _LETTERS}.get(firsts, firsts):
            found.setdefault(first, []).append(compiled)
    return {first: tuple(forms) for first, forms in found.items()}


_BY_FIRST = _by_first()
_IN_TEXT = re.compile(r"\[[Rr]ank ?(\d{1,6})\]|\bRank (\d{1,6})\]|(?:(\w{1,16}) {1,2})?\b[Rr]ank[ =:]{1,3}(\d{1,6})\b")
_OTHER_END = frozenset({"from", "to", "peer", "remote", "on", "waiting", "by", "with"})
_JSON_TEXTS = ("log", "message", "msg", "text", "MESSAGE", "line", "body")
_JSON_TIMES = ("time", "timestamp", "ts", "@timestamp", "asctime")
_JSON_NODES = ("node", "host", "hostname", "node_name", "_HOSTNAME", "pod", "pod_name", "instance")
_JSON_LEVELS = ("level", "levelname", "severity")


class Bare(NamedTuple):
    """A line without its prefixes. rank: -1 unknown; local: rank within its node, -1 unknown; at: Unix seconds, 0.0 unknown.

    label: what stands for a rank in scheduler output (`srun --label`), -1 none; stream: equal for lines of one writer
    level: "I" for what its logger calls information or less, "W" for a warning, "E" for more, "" not said
    """

    text: str
    rank: int = -1
    local: int = -1
    label: int = -1
    node: str = ""
    at: float = 0.0
    stream: str = ""
    level: str = ""


@lru_cache(maxsize=4096)
def seconds_of(stamp: str) -> float:
    """Unix seconds of a written time, read as UTC where it names no zone; 0.0 if it is none."""
    text = stamp.replace("/", "-").replace("_", "T").replace(",", ".").replace(" ", "T", 1)
    if text[10:11] == "-":
        text = f"{text[:10]}T{text[11:]}"
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def bare(line: str, *, year: int = YEARLESS) -> Bare:
    """Take every known prefix off a line. year: for stamps that do not say theirs."""
    text = line[:MOST_CHARACTERS]
    if "\x1b" in text:
        text = ANSI.sub("", text)
    found: dict[str, str] = {}
    if text.startswith("{"):
        text, found = _from_json(text)
    at = _time(found, year)
    for _ in range(MOST_PREFIXES):
        for form in _BY_FIRST.get(text[:1], ()):
            match = form.match(text)
            if match is not None:
                break
        else:
            break
        said = {name: value for name, value in match.groupdict().items() if value}
        if "glog" in said:
            said["level"] = text.lstrip("[")[0]
        at = at or _time(said, year)  # the outermost: one clock for all lines of a writer
        found = said | found if found else said
        text = text[match.end() :]
    if "]<std" in text:
        text = _TAG.sub("", text)
    return _bare(text.rstrip("\r\n"), found, at)


def _bare(text: str, found: dict[str, str], at: float) -> Bare:
    if not found:
        return Bare(text, at=at, stream="-1/-1/-1/")
    node = found.get("node") or found.get("ip") or found.get("host") or found.get("sky") or found.get("service") or ""
    if "pod" in found:
        node = found["pod"].split("/")[1]
    rank, local, label = (int(found.get(name, -1)) for name in ("rank", "local", "label"))
    level = found.get("level", "")[:1]
    level = {"D": "I", "C": "E", "F": "E"}.get(level, level)
    return Bare(text, rank, local, label, node, at, f"{rank}/{local}/{label}/{node}{found.get('pid', '')}", level)


def rank_in(text: str) -> int:
    """The rank a line speaks of, -1 if it names none, or only the other end of something."""
    for match in _IN_TEXT.finditer(text[:2000]) if "ank" in text else ():
        if (match.group(3) or "").lower() not in _OTHER_END:
            return int(match.group(1) or match.group(2) or match.group(4))
    return -1


_YEARLESS = (("glog", "%Y %m%d %H:%M:%S"), ("syslog", "%Y %b %d %H:%M:%S"), ("vllm", "%Y %m-%d %H:%M:%S"))


def _time(said: dict[str, str], year: int) -> float:
    if "stamp" in said:
        return seconds_of(said["stamp"])
    if "ctime" in said:
        return _parsed(said["ctime"], "%a %b %d %H:%M:%S %Y")
    for name, form in _YEARLESS:
        if name in said:
            text = said[name].split(".")[0]
            return _parsed(f"{year} {text.rjust(13, '0') if name == 'glog' else text}", form)
    return 0.0


@lru_cache(maxsize=4096)
def _parsed(text: str, form: str) -> float:
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def _from_json(text: str) -> tuple[str, dict[str, str]]:
    """The line inside a container runtime's, a logger's or a collector's JSON line, and what stands beside it."""
    try:
        row = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return text, {}
    said = _first(row, _JSON_TEXTS) if isinstance(row, dict) else ""
    if not said:
        return text, {}
    found: dict[str, str] = {}
    when = _first(row, _JSON_TIMES)
    if when and seconds_of(when):
        found["stamp"] = when
    rank = row.get("rank")
    if isinstance(rank, int) and 0 <= rank < 10**6:
        found["rank"] = str(rank)
    beside = [inner for inner in (row, row.get("labels"), row.get("kubernetes"), row.get("stream")) if isinstance(inner, dict)]
    node = next((name for inner in beside if (name := _first(inner, _JSON_NODES))), "")
    if node and len(node) <= 253:
        found["node"] = node
    level = _first(row, _JSON_LEVELS).upper()
    if level[:1] in ("D", "I", "W", "E", "C", "F"):
        found["level"] = level
    trace = _first(row, ("exc_info", "exception", "stack_trace")).strip()
    return said.rstrip() + (f" {trace.splitlines()[-1]}" if trace else ""), found


def _first(row: dict[str, object], names: Iterable[str]) -> str:
    """The first of these that is a text, "" if none is."""
    return next((value for name in names if isinstance(value := row.get(name), str) and value), "")

"""What the commands of a node's health check print, each judged on its own."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from detectors.has import xid
from holdfast.faults import Fault, Severity

_OWN = frozenset({Fault.USER_CODE, Fault.SOFTWARE})
_SENSOR = re.compile(r"^[^,]*,([^,]+),([^,]+),([^,]*),([^,]*),(.*)$")
_BUDDY = re.compile(r"^\s*Node\s+(\d+),?\s+zone\s+(\w+)\s+([\d\s]+)$")
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$")
_BAD_STATES = ("down", "drain", "fail", "maint", "unknown", "no_respond", "not_responding")
_GOOD_STATES = ("alloc", "complet", "idle", "mix", "planned", "reserved")
_EVENTS = re.compile(
    r"Power Supply.*AC lost|NVIDIA_MCA_Error|Uncorrectable error|Critical Interrupt.*(Bus Fatal Error|PCI SERR)|"
    r"Processor.*Throttled|System Firmware.*BIOS corruption|Uncorrectable ECC"
)
_FATAL_LINES = re.compile(r"Machine Check Exception|uncorrect|\bUC\b|Fatal|fatal|corrupt", re.IGNORECASE)


class Answer(msgspec.Struct, frozen=True):
    """What a command left: exit statuses of its parts, the first that of the command itself, and what it printed."""

    statuses: tuple[int, ...] = (0,)
    text: str = ""

    @property
    def failed(self) -> bool:
        """Whether the command itself did not do its work."""
        return bool(self.statuses) and self.statuses[0] > 0


class Opinion(msgspec.Struct, frozen=True):
    """A judgement: info is well, warning, error is not fit for jobs."""

    severity: Severity
    text: str = ""


WELL = Opinion(Severity.INFO)
Expected = Mapping[str, Any]
Judge = Callable[[Answer, Expected], Opinion]


def warning(text: str) -> Opinion:
    return Opinion(Severity.WARNING, text[:500])


def error(text: str) -> Opinion:
    return Opinion(Severity.ERROR, text[:500])


def ran(inner: Judge, *, empty_is: Severity = Severity.WARNING) -> Judge:
    """A judge of commands that have to succeed and say something."""

    def outer(answer: Answer, expected: Expected) -> Opinion:
        if answer.failed:
            return warning(f"the command failed with status {answer.statuses[0]}: {answer.text}")
        if not answer.text.strip() and empty_is is not Severity.INFO:
            return Opinion(empty_is, "the command printed nothing")
        return inner(answer, expected)

    return outer


def least(answer: Answer, expected: Expected) -> Opinion:
    value, least = float(answer.text), float(expected.get("least", 1))
    return WELL if value >= least else error(f"{value:g} is less than {least:g}")


def equal(answer: Answer, expected: Expected) -> Opinion:
    found, wanted = answer.text.strip(), str(expected["equal"]).strip()
    return WELL if found == wanted else error(f"{found!r} instead of {wanted!r}")


def _most(answer: Answer, expected: Expected) -> Opinion:
    value = float(answer.text)
    if value > float(expected["most"]):
        return error(f"{value:g} is more than {expected['most']}")
    return warning(f"{value:g} is high") if value > float(expected.get("warning", expected["most"])) else WELL


def every_line(word: str) -> Judge:
    def inner(answer: Answer, expected: Expected) -> Opinion:
        others = [line.strip() for line in answer.text.splitlines() if line.strip() and word not in line]
        return error(f"not {word}: {others[0]}") if others else WELL

    return inner


def interfaces(answer: Answer, expected: Expected) -> Opinion:
    up = sum(row.get("link_type") == "infiniband" and row.get("operstate") == "UP" for row in json.loads(answer.text))
    wanted = int(expected.get("equal", 8))
    return WELL if up == wanted else error(f"{up} InfiniBand interfaces are up, {wanted} should be")


def adapters(answer: Answer, expected: Expected) -> Opinion:
    found = re.search(r"(\d+) HCAs? found", answer.text)
    count, wanted = int(found.group(1)) if found else 0, int(expected["equal"])
    return WELL if count == wanted else error(f"{count} adapters, {wanted} should be there")


def diagnostic(answer: Answer, expected: Expected) -> Opinion:
    if answer.statuses and answer.statuses[0] not in (
        0,
        205,
    ):  # 205: a test has failed; what it was stands in the answer
        return warning(f"the command failed with status {answer.statuses[0]}")
    if not answer.text.strip():
        return warning("the command printed nothing")
    whole = json.loads(answer.text)
    body = whole.get("DCGM GPU Diagnostic") or whole.get("DCGM Diagnostic") or {}
    if "test_categories" not in body:
        return warning("no test categories in the answer")
    tests = [test for category in body["test_categories"] for test in category.get("tests", ())]
    states = {
        test.get("name", "?"): _state_of(test) for test in tests if test.get("name") not in expected.get("without", ())
    }
    failed = [name for name, state in states.items() if state == "fail"]
    warned = [name for name, state in states.items() if state == "warn"]
    return (
        error(f"failed: {', '.join(failed)}") if failed else warning(f"warned: {', '.join(warned)}") if warned else WELL
    )


def _state_of(test: Mapping[str, Any]) -> str:
    summary = test.get("test_summary", {}).get("status")
    rows = [str(row.get("status", "")).lower() for row in test.get("results", ())]
    states = [str(summary).lower()] if summary else rows
    return next((state for state in ("fail", "warn") if state in states), "pass")


def link_errors(answer: Answer, expected: Expected) -> Opinion:
    body = json.loads(answer.text).get("body")
    if not body:
        return warning("no links in the answer")
    high = [
        f"{link} {name}: {value['value']}"
        for link, row in body.items()
        for name, value in row.get("children", {}).items()
        if str(value.get("value", "")).isdigit() and int(value["value"]) > int(expected.get("most", 0))
    ]
    return error("; ".join(high[:8])) if high else WELL


def links(answer: Answer, expected: Expected) -> Opinion:
    letters = [line.split() for line in answer.text.splitlines() if line.strip() and "gpuId" not in line]
    down = sum(letter in ("D", "X") for row in letters for letter in row if len(letter) == 1)
    return error(f"{down} links are down or disabled") if down else WELL


def memory(answer: Answer, expected: Expected) -> Opinion:
    rows = [[int(word) for word in line.split()[:2]] for line in answer.text.strip().splitlines()]
    found = (sum(count for count, _ in rows), sum(count * size for count, size in rows))
    wanted = (int(expected["dimms"]), int(expected["total"]))
    return (
        WELL
        if found == wanted
        else error(f"{found[0]} modules, {found[1]} GB; {wanted[0]} and {wanted[1]} should be there")
    )


def governor(answer: Answer, expected: Expected) -> Opinion:
    found = answer.text.split()
    wanted = str(expected.get("equal", "performance"))
    return (
        WELL
        if set(found) == {wanted} and len(answer.text.splitlines()) == 1
        else error(f"{' '.join(found)} instead of {wanted}")
    )


def blocks(answer: Answer, expected: Expected) -> Opinion:
    order, least = int(expected.get("order", 8)), int(expected.get("least", 10))
    rows = [_BUDDY.match(line) for line in answer.text.splitlines() if line.strip()]
    for row in rows:
        if row is None:
            raise ValueError("no line of buddyinfo")
        if row.group(2) == "Normal" and not any(int(count) >= least for count in row.group(3).split()[order:]):
            return error(f"node {row.group(1)}: no {least} free blocks of order {order} or more")
    return WELL


def uptime(answer: Answer, expected: Expected) -> Opinion:
    up_s, least_s = float(answer.text.split()[0]), float(expected.get("least", 600))
    return WELL if up_s > least_s else warning(f"up for {up_s:.0f} s only")


def says_something(answer: Answer, expected: Expected) -> Opinion:
    return (
        WELL if not answer.failed and answer.text.strip() else error(f"status {answer.statuses[:1]}, nothing to show")
    )


def succeeds(answer: Answer, expected: Expected) -> Opinion:
    return error(f"status {answer.statuses[0]}: {answer.text}") if answer.failed else WELL


def process(answer: Answer, expected: Expected) -> Opinion:
    return WELL if answer.text.strip() else error("no such process")


def sensors(answer: Answer, expected: Expected) -> Opinion:
    """Fans and power supplies of `ipmi-sensors --comma-separated-output`; lost redundancy alone is a warning."""
    worst, told = Severity.INFO, []
    for line in answer.text.splitlines():
        row = _SENSOR.match(line)
        if row is None:
            continue
        name, kind, states = row.group(1).lower(), row.group(2).lower(), re.findall(r"'([^']*)'", row.group(5))
        wanted, severity = _sensor_wants(name, kind)
        odd = [state for state in states if state.lower() != wanted]
        if wanted and odd:
            worst = severity if worst is not Severity.ERROR else worst
            told.append(f"{row.group(1)}: {', '.join(odd)}")
    return Opinion(worst, "; ".join(told)[:500])


def _sensor_wants(name: str, kind: str) -> tuple[str, Severity]:
    if kind == "fan":
        return "ok", Severity.ERROR
    if kind != "power supply":
        return "", Severity.INFO
    if "redundancy" in name:
        return "fully redundant", Severity.WARNING
    return ("presence detected" if "status" in name else "ok"), Severity.ERROR


def event_log(answer: Answer, expected: Expected) -> Opinion:
    bad = [
        line
        for line in answer.text.splitlines()
        if "Asserted" in line and "Deasserted" not in line and _EVENTS.search(line)
    ]
    return error("; ".join(bad[:4])) if bad else WELL


def node_state(answer: Answer, expected: Expected) -> Opinion:
    state = answer.text.strip().lower()
    if any(word in state for word in _BAD_STATES) or not any(word in state for word in _GOOD_STATES):
        return warning(f"the scheduler calls it {state}")
    return WELL


def cluster_state(answer: Answer, expected: Expected) -> Opinion:
    rows = [(int(line.split()[0]), line) for line in answer.text.splitlines() if line.strip()]
    bad = sum(count for count, line in rows if "DOWN" in line or "DRAIN" in line)
    percent = 100.0 * bad / sum(count for count, _ in rows)
    text = f"{percent:.1f} % of the nodes are down or drained"
    if percent > float(expected.get("most", 25)):
        return error(text)
    return warning(text) if percent > float(expected.get("warning", 15)) else WELL


def usage(column: int) -> Judge:
    def inner(answer: Answer, expected: Expected) -> Opinion:
        used = int(answer.text.splitlines()[1].split("%")[column].strip())
        if used > int(expected.get("most", 85)):
            return error(f"{used} % are used")
        return warning(f"{used} % are used") if used > int(expected.get("warning", 80)) else WELL

    return inner


def mounts(answer: Answer, expected: Expected) -> Opinion:
    """answer: what is mounted; expected.wanted: what should be."""
    missing = [path for path in str(expected["wanted"]).split() if path not in answer.text.split()]
    return error(f"not mounted: {' '.join(missing)}") if missing else WELL


def there(wanted: bool) -> Judge:
    def inner(answer: Answer, expected: Expected) -> Opinion:
        return (
            WELL
            if (answer.text.strip().lower() == "true") is wanted
            else error("is there" if not wanted else "is not there")
        )

    return inner


def size(answer: Answer, expected: Expected) -> Opinion:
    found = _SIZE.match(answer.text)
    if found is None:
        raise ValueError(f"{answer.text!r} is no size")
    size, value = float(found.group(1)), float(expected["value"])
    holds = {"<": size < value, "<=": size <= value, ">": size > value, ">=": size >= value, "=": size == value}
    return (
        WELL
        if holds[str(expected["operator"])]
        else error(f"{answer.text.strip()} is not {expected['operator']} {value:g}")
    )


def flaps(answer: Answer, expected: Expected) -> Opinion:
    if answer.statuses and answer.statuses[0] > 1:  # grep says 1 where it finds nothing
        return warning(f"the command failed with status {answer.statuses[0]}")
    lost = [line for line in answer.text.splitlines() if line.strip()]
    if any(re.search(r"\bib\w*", line) for line in lost):
        return error("an InfiniBand link lost its carrier")
    return warning("a link lost its carrier") if any("eth" in line for line in lost) else WELL


def xids(answer: Answer, expected: Expected) -> Opinion:
    said = [one for line in answer.text.splitlines() if (one := xid.read(line)) is not None]
    worst = [one for one in said if one.severity in (Severity.FATAL, Severity.ERROR) and one.fault not in _OWN]
    text = ", ".join(dict.fromkeys(one.check for one in worst or said))
    return error(text) if worst else warning(text) if said else WELL


def graded(answer: Answer, expected: Expected) -> Opinion:
    """Lines of machine checks or bus errors: any is a warning, an uncorrected one an error."""
    lines = [line for line in answer.text.splitlines() if line.strip() and "enabled" not in line]
    grave = [line for line in lines if _FATAL_LINES.search(line.replace("Non-Fatal", ""))]
    return error(grave[0]) if grave else warning(lines[0]) if lines else WELL


def nothing(answer: Answer, expected: Expected) -> Opinion:
    return error(answer.text) if answer.text.strip() else WELL


def zombies(answer: Answer, expected: Expected) -> Opinion:
    ages = [int(line.split()[-1]) for line in answer.text.splitlines() if len(line.split()) >= 5]
    old = sum(age > int(expected.get("most_s", 300)) for age in ages)
    return warning(f"{old} zombie processes") if old else WELL


def _numbers(answer: Answer) -> Sequence[float]:
    return [float(word) for word in answer.text.replace(",", " ").split()]


def any_over(answer: Answer, expected: Expected) -> Opinion:
    over = [value for value in _numbers(answer) if value > float(expected.get("most", 0))]
    return error(f"{over[0]:g} is more than {expected.get('most', 0)}") if over else WELL


def retired(answer: Answer, expected: Expected) -> Opinion:
    """Pages retired for single and for double bit errors, and whether more wait for a reset."""
    single, double, pending = _numbers(answer)[:3]
    if single + double > float(expected.get("most", 10)) or pending:
        return error(f"{single:g} and {double:g} pages are retired, {pending:g} wait")
    return WELL


def same(answer: Answer, expected: Expected) -> Opinion:
    found = answer.text.split("\n")
    wanted = str(expected.get("equal") or found[0])
    other = next((one for one in found if one.strip() != wanted), None)
    return WELL if other is None else error(f"{other!r} instead of {wanted!r}")


def bandwidth(answer: Answer, expected: Expected) -> Opinion:
    value = float(answer.text)
    if value < float(expected["least"]):
        return error(f"{value:g} is less than {expected['least']}")
    return warning(f"{value:g} is low") if value < float(expected.get("warning", expected["least"])) else WELL

"""Every labelled line and command output that others' agents were tested with is judged as they judge it."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from detectors.has.commands import judge
from detectors.has.outputs import Answer
from detectors.has.xid import key_of
from detectors.npd.noted import Noted
from detectors.npd.offline import Logs
from detectors.npd.prefilter import is_installed
from detectors.npd.reading import Reading
from detectors.npd.rules import Rules
from holdfast.faults import Severity
from holdfast.ports import Input
from tests.field.where import data

NAMES = tomllib.loads((Path(__file__).parent / "names.toml").read_text(encoding="utf-8"))
LINES = ("gpud_kernel", "gpud_sxid", "nvsentinel_syslog", "xid_lines_labelled")
FAST = [False, True] if is_installed() else [False]

# NVIDIA's decode table calls these two units' error 4 fatal, as the driver does in the line; gpud calls it a warning.
UNDECIDED = ("TLW_RX/", "TLW_TX/")


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data("loglines", f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def read(text: str, *, fast: bool = False) -> list[Noted]:
    reading = Reading(Rules.read(), fast=fast)
    reading.feed("log", 1, (text + "\n").encode())
    return list(reading.found.values())


def disputed(name: str) -> set[str]:
    """Lines of whom the labels say two things at once: there nobody can be right."""
    said: dict[tuple[str, str], set[str]] = {}
    for row in rows_of(name):
        for key, value in row["expect"].items():
            said.setdefault((row["text"], key), set()).add(json.dumps(value))
    return {text for (text, _), values in said.items() if len(values) > 1}


def wanted_of(expect: dict[str, Any]) -> dict[str, Any]:
    """Code, device, event and instance that a label asks for, in one form; what it is silent about is left out."""
    wanted: dict[str, Any] = {}
    for key in ("xid", "sxid", "expectedXIDCode"):
        if key in expect:
            wanted["code"] = int(expect[key]) if expect[key] is not None else None
    for key in ("device", "expectedPCIAddr", "expectPCI"):
        if key in expect:
            wanted["device"] = key_of(str(expect[key]).removeprefix("PCI:")) if expect[key] else None
    for key in ("event", "wantPattern"):
        if key in expect:
            wanted["event"] = expect[key]
    for key, label in (("instance", "gpu_instance"), ("caused_by", "root_xid"), ("process", "process")):
        if label in expect:
            wanted[key] = expect[label]
    if expect.get("expectedSuccess") == "false":
        wanted["code"] = None
    return wanted


def said_of(found: list[Noted]) -> dict[str, Any]:
    one = found[0] if found else None
    if one is None:
        return {"code": None, "device": None, "event": None, "instance": "", "caused_by": None, "process": None}
    process = f"{one.detail.get('process', '')}:{one.detail.get('pid', '')}"
    device = key_of(one.device) if one.device and one.code is not None else None
    return {
        "code": one.code, "device": device, "event": NAMES["event"].get(one.check, [one.check]), "instance": one.instance,
        "caused_by": one.caused_by, "process": process,
    }  # fmt: skip


@pytest.mark.parametrize("fast", FAST, ids=["by words", "by expressions"][: len(FAST)])
@pytest.mark.parametrize("name", LINES)
def test_code_device_and_event_of_every_line(name: str, fast: bool) -> None:
    wrong = []
    for row in rows_of(name):
        if row["text"] in disputed(name):
            continue
        wanted, said = wanted_of(row["expect"]), said_of(read(row["text"], fast=fast))
        for key, value in wanted.items():
            given = said[key]
            if given != value and not (isinstance(given, list) and value in given):
                wrong.append((row["text"], key, value, given))
    assert wrong == []


def test_near_misses_are_none() -> None:
    wrong = [row["text"] for row in rows_of("gpud_kernel") if _is_none(row["expect"]) and read(row["text"])]
    assert wrong == []


def _is_none(expect: dict[str, Any]) -> bool:
    raw = expect.get("raw", {})
    return (
        ("event" in expect and expect["event"] is None) or raw.get("want") == "false" or raw.get("wantFound") == "false"
    )


def test_what_is_an_event_without_a_name_is_one() -> None:
    rows = [row for row in rows_of("gpud_kernel") if row["expect"].get("raw", {}).get("want") == "true"]
    assert [row["text"] for row in rows if not read(row["text"])] == []


def test_an_nvlink_error_is_as_grave_as_its_decode_says() -> None:
    grave = {"Warning": (Severity.WARNING, Severity.INFO), "Fatal": (Severity.FATAL,)}
    rows = [row for row in rows_of("xid_lines_labelled") if "eventtype" in row["expect"]]
    rows = [row for row in rows if not any(unit in row["text"] for unit in UNDECIDED)]
    assert [row["text"] for row in rows if read(row["text"])[0].severity not in grave[row["expect"]["eventtype"]]] == []


def test_the_process_that_panicked_is_named() -> None:
    wrong = []
    for row in rows_of("gpud_kernel"):
        raw = row["expect"].get("raw", {})
        if raw.get("wantFound") == "true":
            [one] = read(f"Kernel panic - not syncing: hung_task: blocked tasks\n{row['text']}")
            said = (one.detail.get("cpu"), one.detail.get("pid"), one.detail.get("process"))
            wrong += [row["text"]] if said != (raw["wantCPU"], raw["wantPID"], raw["wantProcess"]) else []
    assert wrong == []


# --- command outputs


def answers_of(value: Any) -> list[Answer]:
    """Each command's answer in a row's value, whatever its form."""
    if isinstance(value, list):
        return [answer for one in value for answer in answers_of(one)]
    if not isinstance(value, dict) or value.get("call") not in (
        "PipedShellCommandOut",
        "FakeShellCommandOut",
        "CompletedProcess",
    ):
        return []
    known = value.get("kw", {})
    arguments = value.get("args", [])
    if value["call"] == "PipedShellCommandOut":
        return [Answer(tuple(arguments[0]), str(arguments[1]))]
    if "returncode" in known:
        text = known.get("stdout", "")
        return [Answer((int(known["returncode"]),), text if isinstance(text, str) else "")]
    return [Answer((int(arguments[1]),), str(arguments[2]))] if len(arguments) == 3 else []


def exit_of(value: Any) -> str | None:
    """The exit a row expects: OK, WARN or CRITICAL."""
    if isinstance(value, str):
        return value.removeprefix("ExitCode.") if value.startswith("ExitCode.") else None
    return (
        next((found for one in value if (found := exit_of(one)) is not None), None) if isinstance(value, list) else None
    )


def texted(value: Any, parts: list[int] | None) -> str:
    """A reading as a command would print it."""
    if isinstance(value, dict):  # the fields of a record
        value = value.get("args", [])
    if isinstance(value, list):
        chosen = value if parts is None else [value[n] for n in parts]
        return "\n".join(map(str, chosen)) if chosen and isinstance(chosen[0], str) else " ".join(map(str, chosen))
    return str(value)


def asked(row: dict[str, Any]) -> tuple[str, Answer, dict[str, Any]] | None:
    """Our check, the answer it is shown and what it expects; None where a row holds no output to judge."""
    file = Path(row["path"]).name
    name = row["at"].split(".")[-1]
    known = NAMES["command"].get(f"{file}/{name}") or NAMES["command"].get(name)
    values = row["values"] if isinstance(row["values"], list) else [row["values"]]
    if known is None or file in ("test_check_blockdev.py", "test_check_pci.py", "test_killswitches.py"):
        return None
    expected, given = dict(known.get("expected", {})), list(values[:-1])
    if known["check"] == "mounts":
        wanted, mounted = answers_of(given[0])
        return known["check"], mounted, {"wanted": wanted.text}
    if answers := answers_of(given):
        return known["check"], answers[0], expected
    if "order" in known and known["order"] != ["text"]:
        flat = given if len(given) > 1 else given[0]
        told = dict(zip(known["order"], flat if isinstance(flat, list) else [flat], strict=False))
        text = texted(told.pop("text"), known.get("parts"))
        return known["check"], Answer((0,), text), expected | told
    return known["check"], Answer((0,), texted(given[0], known.get("parts"))), expected


def test_every_command_output_is_judged_by_its_severity() -> None:
    wrong, judged = [], 0
    for row in rows_of("gcm_checks"):
        question, wanted = asked(row), exit_of(row["values"])
        if question is None or wanted not in NAMES["exit"].values():
            continue
        judged += 1
        check, answer, expected = question
        opinion = judge(check, answer, expected)
        if NAMES["exit"][opinion.severity.value] != wanted:
            wrong.append((row["at"], check, row["values"], opinion))
    assert wrong == []
    assert judged > 0


# --- whole logs


@pytest.mark.parametrize("name", ["kmsg.1.log", "kmsg.2.peermem.log"])
def test_a_healthy_nodes_log_tells_of_no_error(name: str) -> None:
    path = data("hardware", "logs", name)
    rows = list(Logs().findings([Input(name=name, path=path)], {}))
    assert [row for row in rows if row["severity"] in ("error", "fatal")] == []


def test_a_fabric_managers_log_tells_of_its_switch() -> None:
    path = data("hardware", "logs", "fabricmanager.log")
    rows = list(Logs().findings([Input(name="fabricmanager.log", path=path)], {}))
    assert [(row["code"], row["device"]) for row in rows] == [(12028, "00000000:86:00.0")]

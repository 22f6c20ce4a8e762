"""`holdfast diagnose logs`: kernel, driver, fabric manager and system logs on disk -> findings, and one verdict."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from detectors.npd.noted import Noted
from detectors.npd.reading import Reading
from detectors.npd.rules import Rules
from detectors.scan import blocks
from holdfast.faults import Action, Fault, Judgement, NodeAction, Severity
from holdfast.ports import Input
from holdfast.topology import Kind
from holdfast.verdict import Culprit, Evidence, Json, Skipped, Verdict

_KERNEL_LINE = re.compile(
    rb"^(?:(?:kern|user|daemon)\s*:\w+\s*: *)?(?:<\d+>)?(?:\[ *\d+\.\d{6}\]|\[\w{3} \w{3} +\d+ [\d:]{8} \d{4}\]|\d{1,2},\d+,\d+,[^;]*;"
    rb"|\w{3} +\d+ [\d:]{8} \S+ kernel: |\S+ \S+ kernel: |\[\w{3} \d+ \d{4} [\d:]{8}\] \[\w+\] \[tid )",
    re.MULTILINE,
)
_TELLS = (b"NVRM: Xid", b"SXid (PCI", b'"_TRANSPORT":"kernel"', b"dmesg-erst-", b"Kernel panic - not syncing")
_SURE = {Severity.FATAL: 0.9, Severity.ERROR: 0.7}
_KINDS = {
    Fault.GPU_HW: Kind.DEVICE, Fault.GPU_MEM: Kind.DEVICE, Fault.GPU_THERMAL_POWER: Kind.DEVICE, Fault.NVLINK: Kind.DEVICE,
    Fault.PCIE: Kind.DEVICE, Fault.NIC: Kind.NIC,
}  # fmt: skip
_OWN = frozenset({Fault.USER_CODE, Fault.SOFTWARE})
_ORDER = {Severity.FATAL: 0, Severity.ERROR: 1, Severity.WARNING: 2, Severity.INFO: 3}


class Logs:
    """The diagnoser `logs`. options: all, to tell of lines without a finding too."""

    kinds: Mapping[str, str] = {
        "kernel_log": "kernel, driver, fabric manager or system log: dmesg, kmsg, journal, syslog"
    }

    def recognise(self, name: str, head: bytes) -> str:
        if any(word in head for word in _TELLS):
            return "kernel_log"
        lines = head.count(b"\n") + 1
        return "kernel_log" if len(_KERNEL_LINE.findall(head)) * 2 > lines else ""

    def findings(self, inputs: Sequence[Input], options: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """The findings of each file in the order of their lines, as the contract has them.

        A file that cannot be read is told on stderr, the rest is read.
        """
        rules = Rules.read()
        for given in inputs:
            reading = Reading(rules)
            skipped = _read(reading, given)
            if skipped is not None:
                print(f"holdfast: {skipped.file}: {skipped.reason}", file=sys.stderr)
            yield from _rows(reading, given.name, every=bool(options.get("all")))

    def diagnose(self, inputs: Sequence[Input], options: Mapping[str, str]) -> Verdict:
        reading = Reading(Rules.read())
        skipped = [answer for given in inputs if (answer := _read(reading, given)) is not None]
        return msgspec.structs.replace(verdict_of(list(reading.found.values()), reading.lines), skipped=tuple(skipped))


def _read(reading: Reading, given: Input) -> Skipped | None:
    try:
        with given.path.open("rb") as file:
            for first, block in blocks(file):
                reading.feed(given.name, first, block)
    except OSError as error:
        return Skipped(given.name, error.strerror or str(error))
    return None


def _rows(reading: Reading, name: str, *, every: bool) -> Iterator[dict[str, Any]]:
    noted = sorted(reading.found.values(), key=lambda n: n.line)
    if not every:  # that something is well again is news only to who saw it unwell
        yield from (as_row(one) for one in noted if not one.recovery)
        return
    by_line: dict[int, list[Noted]] = {}
    for one in noted:
        by_line.setdefault(one.line, []).append(one)
    for number in range(1, reading.lines + 1):
        if number in by_line:
            yield from (as_row(one) for one in by_line[number])
        else:
            yield {"file": name, "line": number, "check": None}


def as_row(noted: Noted) -> dict[str, Any]:
    """A finding as the contract prints it."""
    row: dict[str, Any] = {
        "file": noted.file, "line": noted.line, "at": noted.at, "check": noted.check, "fault": noted.fault.value,
        "severity": noted.severity.value, "code": noted.code, "device": noted.device, "action": noted.action.value,
        "node_action": noted.node_action.value, "text": noted.text, "count": noted.count,
    }  # fmt: skip
    extra = {
        "uptime_s": noted.uptime_s, "host": noted.host or None, "instance": noted.instance or None, "caused_by": noted.caused_by,
        "cleared": noted.cleared or None, "detail": noted.detail or None, "recovery": noted.recovery or None,
    }  # fmt: skip
    return row | {key: value for key, value in extra.items() if value is not None}


def verdict_of(noted: Sequence[Noted], lines: int) -> Verdict:
    """One verdict of a node's findings: the most severe is the root, errors of the same severity by their time."""
    serious = [
        one for one in noted if one.severity in _SURE and one.caused_by is None and not one.cleared and not one.recovery
    ]
    serious.sort(key=lambda n: (_ORDER[n.severity], n.fault in _OWN, n.line))
    detail: dict[str, Json] = {
        "findings": [as_row(one) for one in [one for one in noted if not one.recovery][:200]],
        "lines": lines,
    }
    if not serious:
        return Verdict(verdict=Judgement.HEALTHY, detail=detail)
    root = serious[0]
    evidence = tuple(Evidence(one.file, one.line, one.text) for one in serious[:20])
    blamed = {
        _culprit(one).id: _culprit(one)
        for one in reversed(serious)
        if one.severity is root.severity and one.fault not in _OWN
    }
    own = root.fault in _OWN
    return Verdict(
        verdict=Judgement.NOBODY if own else Judgement.CULPRIT, fault=root.fault, action=Action.NONE if own else root.action,
        culprits=() if own else tuple(reversed(blamed.values())), evidence=evidence,
        detail=detail | {"node_action": max((one.node_action for one in serious), key=list(NodeAction).index).value},
    )  # fmt: skip


def _culprit(one: Noted) -> Culprit:
    kind = _KINDS.get(one.fault, Kind.NODE) if one.device else Kind.NODE
    id = one.device if one.device and kind is not Kind.NODE else one.host or "this node"
    return Culprit(
        kind=kind,
        id=id,
        cause=one.check,
        confidence=_SURE[one.severity],
        evidence=(f"{one.file}:{one.line}: {one.text}",),
    )

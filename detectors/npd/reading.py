"""Reads a node's log in blocks: finds what rules and catalogues know, one finding per device and code, with a count."""

from collections.abc import Iterator

import msgspec

from detectors.has import xid
from detectors.npd.rules import Rule, Rules
from detectors.npd.stamps import Stamped, stamped
from detectors.scan import scan_of
from holdfast.faults import Action, Fault, NodeAction, Severity

MOST_FINDINGS = 20_000

# A message of several lines is still the same after so many, others between them included.
_REACH = 400
_OFF_BUS_LINES = 4


class Noted(msgspec.Struct, kw_only=True):
    """A finding in a log. line: its first, from 1; count: how often it was said; last_*: when it was last said."""

    file: str
    line: int
    at: float | None
    uptime_s: float | None
    check: str
    fault: Fault
    severity: Severity
    code: int | None
    device: str | None
    action: Action
    node_action: NodeAction
    text: str
    host: str = ""
    instance: str = ""
    caused_by: int | None = None
    count: int = 1
    last_line: int = 0
    last_at: float | None = None
    cleared: bool = False


class Memory(msgspec.Struct):
    """A reading as it is kept, a message of several lines that has begun included: going on from it changes nothing."""

    found: list[tuple[tuple[str, str, str, str], Noted]] = []
    off_bus: dict[str, tuple[int, list[str]]] = {}
    dropped: int = 0
    lines: int = 0


class Reading:
    """What a node's log has said; bounded whatever comes. Findings over the bound are counted in `dropped`."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._scan = scan_of((*xid.WORDS, *rules.words))
        self.found: dict[tuple[str, str, str, str], Noted] = {}
        self.dropped = 0
        self.lines = 0
        self._off_bus: dict[str, tuple[int, list[str]]] = {}
        self.touched: list[Noted] = []

    def memory(self) -> Memory:
        """What is remembered, to be kept elsewhere."""
        return Memory(list(self.found.items()), self._off_bus, self.dropped, self.lines)

    def recall(self, memory: Memory) -> None:
        """Go on from what was kept."""
        self.found, self._off_bus = dict(memory.found), memory.off_bus
        self.dropped, self.lines = memory.dropped, memory.lines

    def feed(self, file: str, first: int, block: bytes) -> None:
        """Take whole lines of one file, in order; `touched` is then what they say, new or again.

        first: number of the block's first line, from 1
        """
        self.touched = []
        starts, hits = self._scan.lines(block)
        total = len(starts) - 1
        self.lines += total
        for row in self._rows(file, first, total, hits):
            line = block[starts[row] : starts[row + 1]].decode("utf-8", "replace").rstrip("\r\n")
            words = {self._scan.words[n] for n in hits.get(row, ())}
            self._take(file, first + row, line[:4000], words)

    def _rows(self, file: str, first: int, total: int, hits: dict[int, set[int]]) -> Iterator[int]:
        """Rows that hold a word, and those just after one that may go on in the next lines."""
        rows = sorted(hits)
        if any("NVRM: The NVIDIA GPU" in self._scan.words[n] for numbers in hits.values() for n in numbers):
            begun = {
                row for row, numbers in hits.items() if any("The NVIDIA GPU" in self._scan.words[n] for n in numbers)
            }
            rows = sorted({*rows, *(row + n for row in begun for n in range(_OFF_BUS_LINES) if row + n < total)})
        if file in self._off_bus:
            rows = sorted({*rows, *range(min(_OFF_BUS_LINES, total))})
        return iter(rows)

    def _take(self, file: str, number: int, line: str, words: set[str]) -> None:
        message = stamped(line)
        off = self._falling(file, number, message.text)
        if off is not None:
            self._device_error(file, off[0], message, off[1])
            return
        said = xid.read(message.text)
        if said is not None:
            self._device_error(file, number, message, said)
            return
        for rule, device in self.rules.fitting(message.text, words):
            self._rule(file, number, message, rule, device)

    def _falling(self, file: str, number: int, text: str) -> tuple[int, xid.Said] | None:
        """A GPU that has fallen off the bus is told in several lines: (first of them, the error) at the last."""
        begun = self._off_bus.get(file)
        if "NVRM: The NVIDIA GPU" in text:
            self._off_bus[file] = (number, [text])
            return None
        if begun is None:
            return None
        begun[1].append(text)
        said = xid.read_off_bus(begun[1])
        if said is not None or number - begun[0] >= _OFF_BUS_LINES:
            del self._off_bus[file]
        return (begun[0], said) if said is not None else None

    def _device_error(self, file: str, number: int, message: Stamped, said: xid.Said) -> None:
        key = (file, message.host, said.check, f"{xid.key_of(said.device)} {said.instance}")
        self._note(
            key,
            Noted(
                file=file, line=number, at=message.at, uptime_s=message.uptime_s, check=said.check, fault=said.fault,
                severity=said.severity, code=said.code, device=said.device, action=said.action, node_action=said.node_action,
                text=message.text, host=message.host, instance=said.instance, caused_by=said.caused_by,
            ),
        )  # fmt: skip

    def _rule(self, file: str, number: int, message: Stamped, rule: Rule, device: str) -> None:
        if rule.role != "finding":
            self._belongs(file, number, message, rule, device)
            if rule.role != "follows" or self._near(file, message.host, rule.of, number):
                return
        for begun in rule.replaces:
            earlier = self._near(file, message.host, begun, number)
            if earlier is not None:
                replaced = self.found.pop(earlier)
                replaced.cleared = True
                self.touched.append(replaced)
        key = (file, message.host, f"npd.{rule.id}", device)
        self._note(
            key,
            Noted(
                file=file, line=number, at=message.at, uptime_s=message.uptime_s, check=f"npd.{rule.id}", fault=rule.fault,
                severity=rule.severity, code=None, device=device or None, action=rule.action, node_action=rule.node_action,
                text=message.text, host=message.host,
            ),
        )  # fmt: skip

    def _belongs(self, file: str, number: int, message: Stamped, rule: Rule, device: str) -> None:
        key = self._near(file, message.host, rule.of, number)
        if rule.role == "clears":
            cleared = self.found.get((file, message.host, f"npd.{rule.of}", device))
            if cleared is not None:
                cleared.cleared = True
                self.touched.append(cleared)
        elif key is not None and rule.role == "frame":
            self.found[key].fault = rule.fault

    def _near(self, file: str, host: str, rule: str, number: int) -> tuple[str, str, str, str] | None:
        for key, noted in reversed(self.found.items()):
            if key[:2] == (file, host) and key[2] == f"npd.{rule}" and number - noted.last_line <= _REACH:
                return key
        return None

    def _note(self, key: tuple[str, str, str, str], noted: Noted) -> None:
        old = self.found.get(key)
        noted.last_line, noted.last_at = noted.line, noted.at
        if old is None:
            if len(self.found) < MOST_FINDINGS:
                self.found[key] = noted
                self.touched.append(noted)
            else:
                self.dropped += 1
            return
        self.touched.append(old)
        old.count += 1
        old.last_line, old.last_at, old.cleared = noted.line, noted.at, False
        if _RANK[noted.severity] > _RANK[old.severity]:  # the worst that was said of it counts
            old.severity, old.action, old.node_action, old.caused_by = (
                noted.severity,
                noted.action,
                noted.node_action,
                noted.caused_by,
            )


_RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2, Severity.FATAL: 3}

"""Reads a node's log in blocks: finds what rules and catalogues know, one finding per device and code, with a count."""

from collections.abc import Iterable

import msgspec

from detectors.catalog.tables import follows
from detectors.has import npu, xid
from detectors.npd.noted import Key, Noted, Notes
from detectors.npd.prefilter import is_installed
from detectors.npd.rules import Rule, Rules
from detectors.npd.sieve import sieve_of
from detectors.npd.stamps import Stamped, stamped
from detectors.scan import rows
from holdfast.faults import Action, NodeAction, Severity

# A message of several lines is still the same after so many, others between them included.
_REACH = 400
_OFF_BUS_LINES = 4
_MOST_BYTES = 16_000
_MOST_TEXT = 4_000
_MOST_DEVICES = 4_096

# Number 0 of the sieve is what a device's driver says, the rules follow.
_DEVICE = 0
_NONE: frozenset[int] = frozenset()


class Recent(msgspec.Struct):
    """The last error of its own that a device has told. line and time: when it was last said."""

    code: int
    line: int
    at: float | None
    uptime_s: float | None


class Memory(msgspec.Struct):
    """A reading as it is kept, a message of several lines that has begun included: going on from it changes nothing."""

    found: list[tuple[Key, Noted]] = []
    off_bus: dict[str, list[tuple[int, list[str]]]] = {}
    recent: dict[str, list[Recent]] = {}
    dropped: int = 0
    lines: int = 0


class Reading:
    """What a node's log has said; bounded whatever comes. Findings over the bound are counted in `dropped`.

    fast: by whole expressions instead of words; None: where the extra `[fast]` is installed. The findings are the same.
    """

    def __init__(self, rules: Rules, *, fast: bool | None = None) -> None:
        self.rules = rules
        expressions = ("", *(rule.match for rule in rules.rules))
        self._sieve = sieve_of(
            ((*xid.WORDS, *npu.WORDS), *rules.words), expressions, fast=is_installed() if fast is None else fast
        )
        self._notes = Notes()
        self.lines = 0
        self._off_bus: dict[str, list[tuple[int, list[str]]]] = {}
        self._recent: dict[str, list[Recent]] = {}

    @property
    def found(self) -> dict[Key, Noted]:
        """Everything that was found so far."""
        return self._notes.found

    @property
    def touched(self) -> list[Noted]:
        """What the last block said, new or again, in its order."""
        return self._notes.touched

    @property
    def dropped(self) -> int:
        """Findings there was no room for."""
        return self._notes.dropped

    def memory(self) -> Memory:
        """What is remembered, to be kept elsewhere."""
        return Memory(list(self.found.items()), self._off_bus, self._recent, self.dropped, self.lines)

    def recall(self, memory: Memory) -> None:
        """Go on from what was kept."""
        self._notes.recall(memory.found, memory.dropped)
        self._off_bus, self._recent, self.lines = memory.off_bus, memory.recent, memory.lines

    def feed(self, file: str, first: int, block: bytes) -> None:
        """Take whole lines of one file, in order; `touched` is then what they say, new or again.

        first: number of the block's first line, from 1
        """
        self._notes.touched = []
        starts, hits = self._sieve.lines(block)
        total = len(starts) - 1
        self.lines += total
        everywhere = self._sieve.everywhere
        for row in range(total) if everywhere else rows(hits, total, lambda: file in self._off_bus):
            numbers = hits.get(row, _NONE) | everywhere if everywhere else hits.get(row, _NONE)
            at = int(starts[row])
            line = block[at : min(int(starts[row + 1]), at + _MOST_BYTES)]
            if (
                _DEVICE in numbers
                or line[:1] == b"{"
                or file in self._off_bus
                or self._may_say(file, first + row, line, numbers)
            ):
                self._take(file, first + row, line.decode("utf-8", "replace").rstrip("\r\n"), numbers)

    def _may_say(self, file: str, at: int, line: bytes, numbers: Iterable[int]) -> bool:
        """Whether a line is worth to be taken apart: most that hold a word are none of a rule's business."""
        for number in numbers:
            beside = self.rules.beside.get(number - 1)
            if beside is not None and not self._notes.awaits(file, beside, at, _REACH):
                continue
            if self._sieve.whole or self.rules.may_fit(number - 1, line):
                return True
        return False

    def _take(self, file: str, number: int, line: str, numbers: Iterable[int]) -> None:
        message = stamped(line)
        if line[:1] == "{":  # a record of a journal writes its message in its own way
            numbers = self._sieve.within(message.text) | self._sieve.everywhere
        if len(message.text) > _MOST_TEXT:
            message = msgspec.structs.replace(message, text=message.text[:_MOST_TEXT])
        if _DEVICE in numbers or file in self._off_bus:
            off = self._falling(file, number, message.text)
            said = off[1] if off is not None else xid.read(message.text)
            if said is not None:
                self._device_error(file, off[0] if off is not None else number, message, said)
                return
            if (told := npu.read(message.text)) is not None:
                self._npu_error(file, number, message, told)
                return
        data = message.text.encode("utf-8", "replace")
        open_ = [n - 1 for n in numbers if n != _DEVICE and not self._known(file, number, message, n - 1, data)]
        for rule, named in self.rules.fitting(data, open_):
            self._rule(file, number, message, rule, named)

    def _known(self, file: str, line: int, message: Stamped, number: int, data: bytes) -> bool:
        """Count a rule's finding of the node that has been made: a storm says nothing new."""
        if not self.rules.of_node[number]:
            return False
        key = (file, message.host, self.rules.checks[number], "")
        if key not in self._notes.found or not self.rules.fits(number, data):
            return False
        rule = self.rules.rules[number]
        if any(self._near(file, message.host, begun, line) is not None for begun in rule.replaces):
            return False
        return self._notes.again(key, line, message, rule.severity, {}, message.repeats)

    def _falling(self, file: str, number: int, text: str) -> tuple[int, xid.Said] | None:
        """A GPU that has fallen off the bus is told in several lines: (first of them, the error) at the last."""
        begun = self._off_bus.get(file, [])
        if "NVRM: The NVIDIA GPU" in text and xid.read(text) is None:
            self._off_bus[file] = [*begun, (number, [text])][-8:]
            return None
        for n, (first, lines) in enumerate(begun):
            lines.append(text)
            said = xid.read_off_bus(lines)
            if said is not None:
                del begun[n]  # the oldest that waits for its end; those behind it wait for theirs
                self._wait_for(file, begun, number)
                return first, said
        self._wait_for(file, begun, number)
        return None

    def _wait_for(self, file: str, begun: list[tuple[int, list[str]]], number: int) -> None:
        waiting = [one for one in begun if number - one[0] < _OFF_BUS_LINES]
        if waiting:
            self._off_bus[file] = waiting
        else:
            self._off_bus.pop(file, None)

    def _device_error(self, file: str, number: int, message: Stamped, said: xid.Said) -> None:
        place = xid.key_of(said.device) if said.device else ""
        said = self._attached(f"{file} {message.host} {place}", number, message, said)
        key = (file, message.host, said.check, f"{place} {said.instance}")
        repeats = 0 if said.goes_on else message.repeats
        if not said.recovered and self._notes.again(key, number, message, said.severity, dict(said.detail), repeats):
            return
        self._notes.add(
            key,
            Noted(
                file=file, line=number, at=message.at, uptime_s=message.uptime_s, check=said.check, fault=said.fault,
                severity=said.severity, code=said.code, device=said.device or None, action=said.action, node_action=said.node_action,
                text=message.text, host=message.host, instance=said.instance, caused_by=said.caused_by, detail=dict(said.detail),
                recovery=said.recovered, sticky=said.sticky,
            ),
            repeats=repeats,
        )  # fmt: skip
        if said.recovered:
            self._clear_device(file, message.host, place)

    def _npu_error(self, file: str, number: int, message: Stamped, told: npu.Told) -> None:
        row = told.row
        self._notes.add(
            (file, message.host, told.check, told.device),
            Noted(
                file=file, line=number, at=message.at, uptime_s=message.uptime_s, check=told.check, fault=row.fault, code=None,
                severity=row.severity, device=told.device or None, action=row.action, node_action=row.node_action, text=message.text,
                host=message.host, detail={"class": row.public_action}, sticky=row.sticky,
            ),
            repeats=message.repeats,
        )  # fmt: skip

    def _attached(self, place: str, number: int, message: Stamped, said: xid.Said) -> xid.Said:
        """The error with the one it only follows from, if that was told of the same device shortly before."""
        recent = self._recent.get(place, [])
        after = follows(said.code) if said.caused_by is None and not said.is_switch else {}
        for last in reversed(recent):
            if last.code in after and _soon(last, number, message, after[last.code]):
                return msgspec.structs.replace(
                    said, caused_by=last.code, severity=Severity.INFO, action=Action.NONE, node_action=NodeAction.NONE
                )
        if said.caused_by is None and not said.is_switch and said.severity is not Severity.INFO:
            if recent and recent[-1].code == said.code:  # a storm
                last = recent[-1]
                last.line, last.at, last.uptime_s = number, message.at, message.uptime_s
                return said
            if len(self._recent) >= _MOST_DEVICES and place not in self._recent:
                del self._recent[next(iter(self._recent))]
            kept = [last for last in recent if last.code != said.code][-15:]
            self._recent[place] = [*kept, Recent(said.code, number, message.at, message.uptime_s)]
        return said

    def _clear_device(self, file: str, host: str, place: str) -> None:
        """A device asks for nothing any more: what it said before is over."""
        self._recent.pop(f"{file} {host} {place}", None)
        for key, noted in self.found.items():
            if (
                key[:2] == (file, host)
                and key[3].split(" ")[0] == place
                and noted.code is not None
                and not noted.recovery
            ):
                noted.cleared = True
                self.touched.append(noted)

    def _rule(self, file: str, number: int, message: Stamped, rule: Rule, named: dict[str, str]) -> None:
        device = named.pop("device", "")
        if rule.role in ("frame", "last"):
            self._of_another(file, number, message, rule, named)
            return
        if rule.role == "follows" and (near := self._near(file, message.host, rule.of, number)) is not None:
            near[1].detail = near[1].detail | {
                name: value for name, value in named.items() if name not in near[1].detail
            }
            return
        if rule.role == "follows" and rule.severity is Severity.INFO:
            return  # means nothing by itself
        if rule.role == "clears":
            self._clear(file, message.host, rule.of, device)
        for begun in rule.replaces:
            earlier = self._near(file, message.host, begun, number)
            if earlier is not None:
                self._notes.take_out(earlier[0])
        key = (file, message.host, rule.check, device)
        if not rule.replaces and self._notes.again(key, number, message, rule.severity, named, message.repeats):
            return
        self._notes.add(
            key,
            Noted(
                file=file, line=number, at=message.at, uptime_s=message.uptime_s, check=rule.check, fault=rule.fault,
                severity=rule.severity, code=None, device=device or None, action=rule.action, node_action=rule.node_action,
                text=message.text, host=message.host, detail=named, recovery=rule.role == "clears", sticky=rule.sticky,
                warnings=rule.warnings,
            ),
            repeats=message.repeats,
        )  # fmt: skip

    def _of_another(self, file: str, number: int, message: Stamped, rule: Rule, named: dict[str, str]) -> None:
        """A line that only says more of a finding: the innermost known frame of its stack, or that no more will be said."""
        near = self._near(file, message.host, rule.of, number)
        if near is None:
            return
        if rule.role == "last":
            near[1].warnings = near[1].count
        elif "waits_in" not in near[1].detail:
            near[1].fault, near[1].detail = rule.fault, near[1].detail | named

    def _clear(self, file: str, host: str, of: str, device: str) -> None:
        for check in of.split():
            for noted in self._notes.of_check(file, host, f"npd.{check}"):
                if device in ("", noted.device or "") and not noted.cleared:
                    noted.cleared = True
                    self.touched.append(noted)

    def _near(self, file: str, host: str, rules: str, number: int) -> tuple[Key, Noted] | None:
        best: tuple[Key, Noted] | None = None
        for rule in rules.split():
            found = self._notes.latest(file, host, f"npd.{rule}")
            if found is not None and number - found[1].last_line <= _REACH:
                best = found if best is None or found[1].last_line > best[1].last_line else best
        return best


def _soon(last: Recent, number: int, message: Stamped, within_s: float) -> bool:
    for before, now in ((last.uptime_s, message.uptime_s), (last.at, message.at)):
        if before is not None and now is not None:
            return 0.0 <= now - before <= within_s
    return number - last.line <= _REACH

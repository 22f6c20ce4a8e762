"""The kernel's word in the live line: one finding per node, device and check, cleared when the node is back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from detectors.has import xid
from detectors.has.history import History, Past
from detectors.has.overrides import Overrides
from detectors.npd.neighbour import Neighbour
from detectors.npd.noted import Noted
from detectors.npd.reading import Memory, Reading
from detectors.npd.rules import Rules
from detectors.npd.stamps import stamped
from holdfast.events import Change, Changes, Finding, Lines, Observation
from holdfast.faults import Fault, Judgement, Perception, Severity
from holdfast.topology import JobId, Kind, NodeId, Target
from holdfast.verdict import Evidence, Json

MOST_NODES = 65_536
SOURCES = ("kmsg:", "journal:", "syslog:", "nodelog:")
_NICS = frozenset({Fault.NIC})
_OWN = frozenset({Fault.USER_CODE, Fault.SOFTWARE})
_BOOT = "Linux version "


class Claim(msgspec.Struct):
    """A finding that stands. counted: how much of its count the history knows; sticky: silence does not end it."""

    finding: Finding
    counted: int = 0
    sticky: bool = False


class _Kept(msgspec.Struct):
    said: int
    claims: dict[str, dict[str, Claim]]
    readings: dict[str, Memory]
    past: dict[str, Past]
    boots: dict[str, int]
    opted_out: set[str]
    neighbours: dict[str, Any]


class KernelLog:
    """Reads `Lines` whose source begins with "kmsg:", "journal:", "syslog:" or "nodelog:".

    rules: a file of the user's own rules, which stand above those of the package
    npd: files of node-problem-detector's own, run as it runs them
    expire_s: a claim that nothing repeats for so long is over
    sticky_s: one that only a reset, a boot or a person ends is over after so long (a reset is not always seen)
    reboots: the same fault seen again after so many is inspected instead of rebooted
    overrides, machines, site: a site's own severities and actions, see `Overrides`
    opt_out: a node with this label is none of our business
    fast: by the extra `[fast]`; None: where it is installed
    """

    consumes = (Lines, Changes)

    def __init__(
        self, *, rules: str = "", npd: Sequence[str] = (), expire_s: float = 3600.0, sticky_s: float = 604_800.0, reboots: int = 2,
        overrides: str = "", machines: Mapping[str, str] | None = None, site: str = "",
        opt_out: str = "holdfast.io/managed=false", fast: bool | None = None,
    ) -> None:  # fmt: skip
        self.rules, self.expire_s, self.sticky_s = Rules.read(rules), expire_s, sticky_s
        self.opt_out, self.fast = opt_out, fast
        self.overrides = Overrides.read(overrides, machines=machines, site=site)
        self._neighbour = Neighbour(npd)
        self._history = History(reboots=reboots)
        self._readings: dict[str, Reading] = {}
        self._claims: dict[str, dict[str, Claim]] = {}
        self._opted_out: set[str] = set()
        self._said = 0

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Changes):
            for change in seen.changes:
                yield from self._on_change(change)
        elif isinstance(seen, Lines) and seen.source.startswith(SOURCES) and seen.lines:
            node = seen.node or seen.source.partition(":")[2]
            if node in self._opted_out:
                return
            boot = next(
                (n for n, line in enumerate(seen.lines) if _BOOT in line and stamped(line).text.startswith(_BOOT)), None
            )
            if boot:  # the last words of the kernel before
                yield from self._read(node, msgspec.structs.replace(seen, lines=seen.lines[:boot]))
            if boot is not None:
                self._history.on_boot(node)
                yield from self._forget(node, seen.at)
                seen = msgspec.structs.replace(seen, lines=seen.lines[boot:], first=seen.first + boot)
            yield from self._read(node, seen)
            yield from self._neighbour.observe(node, seen)

    def tick(self, now: float) -> Iterator[Finding]:
        for node in list(self._claims):
            claims = self._claims[node]
            for key in [
                key
                for key, one in claims.items()
                if now - one.finding.at > (self.sticky_s if one.sticky else self.expire_s)
            ]:
                yield _over(claims.pop(key).finding, now)
            if not claims:
                del self._claims[node]
        yield from self._neighbour.tick(now)

    def _on_change(self, change: Change) -> Iterator[Finding]:
        target = change.target
        if target.kind is Kind.NODE:
            labels = change.detail.get("labels")
            if isinstance(labels, Mapping) and self.opt_out:
                name, _, value = self.opt_out.partition("=")
                out = str(labels.get(name)) == value
                (self._opted_out.add if out else self._opted_out.discard)(target.id)
            if change.state in ("ready", "cleared", "deleted") or target.id in self._opted_out:
                yield from self._forget(target.id, change.at)
        elif target.kind is Kind.DEVICE and change.state in ("reset", "cleared"):
            if change.state == "reset":
                self._history.on_boot(target.node)
            claims = self._claims.get(target.node, {})
            for key in [
                key for key, one in claims.items() if one.finding.target.id in (target.id, xid.key_of(target.id))
            ]:
                yield _over(claims.pop(key).finding, change.at)

    def _read(self, node: str, seen: Lines) -> Iterator[Finding]:
        reading = self._readings.get(node)
        if reading is None:
            while len(self._readings) >= MOST_NODES:
                del self._readings[next(iter(self._readings))]
            reading = self._readings[node] = Reading(self.rules, fast=self.fast)
        reading.feed(seen.file, seen.first, ("\n".join(seen.lines) + "\n").encode("utf-8", "replace"))
        claims = self._claims.setdefault(node, {})
        for noted in {id(noted): noted for noted in reading.touched}.values():
            key = f"{noted.check} {noted.device or ''} {noted.instance}"
            old = claims.get(key)
            if noted.cleared:
                if old is not None:
                    yield _over(claims.pop(key).finding, seen.at)
            elif not noted.recovery and not self._attached(claims, noted):
                yield from self._claim(claims, key, noted, node, seen)

    def _attached(self, claims: dict[str, Claim], noted: Noted) -> bool:
        """Whether an error only follows from one that is claimed, and is told with it."""
        cause = noted.caused_by
        return cause is not None and any(
            one.finding.check == f"xid.{cause}" and one.finding.target.id == xid.key_of(noted.device or "")
            for one in claims.values()
        )

    def _claim(self, claims: dict[str, Claim], key: str, noted: Noted, node: str, seen: Lines) -> Iterator[Finding]:
        old = claims.get(key)
        finding = self._finding(noted, node, seen)
        place = f"{node} {noted.device or ''}"
        count = noted.count - (old.counted if old is not None else 0)
        past = self._history.on_said(
            place, noted.check, node, at=seen.at, count=max(count, 0), job=seen.job, is_new=old is None
        )
        grown = self._history.outgrown(past, noted.check, noted.node_action, at=seen.at)
        if grown is not None:
            finding = msgspec.structs.replace(
                finding, fault=grown.fault or finding.fault, severity=grown.severity, action=grown.action, node_action=grown.node_action,
                judgement=Judgement.CULPRIT, detail={**finding.detail, "history": grown.why},
                evidence=(*finding.evidence, Evidence(seen.source, noted.line, grown.why)),
            )  # fmt: skip
        own = self.overrides.of(noted.check, device=noted.device or "", node=node)
        if own is not None:
            if own.ignore:
                return
            finding = msgspec.structs.replace(
                finding, fault=own.fault or finding.fault, severity=own.severity or finding.severity, action=own.action or finding.action,
                node_action=own.node_action or finding.node_action,
            )  # fmt: skip
        sticky = noted.sticky or noted.silenced
        if old is not None and (old.finding.severity, old.finding.node_action) == (
            finding.severity,
            finding.node_action,
        ):
            old.finding = msgspec.structs.replace(old.finding, at=seen.at, count=noted.count)
            old.counted, old.sticky = noted.count, sticky
            return
        if old is not None:  # it is worse than was claimed, or asks for something else
            yield _over(old.finding, seen.at)
        self._said += 1
        finding = msgspec.structs.replace(finding, id=f"kernel/{node}/{self._said}")
        claims[key] = Claim(finding, noted.count, sticky)
        yield finding

    def _finding(self, noted: Noted, node: str, seen: Lines) -> Finding:
        device = noted.device or ""
        if noted.code is not None and device:
            target = Target(Kind.DEVICE, xid.key_of(device), node=node)
        else:
            target = (
                Target(Kind.NIC, device, node=node)
                if device and noted.fault in _NICS
                else Target(Kind.NODE, node, node=node)
            )
        detail: dict[str, Json] = dict(noted.detail)
        if noted.caused_by is not None:
            detail["caused_by"] = f"xid.{noted.caused_by}"
        return Finding(
            at=seen.at, id="", job=JobId(seen.job), target=target, perception=Perception.NODE_FAULT,
            fault=noted.fault, check=noted.check, judgement=Judgement.NOBODY if noted.fault in _OWN else Judgement.CULPRIT,
            severity=noted.severity, cause=noted.check, confidence=0.95 if noted.severity is Severity.FATAL else 0.8, action=noted.action,
            node_action=noted.node_action, evidence=(Evidence(seen.source, noted.line, noted.text[:1000]),), count=noted.count,
            detail=detail,
        )  # fmt: skip

    def _forget(self, node: str, at: float) -> Iterator[Finding]:
        """The node has been booted, or returned to service: what its old kernel said is over."""
        self._readings.pop(node, None)
        for one in self._claims.pop(node, {}).values():
            yield _over(one.finding, at)
        yield from self._neighbour.forget(node, at)

    def snapshot(self) -> bytes:
        readings = {node: reading.memory() for node, reading in self._readings.items()}
        past, boots = self._history.memory()
        kept = _Kept(self._said, self._claims, readings, past, boots, self._opted_out, self._neighbour.memory())
        return msgspec.msgpack.encode(kept)

    def restore(self, memory: bytes) -> None:
        kept = msgspec.msgpack.decode(memory, type=_Kept)
        self._said, self._claims, self._opted_out = kept.said, kept.claims, kept.opted_out
        self._history.recall((kept.past, kept.boots))
        self._neighbour.recall(kept.neighbours)
        self._readings = {}
        for node, known in kept.readings.items():
            reading = self._readings[NodeId(node)] = Reading(self.rules, fast=self.fast)
            reading.recall(known)


def _over(finding: Finding, at: float) -> Finding:
    return msgspec.structs.replace(finding, at=at, cleared=True, evidence=())

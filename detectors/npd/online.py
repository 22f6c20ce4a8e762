"""The kernel's word in the live line: one finding per node, device and check, cleared when the node is back."""

from collections.abc import Iterator

import msgspec

from detectors.has import xid
from detectors.npd.reading import Memory, Noted, Reading
from detectors.npd.rules import Rules
from detectors.npd.stamps import stamped
from holdfast.events import Changes, Finding, Lines, Observation
from holdfast.faults import Fault, Judgement, Perception, Severity
from holdfast.topology import JobId, Kind, NodeId, Target
from holdfast.verdict import Evidence

MOST_NODES = 65_536
_NICS = frozenset({Fault.NIC})
_OWN = frozenset({Fault.USER_CODE, Fault.SOFTWARE})
_BOOT = "Linux version "


class KernelLog:
    """Reads `Lines` whose source begins with "kmsg:" or "journal:".

    rules: a file of the user's own over `detectors/npd/rules.toml`
    expire_s: a claim that nothing repeats for so long is over
    """

    consumes = (Lines, Changes)

    def __init__(self, *, rules: str = "", expire_s: float = 3600.0) -> None:
        self.rules, self.expire_s = Rules.read(rules), expire_s
        self._readings: dict[str, Reading] = {}
        self._claims: dict[str, dict[str, Finding]] = {}
        self._said = 0

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Changes):
            for change in seen.changes:
                if change.target.kind is Kind.NODE and change.state == "ready":
                    yield from self._forget(change.target.id, change.at)
        elif isinstance(seen, Lines) and seen.source.startswith(("kmsg:", "journal:")) and seen.lines:
            node = seen.node or seen.source.partition(":")[2]
            boot = next((n for n, line in enumerate(seen.lines) if _BOOT in line and stamped(line).text.startswith(_BOOT)), None)
            if boot:  # the last words of the kernel before
                yield from self._read(node, msgspec.structs.replace(seen, lines=seen.lines[:boot]))
            if boot is not None:
                yield from self._forget(node, seen.at)
                seen = msgspec.structs.replace(seen, lines=seen.lines[boot:], first=seen.first + boot)
            yield from self._read(node, seen)

    def tick(self, now: float) -> Iterator[Finding]:
        for node in list(self._claims):
            claims = self._claims[node]
            for key in [key for key, claim in claims.items() if now - claim.at > self.expire_s]:
                yield msgspec.structs.replace(claims.pop(key), at=now, cleared=True, evidence=())
            if not claims:
                del self._claims[node]

    def _read(self, node: str, seen: Lines) -> Iterator[Finding]:
        reading = self._readings.get(node)
        if reading is None:
            while len(self._readings) >= MOST_NODES:
                del self._readings[next(iter(self._readings))]
            reading = self._readings[node] = Reading(self.rules)
        reading.feed(seen.file, seen.first, ("\n".join(seen.lines) + "\n").encode("utf-8", "replace"))
        claims = self._claims.setdefault(node, {})
        for noted in {id(noted): noted for noted in reading.touched}.values():
            key = f"{noted.check} {noted.device or ''} {noted.instance}"
            old = claims.get(key)
            if noted.cleared:
                if old is not None:
                    yield msgspec.structs.replace(claims.pop(key), at=seen.at, cleared=True, evidence=())
            elif old is None or old.severity is not noted.severity:
                if old is not None:  # it is worse than was claimed
                    yield msgspec.structs.replace(old, at=seen.at, cleared=True, evidence=())
                claims[key] = self._finding(noted, node, seen)
                yield claims[key]
            else:
                claims[key] = msgspec.structs.replace(old, at=seen.at, count=noted.count)

    def _finding(self, noted: Noted, node: str, seen: Lines) -> Finding:
        self._said += 1
        device = noted.device or ""
        if noted.code is not None and device:
            target = Target(Kind.DEVICE, xid.key_of(device), node=node)
        else:
            target = Target(Kind.NIC, device, node=node) if device and noted.fault in _NICS else Target(Kind.NODE, node, node=node)
        own = noted.fault in _OWN
        return Finding(
            at=seen.at, id=f"kernel/{node}/{self._said}", job=JobId(seen.job), target=target, perception=Perception.NODE_FAULT,
            fault=noted.fault, check=noted.check, judgement=Judgement.NOBODY if own else Judgement.CULPRIT, severity=noted.severity,
            cause=noted.check, confidence=0.95 if noted.severity is Severity.FATAL else 0.8, action=noted.action,
            node_action=noted.node_action, evidence=(Evidence(seen.source, noted.line, noted.text[:1000]),), count=noted.count,
        )  # fmt: skip

    def _forget(self, node: str, at: float) -> Iterator[Finding]:
        """The node has been booted, or returned to service: what its old kernel said is over."""
        self._readings.pop(node, None)
        for claim in self._claims.pop(node, {}).values():
            yield msgspec.structs.replace(claim, at=at, cleared=True, evidence=())

    def snapshot(self) -> bytes:
        kept = {node: reading.memory() for node, reading in self._readings.items()}
        return msgspec.msgpack.encode((self._said, self._claims, kept))

    def restore(self, memory: bytes) -> None:
        form = tuple[int, dict[str, dict[str, Finding]], dict[str, Memory]]
        self._said, self._claims, kept = msgspec.msgpack.decode(memory, type=form)
        self._readings = {}
        for node, known in kept.items():
            reading = self._readings[NodeId(node)] = Reading(self.rules)
            reading.recall(known)

"""Claims about InfiniBand ports: a link that is down is one at once, a link that comes and goes is another."""

from collections import deque
from collections.abc import Iterator

import msgspec
import numpy as np

from holdfast.events import Changes, Finding, Observation, Samples
from holdfast.faults import Action, Fault, NodeAction, Perception, Severity
from holdfast.topology import JobId, Kind, Target
from holdfast.verdict import Evidence

MOST_PORTS = 262_144


class Port(msgspec.Struct):
    """One port. returns: when it came back up, Unix seconds; down, flaps: the claims that stand."""

    up: bool = True
    since: float = 0.0
    returns: list[float] = []
    down: Finding | None = None
    flaps: Finding | None = None


class Nic:
    """Reads `nic.up`. A port that a job uses is an error as soon as it is down, an idle one a warning.

    flaps, flap_window_s: so many returns within so long are a flapping port, which does not heal by itself
    """

    consumes = (Samples, Changes)

    def __init__(self, *, flaps: int = 3, flap_window_s: float = 43_200.0) -> None:
        self.flaps, self.flap_window_s = flaps, flap_window_s
        self._ports: dict[str, Port] = {}
        self._said = 0

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Changes):
            for change in seen.changes:
                if change.target.kind is Kind.NODE and change.state == "ready":
                    yield from self._forget(change.target.id, change.at)
        elif isinstance(seen, Samples) and "nic.up" in seen.signals:
            column = seen.values[:, seen.signals.index("nic.up")]
            for target, value in zip(seen.targets, column.tolist(), strict=True):
                if not np.isnan(value):
                    yield from self._on_port(target, bool(value), seen)

    def tick(self, now: float) -> Iterator[Finding]:
        return iter(())

    def _on_port(self, target: Target, up: bool, seen: Samples) -> Iterator[Finding]:
        key = f"{target.node} {target.id}"
        port = self._ports.get(key)
        if port is None:
            while len(self._ports) >= MOST_PORTS:
                del self._ports[next(iter(self._ports))]
            port = self._ports[key] = Port(since=seen.at)
        if up == port.up:
            return
        port.up, port.since = up, seen.at
        if not up:
            port.down = self._finding(target, seen, "nic.down", f"port {target.id} of {target.node} has no link")
            yield port.down
            return
        if port.down is not None:
            claim, port.down = port.down, None
            yield msgspec.structs.replace(claim, at=seen.at, cleared=True, evidence=())
        recent = deque((at for at in port.returns if seen.at - at <= self.flap_window_s), maxlen=64)
        recent.append(seen.at)
        port.returns = list(recent)
        if len(recent) >= self.flaps and port.flaps is None:
            text = f"the link of port {target.id} of {target.node} has come back {len(recent)} times in {seen.at - recent[0]:.0f} s"
            port.flaps = self._finding(target, seen, "nic.flap", text)
            yield port.flaps

    def _finding(self, target: Target, seen: Samples, check: str, text: str) -> Finding:
        self._said += 1
        return Finding(
            at=seen.at, id=f"nic/{target.node}/{self._said}", job=JobId(seen.job), target=target, perception=Perception.NODE_FAULT,
            fault=Fault.NIC, check=check, cause=check.partition(".")[2], severity=Severity.ERROR if seen.job else Severity.WARNING,
            confidence=0.95, action=Action.REPLACE, node_action=NodeAction.INSPECT, evidence=(Evidence(seen.source, 0, text),),
        )  # fmt: skip

    def _forget(self, node: str, at: float) -> Iterator[Finding]:
        for key in [key for key in self._ports if key.startswith(f"{node} ")]:
            port = self._ports.pop(key)
            for claim in (port.down, port.flaps):
                if claim is not None:
                    yield msgspec.structs.replace(claim, at=at, cleared=True, evidence=())

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self._said, self._ports))

    def restore(self, memory: bytes) -> None:
        self._said, self._ports = msgspec.msgpack.decode(memory, type=tuple[int, dict[str, Port]])

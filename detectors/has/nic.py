"""Claims about ports: a link that is down is one at once, one that stays down is lost, one that comes and goes flaps."""

from collections.abc import Iterator

import msgspec
import numpy as np

from holdfast.events import Changes, Finding, Observation, Samples
from holdfast.faults import Action, Fault, NodeAction, Perception, Severity
from holdfast.topology import JobId, Kind, Target
from holdfast.verdict import Evidence

MOST_PORTS = 262_144
_MOST_TIMES = 63


class Port(msgspec.Struct):
    """One port. job: whose it is now; returns, drops: when it came back up, and went down, Unix seconds; down, lost, flaps: what stands."""

    up: bool = True
    job: str = ""
    since: float = 0.0
    returns: list[float] = []
    drops: list[float] = []
    down: Finding | None = None
    lost: Finding | None = None
    flaps: Finding | None = None


class Nic:
    """Reads `nic.up`. A port that a job uses is an error as soon as it is down, an idle one a warning.

    drop_s: a port that is down for so long is lost: that stands, link or no link, until the node is back in service
    flaps, flap_window_s: so many returns within so long are a flapping port, which does not heal by itself
    drops, drop_window_s: so are so many losses of the link within so long
    """

    consumes = (Samples, Changes)

    def __init__(
        self, *, drop_s: float = 240.0, flaps: int = 3, flap_window_s: float = 43_200.0, drops: int = 2, drop_window_s: float = 300.0,
    ) -> None:  # fmt: skip
        self.drop_s, self.flaps, self.flap_window_s, self.drops, self.drop_window_s = (
            drop_s,
            flaps,
            flap_window_s,
            drops,
            drop_window_s,
        )
        self._ports: dict[str, Port] = {}
        self._down: dict[str, Port] = {}  # those of them without a link
        self._said = 0

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Changes):
            for change in seen.changes:
                if change.target.kind is Kind.NODE and change.state == "ready":
                    yield from self._forget(change.target.id, change.at)
        elif isinstance(seen, Samples) and "nic.up" in seen.signals and not seen.source.startswith("agent:node:"):
            column = seen.values[:, seen.signals.index("nic.up")]
            for target, value in zip(seen.targets, column.tolist(), strict=True):
                if not np.isnan(value):
                    yield from self._on_port(target, bool(value), seen)

    def tick(self, now: float) -> Iterator[Finding]:
        for port in self._down.values():
            if port.lost is None and port.down is not None and now - port.since >= self.drop_s:
                self._said += 1
                target = port.down.target
                text = f"port {target.id} of {target.node} has had no link for {now - port.since:.0f} s"
                # whose port it is now: a node that was taken out of its job is nobody's trouble until it is mended
                port.lost = msgspec.structs.replace(
                    port.down, at=now, id=f"nic/{target.node}/{self._said}", check="nic.lost", cause="lost", job=JobId(port.job),
                    severity=Severity.ERROR if port.job else Severity.WARNING, evidence=(Evidence(port.down.evidence[0].file, 0, text),),
                )  # fmt: skip
                yield port.lost

    def _on_port(self, target: Target, up: bool, seen: Samples) -> Iterator[Finding]:
        key = f"{target.node} {target.id}"
        port = self._ports.get(key)
        if port is None:
            while len(self._ports) >= MOST_PORTS:
                gone = next(iter(self._ports))
                del self._ports[gone]
                self._down.pop(gone, None)
            port = self._ports[key] = Port(since=seen.at)
        port.job = seen.job
        if up == port.up:
            return
        port.up, port.since = up, seen.at
        if not up:
            self._down[key] = port
            port.drops = _recent(port.drops, seen.at, self.drop_window_s)
            port.down = self._finding(target, seen, "nic.down", f"port {target.id} of {target.node} has no link")
            yield port.down
            yield from self._flaps(port, target, seen, port.drops, self.drops, "has been lost")
            return
        self._down.pop(key, None)
        if port.down is not None:
            claim, port.down = port.down, None
            yield msgspec.structs.replace(claim, at=seen.at, cleared=True, evidence=())
        port.returns = _recent(port.returns, seen.at, self.flap_window_s)
        yield from self._flaps(port, target, seen, port.returns, self.flaps, "has come back")

    def _flaps(
        self, port: Port, target: Target, seen: Samples, times: list[float], most: int, what: str
    ) -> Iterator[Finding]:
        if len(times) >= most and port.flaps is None:
            text = (
                f"the link of port {target.id} of {target.node} {what} {len(times)} times in {seen.at - times[0]:.0f} s"
            )
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
            self._down.pop(key, None)
            for claim in (port.down, port.lost, port.flaps):
                if claim is not None:
                    yield msgspec.structs.replace(claim, at=at, cleared=True, evidence=())

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self._said, self._ports))

    def restore(self, memory: bytes) -> None:
        self._said, self._ports = msgspec.msgpack.decode(memory, type=tuple[int, dict[str, Port]])
        self._down = {key: port for key, port in self._ports.items() if not port.up}


def _recent(times: list[float], at: float, window_s: float) -> list[float]:
    """Those of the times within the window, and now; a few are enough."""
    return [*[*(one for one in times if at - one <= window_s)][-_MOST_TIMES:], at]

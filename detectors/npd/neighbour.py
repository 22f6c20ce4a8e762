"""Claims what node-problem-detector's own rule files find: a condition while it stands, an event until it expires."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from detectors.npd.matching import CounterWatch, LogWatch, Match
from detectors.npd.monitors import LogMonitor, PluginMonitor, read
from holdfast.events import Finding, Lines
from holdfast.faults import Action, Fault, NodeAction, Perception, Severity
from holdfast.topology import JobId, Kind, NodeId, Target
from holdfast.verdict import Evidence

MOST_NODES = 4_096
_MOST_CLAIMS = 1_024
_EVENT_S = 3600.0


class Neighbour:
    """The monitors of some files over the lines of every node; what a node has matched is kept by node.

    A file's `path` or journal is not opened here: lines come from the collectors, kmsg lines to kmsg monitors,
    all others to journald and filelog monitors.
    """

    def __init__(self, files: Sequence[str] = ()) -> None:
        self.monitors = [read(path) for path in files]
        self._watches: dict[str, tuple[list[LogWatch], list[CounterWatch]]] = {}
        self._claims: dict[str, dict[str, Finding]] = {}
        self._said = 0

    def observe(self, node: str, seen: Lines) -> Iterator[Finding]:
        """Take the lines of a node."""
        if not self.monitors:
            return
        logs, counters = self._of(node)
        is_kernel = seen.source.startswith("kmsg:")
        for watch in logs:
            if (watch.monitor.plugin == "kmsg") == is_kernel or (
                watch.monitor.plugin == "kmsg" and seen.source.startswith("journal:")
            ):
                since = seen.at - watch.monitor.lookback_s if watch.monitor.lookback_s else None
                for number, line in enumerate(seen.lines, seen.first):
                    for match in watch.feed(number, line, since=since):
                        yield from self._claim(node, match, seen)
        for counter in counters:
            for line in seen.lines:
                counter.feed(line, seen.at)
            for match in counter.tick(seen.at):
                yield from self._claim(node, match, seen)

    def tick(self, now: float) -> Iterator[Finding]:
        """Events expire, counters fall below what they may reach."""
        for node, (_, counters) in self._watches.items():
            for counter in counters:
                for match in counter.tick(now):
                    yield from self._claim(
                        node, match, Lines(at=now, source=f"npd:{node}", node=NodeId(node), file="", first=0, lines=())
                    )
        for claims in self._claims.values():
            for key in [key for key, claim in claims.items() if key.startswith("event ") and now - claim.at > _EVENT_S]:
                yield msgspec.structs.replace(claims.pop(key), at=now, cleared=True, evidence=())

    def forget(self, node: str, at: float) -> Iterator[Finding]:
        """The node has been booted."""
        self._watches.pop(node, None)
        for claim in self._claims.pop(node, {}).values():
            yield msgspec.structs.replace(claim, at=at, cleared=True, evidence=())

    def _of(self, node: str) -> tuple[list[LogWatch], list[CounterWatch]]:
        known = self._watches.get(node)
        if known is None:
            while len(self._watches) >= MOST_NODES:
                del self._watches[next(iter(self._watches))]
            logs = [LogWatch(monitor) for monitor in self.monitors if isinstance(monitor, LogMonitor)]
            counters = [
                CounterWatch(monitor, rule, rule.counter)
                for monitor in self.monitors
                if isinstance(monitor, PluginMonitor)
                for rule in monitor.rules
                if rule.counter is not None
            ]
            known = self._watches[node] = (logs, counters)
        return known

    def _claim(self, node: str, match: Match, seen: Lines) -> Iterator[Finding]:
        claims = self._claims.setdefault(node, {})
        key = f"condition {match.condition}" if match.permanent else f"event {match.source} {match.reason}"
        old = claims.get(key)
        if not match.problem:
            if old is not None:
                yield msgspec.structs.replace(claims.pop(key), at=seen.at, cleared=True, evidence=())
            return
        if old is not None and old.cause == match.reason:
            claims[key] = msgspec.structs.replace(old, at=seen.at, count=old.count + 1)
            return
        if old is not None:
            yield msgspec.structs.replace(claims.pop(key), at=seen.at, cleared=True, evidence=())
        if len(claims) >= _MOST_CLAIMS:
            return
        self._said += 1
        claims[key] = Finding(
            at=seen.at, id=f"npd/{node}/{self._said}", job=JobId(seen.job), target=Target(Kind.NODE, node, node=node),
            perception=Perception.NODE_FAULT, fault=Fault.HOST, check=f"npd.{match.source}.{match.reason}",
            severity=Severity.ERROR if match.permanent else Severity.WARNING, cause=match.reason, confidence=0.8, action=Action.WATCH,
            node_action=NodeAction.INSPECT, evidence=(Evidence(seen.source, match.line, match.text[:1000]),),
            detail={"condition": match.condition} if match.condition else {},
        )  # fmt: skip
        yield claims[key]

    def memory(self) -> dict[str, Any]:
        """What is remembered, to be kept elsewhere."""
        watches = {
            node: ([watch.memory() for watch in logs], [counter.memory() for counter in counters])
            for node, (logs, counters) in self._watches.items()
        }
        return {"said": self._said, "claims": msgspec.to_builtins(self._claims), "watches": watches}

    def recall(self, memory: dict[str, Any]) -> None:
        """Go on from what was kept; a set of files that has changed begins anew."""
        self._said = memory["said"]
        self._claims = msgspec.convert(memory["claims"], dict[str, dict[str, Finding]])
        self._watches = {}
        for node, (logs, counters) in memory["watches"].items():
            watches = self._of(node)
            if (len(watches[0]), len(watches[1])) == (len(logs), len(counters)):
                for watch, known in zip(watches[0], logs, strict=True):
                    watch.recall(known)
                for counter, known in zip(watches[1], counters, strict=True):
                    counter.recall(known)

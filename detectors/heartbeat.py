"""Claims that a source has gone silent: the monitor must never be blind without saying so."""

from collections.abc import Iterator

import msgspec

from holdfast.events import Changes, Finding, Observation, Received
from holdfast.faults import Action, Fault, Judgement, Perception, Severity
from holdfast.topology import JobId, Kind, NodeId, Target
from holdfast.verdict import Evidence

MOST_SOURCES = 65_536

_ENDS = frozenset({"finished", "failed", "stopped", "suspended"})
_BEGINS = frozenset({"started", "restarting"})


class Source(msgspec.Struct):
    """One agent. heard_at: by the service's clock, so that a skewed clock of its own does not count."""

    job: JobId
    node: NodeId
    heard_at: float
    dropped: int = 0
    silent: bool = False
    said: int = 0


class Heartbeat:
    """Claims an agent silent after `silence_s` without a batch.

    blind_s: when this long passed between two ticks the service itself was away, and every source has its time anew
    forget_s: how long a silent source is remembered
    An agent whose job is over is not waited for: it leaves when it likes.
    """

    consumes = (Received, Changes)

    def __init__(self, *, silence_s: float = 15.0, blind_s: float = 5.0, forget_s: float = 86_400.0) -> None:
        self.silence_s, self.blind_s, self.forget_s = silence_s, blind_s, forget_s
        self._sources: dict[str, Source] = {}
        self._over: dict[str, JobId] = {}
        self._now = 0.0

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Changes):
            for change in seen.changes:
                if change.target.kind is Kind.JOB:
                    yield from self._on_job(change.state, seen)
        if not isinstance(seen, Received) or seen.source in self._over:
            return
        source = self._sources.get(seen.source)
        if source is None:
            if len(self._sources) >= MOST_SOURCES:
                del self._sources[min(self._sources, key=lambda name: self._sources[name].heard_at)]
            source = self._sources[seen.source] = Source(seen.job, seen.node, self._now)
        source.job, source.node = seen.job, seen.node  # a machine serves one job after the other
        source.heard_at = max(self._now, source.heard_at)
        if source.silent:
            source.silent = False
            yield _finding(seen.source, source, self._now, cleared=True, text="it is heard again")

    def _on_job(self, state: str, seen: Changes) -> Iterator[Finding]:
        """An agent speaks of its own part of the job, anybody else of the whole."""
        mine = seen.source in self._sources or seen.source in self._over
        if state in _ENDS:
            ends = [seen.source] if mine else [name for name, one in self._sources.items() if one.job == seen.job]
            for name in ends:
                self._over[name] = seen.job
                source = self._sources.pop(name, None)
                if source is not None and source.silent:
                    yield _finding(name, source, self._now, cleared=True, text=f"its job has {state}")
            while len(self._over) > MOST_SOURCES:
                del self._over[next(iter(self._over))]
        elif state in _BEGINS:
            for name in [
                name for name, job in self._over.items() if name == seen.source or (not mine and job == seen.job)
            ]:
                del self._over[name]

    def tick(self, now: float) -> Iterator[Finding]:
        was_blind = now - self._now > self.blind_s
        self._now = now
        for name, source in list(self._sources.items()):
            if was_blind:
                source.heard_at = now
            elif now - source.heard_at > self.forget_s:
                del self._sources[name]
                if source.silent:
                    yield _finding(name, source, now, cleared=True, text="it is given up for good")
            elif now - source.heard_at > self.silence_s and not source.silent:
                source.silent = True
                source.said += 1
                yield _finding(
                    name, source, now, cleared=False, text=f"nothing heard for {now - source.heard_at:.1f} s"
                )

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self._now, self._sources, self._over))

    def restore(self, memory: bytes) -> None:
        form = tuple[float, dict[str, Source], dict[str, JobId]]
        self._now, self._sources, self._over = msgspec.msgpack.decode(memory, type=form)


def _finding(name: str, source: Source, at: float, *, cleared: bool, text: str) -> Finding:
    return Finding(
        at=at, id=f"heartbeat/{name}/{source.said}", job=source.job, target=Target(Kind.SOURCE, name, node=source.node),
        perception=Perception.HEARTBEAT_LOST, fault=Fault.PLATFORM, check="heartbeat.silent",
        judgement=Judgement.UNDECIDED, severity=Severity.ERROR, confidence=0.9, action=Action.WATCH,
        evidence=(Evidence(name, 0, text),), cleared=cleared,
    )  # fmt: skip

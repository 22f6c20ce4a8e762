"""Claims that a source of telemetry cannot be read, or loses what it should give: the monitor must say where it is blind."""

from collections.abc import Iterator

import msgspec

from holdfast.events import Finding, Observation, Samples
from holdfast.faults import Action, Fault, Judgement, Perception, Severity
from holdfast.topology import Kind, Target
from holdfast.verdict import Evidence

MOST_SOURCES = 65_536
_UP = "source.up"
_LOSSES = {
    "source.lost_total": "records that were overwritten or could not be used",
    "source.malformed_total": "records that are none",
    "source.files_left_out": "files over the number that is followed",
}


class Source(msgspec.Struct):
    """One source that is not as it should be. since: when it was first found down, Unix seconds, 0.0 while it is up."""

    target: Target
    since: float = 0.0
    claim: Finding | None = None
    losses: dict[str, float] = {}


class Sources:
    """Claims a source down that could not be read for `down_s`, until it can be; a loss that grows is told as a warning.

    quiet_s: a loss that has not grown for so long is over; who answers for a source (an agent) is the matter of `heartbeat`
    """

    consumes = (Samples,)

    def __init__(self, *, down_s: float = 30.0, quiet_s: float = 600.0) -> None:
        self.down_s, self.quiet_s = down_s, quiet_s
        self._sources: dict[str, Source] = {}
        self._lossy: dict[str, Finding] = {}
        self._said = 0

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if not isinstance(seen, Samples) or not seen.targets or seen.targets[0].kind is not Kind.SOURCE:
            return
        for target, row in zip(seen.targets, seen.values.tolist(), strict=True):
            read = dict(zip(seen.signals, row, strict=True))
            if _UP in read:
                yield from self._on_state(target, up=read[_UP] > 0.0, seen=seen)
            for signal in _LOSSES:
                if signal in read:
                    yield from self._on_loss(target, signal, read[signal], seen)

    def tick(self, now: float) -> Iterator[Finding]:
        for source in self._sources.values():
            if source.since and source.claim is None and now - source.since >= self.down_s:
                text = f"{source.target.id} cannot be read since {source.since:.0f}"
                source.claim = self._finding(source.target, "source.down", Severity.ERROR, text, source.since)
                yield source.claim
        for key in [key for key, claim in self._lossy.items() if now - claim.at > self.quiet_s]:
            yield msgspec.structs.replace(self._lossy.pop(key), at=now, cleared=True, evidence=())

    def _on_state(self, target: Target, *, up: bool, seen: Samples) -> Iterator[Finding]:
        source = self._source(target)
        if not up:
            source.since = source.since or seen.at
            return
        source.since = 0.0
        if source.claim is not None:
            claim, source.claim = source.claim, None
            yield msgspec.structs.replace(claim, at=seen.at, cleared=True, evidence=())

    def _on_loss(self, target: Target, signal: str, total: float, seen: Samples) -> Iterator[Finding]:
        source = self._source(target)
        before = source.losses.get(signal, 0.0)
        source.losses[signal] = total
        if not total > max(before, 0.0):  # a counter that begins anew, or a reading that is missing
            return
        key = f"{target} {signal}"
        text = f"{target.id}: {total - before:.0f} {_LOSSES[signal]}, {total:.0f} so far"
        if key in self._lossy:
            self._lossy[key] = msgspec.structs.replace(self._lossy[key], at=seen.at)
        elif len(self._lossy) < MOST_SOURCES:
            self._lossy[key] = self._finding(target, signal.removesuffix("_total"), Severity.WARNING, text, seen.at)
            yield self._lossy[key]

    def _source(self, target: Target) -> Source:
        key = str(target)
        if key not in self._sources:
            while len(self._sources) >= MOST_SOURCES:
                del self._sources[next(iter(self._sources))]
            self._sources[key] = Source(target)
        return self._sources[key]

    def _finding(self, target: Target, check: str, severity: Severity, text: str, at: float) -> Finding:
        self._said += 1
        return Finding(
            at=at, id=f"sources/{target.id}/{self._said}", target=target, perception=Perception.HEARTBEAT_LOST, fault=Fault.PLATFORM,
            check=check, judgement=Judgement.UNDECIDED, severity=severity, cause=check.partition(".")[2], confidence=0.9,
            action=Action.WATCH, evidence=(Evidence(target.id, 0, text),),
        )  # fmt: skip

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self._sources, self._lossy, self._said))

    def restore(self, memory: bytes) -> None:
        form = tuple[dict[str, Source], dict[str, Finding], int]
        self._sources, self._lossy, self._said = msgspec.msgpack.decode(memory, type=form)

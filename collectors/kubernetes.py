"""Watch events of the Kubernetes API -> changes of pods and nodes, read from commands such as `kubectl get --watch`."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from collectors.child import Child
from collectors.jsonstream import Objects
from collectors.podstates import EventError, States
from collectors.sourcestate import SourceStates, reading
from holdfast.events import Change, Changes, Observation
from holdfast.topology import JobId, NodeId

SOURCE = "kubernetes"
_WATCH = ("--watch", "--output-watch-events", "--output=json")
COMMANDS = (
    ("kubectl", "get", "pods", "--all-namespaces", *_WATCH),
    ("kubectl", "get", "nodes", *_WATCH),
)


class Stream:
    """One watch: its bytes cut into events, what cannot be used counted. malformed: objects that are no watch events."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.malformed = 0
        self.objects = Objects()
        self._said = 0

    def lost(self) -> int:
        """Events that could not be used since the watch began, if that has changed since this was asked last, else 0."""
        lost = self.malformed + self.objects.lost
        fresh, self._said = lost != self._said, lost
        return lost if fresh else 0


class Kubernetes:
    """The collector `kubernetes`.

    commands: each writes watch events as JSON objects one after another, and is started again when it ends
    read: instead of commands, hands over what a watch has written
    """

    durable = False

    def __init__(
        self, *, commands: Sequence[Sequence[str]] = COMMANDS, backoff_s: float = 1.0,
        read: Callable[[float], Iterable[bytes]] | None = None,
    ) -> None:  # fmt: skip
        if read is None and not all(commands):
            raise ValueError("commands: each is a list that begins with a program's name")
        self._read = read
        self._given = Stream(SOURCE)
        names = [" ".join((SOURCE, *command[1:3])) for command in commands]
        self._children = [
            (Child(command, backoff_s=backoff_s), name) for command, name in zip(commands, names, strict=True) if read is None
        ]
        self._streams = {name: Stream(name) for name in names}
        self._known = States()
        self._states = SourceStates()

    def poll(self, now: float) -> Iterator[Observation]:
        """What has changed since the last time, and which watches are down."""
        for data in self._read(now) if self._read is not None else ():
            yield from self._take(self._given, data, now)
        for child, name in self._children:
            for piece in child.poll():
                if piece is None:
                    self._streams[name] = Stream(name)  # the next one begins with whole objects
                    self._known.away(name)
                    yield from self._states.of(name, now, up=False)
                else:
                    yield from self._states.of(name, now, up=True)
                    yield from self._take(self._streams[name], piece, now)
            yield from _said(self._known.missed(name, now), now)

    def close(self, seconds: float = 0.0) -> None:
        """End the commands."""
        for child, _ in self._children:
            child.close()

    def _take(self, stream: Stream, data: bytes, now: float) -> Iterator[Observation]:
        for event in stream.objects.feed(data):
            try:
                changes = list(self._known.changes_of(event, now, watch=stream.name))
            except EventError:
                stream.malformed += 1
                continue
            yield from _said(changes, now)
        if lost := stream.lost():
            yield reading(stream.name, {"source.lost_total": float(lost)}, now)


def _said(changes: Iterable[tuple[str, Change]], now: float) -> Iterator[Changes]:
    for job, change in changes:
        yield Changes(at=now, source=SOURCE, job=JobId(job), node=NodeId(change.target.node), changes=(change,))

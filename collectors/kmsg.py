"""The kernel's own log: records of /dev/kmsg, read without waiting; what was overwritten before it was read is counted and said."""

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

import msgspec

from collectors.sourcestate import MOST_SOURCES, SourceStates, reading
from holdfast.events import Lines, Observation
from holdfast.topology import JobId, NodeId

_RECORD_BYTES = 8192  # the kernel gives no record that is longer
_MOST_RECORDS = 2000  # of one poll; what is left waits in the kernel's ring
_HEAD_BYTES = 128


class KmsgError(ValueError):
    """Not a record of /dev/kmsg; the message shows how it begins."""


class Record(NamedTuple):
    """One record. level: 0 (emergency) to 7 (debug); facility: 0 is the kernel itself; text: as it stands, in one line."""

    level: int
    facility: int
    sequence: int
    uptime_us: int
    text: str


class Trouble(StrEnum):
    """Why a read gave no record: older ones were overwritten meanwhile, or there is nothing to read from."""

    OVERRUN = "overrun"
    DOWN = "down"


class Read(NamedTuple):
    """What one read of a node's log gave. job: what is placed on the node, "" if nothing or unknown."""

    node: str
    record: bytes | Trouble
    job: str = ""


class Heard(msgspec.Struct):
    """One node's log. expected: number of the next record, -1 before the first."""

    expected: int = -1
    lost: int = 0
    overruns: int = 0
    malformed: int = 0


def parse_record(data: bytes) -> Record:
    """Cut a record: "<prefix>,<sequence>,<microseconds since boot>,<flags>[,...];<message>".

    Lines that follow (" KEY=value", the record's dictionary) belong to it and are dropped. The format is that of
    Documentation/ABI/testing/dev-kmsg in the Linux kernel.
    raises KmsgError: anything else
    """
    head, found, rest = data[: _RECORD_BYTES * 2].partition(b";")
    fields = head.split(b",")
    numbers = fields[:3]
    if not found or len(head) > _HEAD_BYTES or len(fields) < 4 or not all(field.isdigit() and field.isascii() for field in numbers):
        raise KmsgError(f"no record of /dev/kmsg: {data[:60]!r}")
    prefix, sequence, uptime_us = map(int, numbers)
    message = rest.partition(b"\n")[0]
    text = (head + b";" + message).decode("utf-8", "replace")
    return Record(prefix & 7, prefix >> 3, sequence, uptime_us, text)


class Kmsg:
    """The collector `kmsg`: this node's /dev/kmsg, or what `read` hands over of any number of nodes.

    node, job: what its lines are said of, this machine's name unless told; path: the device
    lookback_s: how much of what stands in the ring from before the start is read too
    retry_s: how long after it could not be read it is tried again
    """

    durable = False

    def __init__(
        self, *, node: str = "", job: str = "", path: str = "/dev/kmsg", lookback_s: float = 300.0, retry_s: float = 10.0,
        read: Callable[[float], Iterable[tuple[str, bytes | Trouble, str]]] | None = None,
    ) -> None:  # fmt: skip
        device = Device(node=node or socket.gethostname(), job=job, path=path, lookback_s=lookback_s, retry_s=retry_s)
        self._read: Callable[[float], Iterable[tuple[str, bytes | Trouble, str]]] = read or device.read
        self._nodes: dict[str, Heard] = {}
        self._states = SourceStates()

    def poll(self, now: float) -> Iterator[Observation]:
        """What has come since the last time: lines by node, and what is to be said of the source itself."""
        runs: dict[tuple[str, str], list[Record]] = {}
        for given in self._read(now):
            yield from self._take(Read(*given), runs, now)
        for (node, job), run in runs.items():
            yield _lines(node, job, run, now)

    def _take(self, given: Read, runs: dict[tuple[str, str], list[Record]], now: float) -> Iterator[Observation]:
        node, record, job = given
        heard = self._heard(node)
        yield from self._states.of(f"kmsg:{node}", now, up=record is not Trouble.DOWN, node=node, job=job)
        if isinstance(record, Trouble):
            heard.overruns += record is Trouble.OVERRUN
            if record is Trouble.OVERRUN:  # how many records are lost is told by the number of the next
                yield _losses(given, heard, now)
            return
        try:
            parsed = parse_record(record)
        except KmsgError:
            heard.malformed += 1
            yield _losses(given, heard, now)
            return
        run = runs.get((node, job), [])
        if run and (parsed.sequence != heard.expected or len(run) >= _MOST_RECORDS):
            yield _lines(node, job, runs.pop((node, job)), now)
        if 0 <= heard.expected < parsed.sequence:  # a smaller number is a node that has booted anew
            heard.lost += parsed.sequence - heard.expected
            yield _losses(given, heard, now)
        heard.expected = parsed.sequence + 1
        runs.setdefault((node, job), []).append(parsed)

    def _heard(self, node: str) -> Heard:
        heard = self._nodes.get(node)
        if heard is None:
            while len(self._nodes) >= MOST_SOURCES:
                del self._nodes[next(iter(self._nodes))]
            heard = self._nodes[node] = Heard()
        return heard


class Device:
    """A device that is read record by record, opened again when it could not be.

    take: reads one record from a descriptor; raises as the device does: BlockingIOError (nothing more now), BrokenPipeError
        (overwritten meanwhile), another OSError (gone)
    """

    def __init__(
        self, *, node: str, job: str, path: str, lookback_s: float, retry_s: float,
        take: Callable[[int, int], bytes] = os.read,
    ) -> None:  # fmt: skip
        self.node, self.job, self.path, self.lookback_s, self.retry_s = node, job, path, lookback_s, retry_s
        self._take = take
        self._fd: int | None = None
        self._open_at = float("-inf")
        self._last, self._since_us = -1, 0.0

    def read(self, now: float) -> Iterator[Read]:
        """Everything that is there now, at most so much that a poll stays short."""
        if self._fd is None:
            if now - self._open_at < self.retry_s:
                return
            self._open_at = now
            self._fd = self._open()
        if self._fd is None:
            yield Read(self.node, Trouble.DOWN, self.job)
            return
        for _ in range(_MOST_RECORDS):
            try:
                record = self._take(self._fd, _RECORD_BYTES)
            except BlockingIOError:
                return
            except BrokenPipeError:
                yield Read(self.node, Trouble.OVERRUN, self.job)
                continue
            except OSError:
                record = b""
            if not record:  # a device never ends: this one has gone
                self.close()
                yield Read(self.node, Trouble.DOWN, self.job)
                return
            if self._is_fresh(record):
                yield Read(self.node, record, self.job)

    def close(self, seconds: float = 0.0) -> None:
        """Give the descriptor back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int | None:
        if self._last < 0:
            self._since_us = (time.monotonic() - self.lookback_s) * 1e6
        try:
            return os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None

    def _is_fresh(self, record: bytes) -> bool:
        """Whether a record is neither older than is wanted nor one that was read before the device was opened again."""
        try:
            parsed = parse_record(record)
        except KmsgError:
            return True
        fresh = parsed.sequence > self._last and parsed.uptime_us >= self._since_us
        self._last = max(self._last, parsed.sequence)
        return fresh


def _lines(node: str, job: str, run: list[Record], now: float) -> Lines:
    return Lines(
        at=now, source=f"kmsg:{node}", job=JobId(job), node=NodeId(node), file="kmsg", first=run[0].sequence + 1,
        lines=tuple(record.text for record in run),
    )  # fmt: skip


def _losses(given: Read, heard: Heard, now: float) -> Observation:
    told = {
        "source.lost_total": float(heard.lost), "source.overruns_total": float(heard.overruns),
        "source.malformed_total": float(heard.malformed),
    }  # fmt: skip
    return reading(f"kmsg:{given.node}", told, now, node=given.node, job=given.job)

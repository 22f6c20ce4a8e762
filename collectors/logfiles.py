"""Log files of jobs: followed by pattern through rotation and truncation, cut into numbered lines."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from collectors.follow import Follower
from collectors.sourcestate import SourceStates, reading
from holdfast.events import Lines, Observation
from holdfast.topology import JobId, NodeId

MOST_LINE = 8192
MOST_KEPT = 65_536
_RANK = re.compile(r"rank[_-]?(\d{1,7})(?!\d)")


class Chunk(NamedTuple):
    """Bytes appended to a file.

    begun: the file begins with them (it is new, or was rotated or truncated); ended: nothing more will come of it
    """

    file: str
    data: bytes
    node: str = ""
    job: str = ""
    begun: bool = False
    ended: bool = False


class Cutter:
    """Cuts what is appended to one file into lines.

    number: lines given so far; cut: lines that were longer than MOST_LINE bytes, of which the rest is not shown
    """

    def __init__(self) -> None:
        self.number = self.cut = 0
        self._rest = b""
        self._long = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that end in `data`; one without its end is kept back, at most MOST_LINE bytes of it."""
        *whole, rest = data.split(b"\n")
        lines = [self._line(piece) for piece in whole]
        self._keep(rest)
        self.number += len(lines)
        return lines

    def end(self) -> list[str]:
        """The last line, if it never got its end; the file that follows begins with line 1."""
        last = [self._line(b"")] if self._rest else []
        self.number = 0
        return last

    def _keep(self, piece: bytes) -> None:
        self._long = self._long or len(self._rest) + len(piece) > MOST_LINE
        self._rest = (self._rest + piece[:MOST_LINE])[:MOST_LINE]

    def _line(self, piece: bytes) -> str:
        self._keep(piece)
        self.cut += self._long
        line, self._rest, self._long = self._rest, b"", False
        return line.rstrip(b"\r").decode("utf-8", "replace")


class LogFiles:
    """The collector `logfiles`. Each line is said of its file with its number; the rank is read from the name ("rank12").

    patterns: globs of files ("**" goes down folders); job, node: what they are said of
    of: "job" for what ranks and launchers write, "node" for system and driver logs, which the node rules read
    every_s: how often the patterns are looked through for new files; most_files: at most so many are followed
    read: instead of patterns, hands over what was appended
    """

    durable = False

    def __init__(
        self, *, patterns: Sequence[str] = (), job: str = "", node: str = "", of: str = "job", every_s: float = 2.0,
        most_files: int = 1024,
        read: Callable[[float], Iterable[tuple[str, bytes, str, str]]] | None = None,
    ) -> None:  # fmt: skip
        if of not in ("job", "node"):
            raise ValueError(f'of is "job" or "node", not {of!r}')
        if of == "node" and not node:
            raise ValueError("node is missing: whose logs are they?")
        self.job, self.node, self.of = job, node, of
        self._follower = Follower(patterns, every_s=every_s, most_files=most_files)
        self._read: Callable[[float], Iterable[tuple[str, bytes, str, str] | Chunk]] = read or self._appended
        self._cutters: dict[tuple[str, str, str], Cutter] = {}
        self._states = SourceStates()

    def poll(self, now: float) -> Iterator[Observation]:
        """The lines that have come since the last time, and which patterns and files cannot be read."""
        for given in self._read(now):
            yield from self._cut(Chunk(*given), now)
        for name, up in self._follower.states():
            yield from self._states.of(f"logfiles:{name}", now, up=up, node=self.node, job=self.job)
        if self._follower.news_of_left_out():
            told = {"source.files_left_out": float(self._follower.left_out)}
            yield reading("logfiles", told, now, node=self.node, job=self.job)

    def _appended(self, now: float) -> Iterator[Chunk]:
        for file, data, begun, ended in self._follower.read(now):
            yield Chunk(file, data, self.node, self.job, begun, ended)

    def _cut(self, chunk: Chunk, now: float) -> Iterator[Observation]:
        key = (chunk.job, chunk.node, chunk.file)
        cutter = self._cutters.get(key)
        if cutter is None:
            while len(self._cutters) >= MOST_KEPT:
                del self._cutters[next(iter(self._cutters))]
            cutter = self._cutters[key] = Cutter()
        if chunk.begun:
            yield from self._lines(chunk, cutter.number + 1, cutter.end(), now)
        first = cutter.number + 1
        yield from self._lines(chunk, first, cutter.feed(chunk.data), now)
        if chunk.ended:
            yield from self._lines(chunk, cutter.number + 1, cutter.end(), now)
            del self._cutters[key]

    def _lines(self, chunk: Chunk, first: int, lines: list[str], now: float) -> Iterator[Lines]:
        if not lines:
            return
        rank = _RANK.search(chunk.file.rpartition("/")[2]) if self.of == "job" else None
        source = f"journal:{chunk.node}" if self.of == "node" else f"joblog:{chunk.job or chunk.node or chunk.file}"
        yield Lines(
            at=now, source=source, job=JobId(chunk.job), node=NodeId(chunk.node), file=chunk.file, first=first, lines=tuple(lines),
            rank=int(rank.group(1)) if rank else None,
        )  # fmt: skip

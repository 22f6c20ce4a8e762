"""Reads many pieces of evidence in processes of their own, so that a hostile one can take down nothing but its reader."""

import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import msgspec

from detectors.tracehang.pieces import Content, Piece, read_piece

MOST_PROCESSES = 16

# Reading a whole ring takes milliseconds; a file that takes this long per megabyte means to take for ever.
LIMIT_S = 20.0
_LIMIT_S_PER_BYTE = 5e-6

# Names of files handed to a reader ahead, so that it need not wait. Data is handed over when the last answer is here: two that
# write more to each other than lies between them wait for ever.
_AHEAD = 4

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Content)
_PIECES = msgspec.msgpack.Decoder(Piece)


def read_all(
    pieces: Iterable[Piece], *, processes: int, limit_s: float = LIMIT_S
) -> Iterator[tuple[Piece, Content]]:
    """Each piece with what it says, in the order in which they are done.

    processes: how many read; 0 reads here, which is as quick but leaves the caller to the mercy of what it reads
    limit_s: how long one piece may take, and a little more for a large one
    A reader that dies or takes too long is ended and replaced; the piece it had is said to be the reason.
    """
    if processes <= 0:
        for piece in pieces:
            yield piece, read_piece(piece)
        return
    waiting = iter(pieces)
    readers: list[_Reader] = []
    try:
        for _ in range(min(processes, MOST_PROCESSES)):
            readers.append(_Reader(limit_s))
            readers[-1].fill(waiting)
        while any(reader.given for reader in readers):
            busy = [reader for reader in readers if reader.given]
            for reader in wait_for(busy):
                yield from reader.answers()
                reader.fill(waiting)
    finally:
        for reader in readers:
            reader.end()


class _Reader:
    """One process and what it has been given, the oldest first."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self.given: deque[Piece] = deque()
        self._start()

    def _start(self) -> None:
        # a copy of a process with threads may hold a lock for ever; without them it is the quickest start
        forks = threading.active_count() == 1
        context = multiprocessing.get_context("fork" if forks else "spawn")
        self.here, there = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(there, self.here if forks else None), daemon=True)  # type: ignore[attr-defined]
        self.process.start()
        there.close()

    @property
    def limit_s(self) -> float:
        return self._limit_s + _LIMIT_S_PER_BYTE * len(self.given[0].data)

    def fill(self, waiting: Iterator[Piece]) -> None:
        """Hand over the next pieces."""
        while len(self.given) < _AHEAD and not any(one.data for one in self.given) and (piece := next(waiting, None)) is not None:
            self.given.append(piece)
            self._send(piece)

    def _send(self, piece: Piece) -> None:
        try:
            self.here.send_bytes(_ENCODER.encode(piece))
        except OSError:
            pass  # it has died, which its silence will tell

    def answers(self) -> Iterator[tuple[Piece, Content]]:
        """What it has to say now; a silent reader is replaced and what it had in hand blamed."""
        try:
            if self.here.poll():
                yield self.given[0], _DECODER.decode(self.here.recv_bytes())
                self.given.popleft()
                return
            problem = f"reading it took more than {self.limit_s:.0f} s: given up"
        except (OSError, EOFError):
            problem = "reading it ended the process that did so: refused"
        self.end()
        yield self.given.popleft(), Content(problem=problem)
        self._start()
        for piece in self.given:
            self._send(piece)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.here.close()


def wait_for(readers: list[_Reader]) -> list[_Reader]:
    """The readers that have answered or died; where none has in its time, the first, whose piece is then given up."""
    ready = set(map(id, wait([reader.here for reader in readers], min(reader.limit_s for reader in readers))))
    return [reader for reader in readers if id(reader.here) in ready] or readers[:1]


def _serve(pipe: Connection, others: Connection | None) -> None:
    """Read what comes until nobody sends any more. others: the far end, where this process has a copy of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who sends it means the parent, which ends its readers
    if others is not None:
        others.close()
    while True:
        try:
            piece = _PIECES.decode(pipe.recv_bytes())
        except EOFError:
            return
        pipe.send_bytes(_ENCODER.encode(read_piece(piece)))

"""Reads and judges one collection beside the line: what came first is read while the rest is still on its way.

What is found depends on the evidence alone, never on when it was found: whoever asks for it names the moment by the line's own time.
"""

import queue
import threading
from collections.abc import Iterable, Mapping

import msgspec

from detectors.tracehang.devices import Device
from detectors.tracehang.gather import Pile
from detectors.tracehang.graph import sketch
from detectors.tracehang.judge import judge
from detectors.tracehang.pieces import Content, Piece
from detectors.tracehang.readers import read_all
from holdfast.verdict import Verdict

# A file may take so long, and a little more for a large one, before its reader is ended.
_LIMIT_S = 5.0
_UNREAD = Content(problem="no process could be had to read it")


def judged(read: Iterable[tuple[Piece, Content]], devices: Mapping[int, Device]) -> Verdict:
    """The verdict on what was read, and on what a job's machines show of the device of each rank; in `detail.graph` who waits for whom."""
    pile = Pile()
    for piece, content in read:
        pile.take(piece, content)
    case = pile.case()
    case.devices = dict(devices) | case.devices
    verdict = judge(case)
    return msgspec.structs.replace(verdict, detail={**verdict.detail, **({"graph": drawn} if (drawn := sketch(case, verdict)) else {})})


class Ahead:
    """One collection. processes: how many read it, at least 1"""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._given: list[Piece] = []
        self._waiting: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._read: dict[int, Content] = {}
        self._verdict: Verdict | None = None
        self._devices: dict[int, Device] = {}
        self._works: threading.Thread | None = None
        self._reads = threading.Thread(target=self._read_all, name="tracehang", daemon=True)
        self._reads.start()

    def add(self, pieces: Iterable[Piece]) -> None:
        """Hand over more of it, before `ask`."""
        for piece in pieces:
            self._given.append(piece)
            self._waiting.put(piece)

    def ask(self, devices: Mapping[int, Device]) -> None:
        """All is there: judge it as soon as it is read."""
        if self._works is None:
            self._waiting.put(None)
        else:
            self._works.join()
        self._devices, self._verdict = dict(devices), None
        self._works = threading.Thread(target=self._judge, name="tracehang", daemon=True)
        self._works.start()

    def stop(self) -> None:
        """Nobody will ask."""
        self._waiting.put(None)

    def answer(self) -> Verdict:
        """What was asked for; waits for it."""
        if self._works is None:
            self.ask({})
        if self._works is not None:
            self._works.join()
        return self._verdict if self._verdict is not None else judged(self._in_order(), self._devices)  # an error is raised here

    def _read_all(self) -> None:
        numbers: dict[int, int] = {}  # the pieces live as long as this does, so each has an id of its own
        for piece, content in read_all(iter(self._waiting.get, None), processes=self._processes, limit_s=_LIMIT_S):
            while id(piece) not in numbers:
                numbers[id(self._given[len(numbers)])] = len(numbers)
            self._read[numbers[id(piece)]] = content

    def _judge(self) -> None:
        self._reads.join()
        self._verdict = judged(self._in_order(), self._devices)

    def _in_order(self) -> list[tuple[Piece, Content]]:
        """In the order in which it came, whichever process was quicker."""
        return [(piece, self._read.get(n, _UNREAD)) for n, piece in enumerate(self._given)]

"""The state of this machine, look by look: /sys, /proc and file systems read in the background, so that no poll waits for a disk."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from collectors.node import expectations
from collectors.node.expectations import ExpectationError, Machine
from collectors.node.host import Processes
from collectors.node.notes import Notes
from collectors.node.survey import look
from collectors.node.tree import Tree
from collectors.sourcestate import SourceStates
from holdfast.events import Observation

_MOST_WAITING = 4


class NodeState:
    """The collector `node`.

    node, job: what it is said of, this machine's name unless told; root: another folder than the machine's own
    every_s: from one look to the next; timeout_s: a look that takes longer is a source that is down
    machines: a file of machine types, as `holdfast node learn` writes it; but: readers to leave out, by name
    read: instead of a thread, gives the looks that are ready now
    """

    durable = False

    def __init__(
        self, *, node: str = "", job: str = "", root: str = "/", every_s: float = 30.0, timeout_s: float = 60.0, machines: str = "",
        but: Sequence[str] = (), read: Callable[[float], Sequence[Notes]] | None = None,
    ) -> None:  # fmt: skip
        self.node, self.job, self.every_s, self.timeout_s = node or socket.gethostname(), job, every_s, timeout_s
        self._root, self._but, self._read = root, frozenset(but), read
        try:
            self._machines: tuple[Machine, ...] = expectations.read(machines)
        except ExpectationError as error:
            raise ValueError(str(error)) from error
        self._ready: queue.Queue[Notes] = queue.Queue(_MOST_WAITING)
        self._states = SourceStates()
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None
        self._heard_at = float("-inf")

    def poll(self, now: float) -> Iterator[Observation]:
        """The looks that are ready, a table for each kind of target, and whether the machine can still be looked at."""
        source = f"node:{self.node}"
        if self._read is None and self._thread is None:
            self._heard_at = now
            self._thread = threading.Thread(target=self._look, name="look at the node", daemon=True)
            self._thread.start()
        for notes in self._read(now) if self._read is not None else self._taken():
            self._heard_at = now
            yield from notes.samples(now, source=source, job=self.job)
            yield from self._states.of(source, now, up=True, node=self.node, job=self.job)
        if self._read is None and now - self._heard_at > self.every_s + self.timeout_s:
            self._heard_at = now
            yield from self._states.of(source, now, up=False, node=self.node, job=self.job)

    def close(self, seconds: float = 0.0) -> None:
        """Look no more."""
        self._leaving.set()
        if self._thread is not None:
            self._thread.join(min(seconds, 1.0))

    def _taken(self) -> Iterator[Notes]:
        for _ in range(self._ready.qsize()):
            yield self._ready.get_nowait()

    def _look(self) -> None:
        processes = Processes()
        while not self._leaving.is_set():
            notes = Notes(self.node)
            look(Tree(self._root), notes, processes=processes, at=time.monotonic(), but=self._but)
            expectations.note(notes, self._machines)
            try:
                self._ready.put_nowait(notes)
            except queue.Full:  # nobody polls: the next look is newer
                pass
            self._leaving.wait(self.every_s)

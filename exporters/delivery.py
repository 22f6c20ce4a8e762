"""The one way out for exporters: a bounded line of errands, run one after the other on a thread of its own."""

import threading
import time
from collections import deque
from collections.abc import Callable

import structlog

from exporters.peer import DeliveryError

log = structlog.get_logger()

Errand = Callable[[], None]

_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 10.0


class Delivery:
    """Runs errands in order; one that fails for now is tried again, with growing waits, for `patience_s`.

    An errand raises `DeliveryError` when it did not get through. `put` never blocks and never raises: when `most` errands
    wait, the oldest is dropped and counted. The thread starts with the first errand and does not keep the process alive.

    regular, every_s: asked every so many seconds from the first errand on for one that is due by itself, None if none is
    sent, failed, dropped: errands that got through, were given up, never had their turn
    """

    def __init__(
        self, name: str, *, most: int = 1000, patience_s: float = 60.0, every_s: float = 60.0,
        regular: Callable[[], Errand | None] | None = None,
    ) -> None:  # fmt: skip
        self.name, self.most, self.patience_s = name, most, patience_s
        self.sent = self.failed = self.dropped = 0
        self._regular, self._every_s = regular, every_s
        self._line: deque[Errand] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._ends_at = float("inf")
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """How many errands have not begun."""
        return len(self._line)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def put(self, errand: Errand) -> None:
        """Run an errand when its turn comes; after `close` it is only counted."""
        with self._changed:
            if self._closing:
                self.dropped += 1
                return
            if len(self._line) >= self.most:
                self._line.popleft()
                self.dropped += 1
                if self.dropped == 1 or self.dropped % self.most == 0:
                    log.warning("the oldest errand is dropped: too many wait", exporter=self.name, dropped=self.dropped)
            self._line.append(errand)
            if not self.alive:  # the first one, or a bug in an errand ended the thread: the next has a fresh one
                self._thread = threading.Thread(target=self._run, name=f"deliver {self.name}", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self, seconds: float) -> None:
        """Run what waits, each once and for no longer than this in all; the rest is counted as dropped."""
        with self._changed:
            self._closing = True
            self._ends_at = time.monotonic() + seconds
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(seconds)
        with self._changed:
            self.dropped += len(self._line)
            self._line.clear()

    def _run(self) -> None:
        regular_at = time.monotonic() + self._every_s
        while True:
            with self._changed:
                wait_s = None if self._regular is None else max(0.0, regular_at - time.monotonic())
                self._changed.wait_for(lambda: self._line or self._closing, wait_s)
                errand = self._line.popleft() if self._line else None
                if self._closing and (errand is None or time.monotonic() > self._ends_at):
                    self.dropped += errand is not None
                    return
            if errand is None and self._regular is not None:
                errand = self._regular()
                regular_at = time.monotonic() + self._every_s
            if errand is not None:
                self._carry(errand)

    def _carry(self, errand: Errand) -> None:
        given_up_at = time.monotonic() + self.patience_s
        wait_s = _FIRST_WAIT_S
        done = False
        try:
            while not done:
                try:
                    errand()
                    done = True
                except DeliveryError as error:
                    if not error.again or self._closing or time.monotonic() + wait_s > given_up_at:
                        log.warning("not delivered", exporter=self.name, reason=str(error))
                        return
                    self._pause(wait_s)
                    wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        finally:  # counted even when a bug ends this thread
            self.sent += done
            self.failed += not done

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, seconds)

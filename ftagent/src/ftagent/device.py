"""Times blocks on the CUDA stream without waiting for it: events are recorded now and read by the side thread later."""

import sys
from collections import deque

_PENDING = 64


class Timer:
    """Pairs of events of one phase; at most `_PENDING` unread, further blocks are not timed."""

    def __init__(self, name, reporter, cuda):
        # type: (str, object, object) -> None
        self.name, self.reporter, self._cuda = name, reporter, cuda
        self._pending = deque()  # type: deque
        self._open = None

    def begin(self):
        # type: () -> None
        if len(self._pending) < _PENDING:
            try:
                self._open = self._cuda.Event(enable_timing=True)
                self._open.record()
            except RuntimeError:  # the device is broken, or a graph is being captured: the block runs untimed
                self._open = None

    def end(self):
        # type: () -> None
        if self._open is not None:
            begun, self._open = self._open, None
            try:
                end = self._cuda.Event(enable_timing=True)
                end.record()
            except RuntimeError:
                return
            self._pending.append((begun, end))

    def read(self):
        # type: () -> None
        """Hand over what has finished; called by the side thread."""
        try:
            while self._pending and self._pending[0][1].query():
                begin, end = self._pending.popleft()
                self.reporter.add_device_time(self.name, begin.elapsed_time(end) / 1000.0)
        except RuntimeError:
            self._pending.clear()  # the device is broken: nothing more can be read of it


def timer(name, reporter):
    # type: (str, object) -> object
    """A timer, or None where torch is not loaded or has no CUDA device."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not cuda.is_available():
        return None
    return Timer(name, reporter, cuda)

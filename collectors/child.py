"""Commands whose output is read in the background, started again with backoff when they end."""

import atexit
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence

_READ_BYTES = 65_536
_MOST_WAITING = 256  # pieces; past it the command waits until somebody polls
_LEAVE_S = 2.0


class Child:
    """One command. What it writes to its standard error goes where the service's own does.

    command: its words, or a function that gives them anew at each start
    backoff_s: how long to wait before it is started again: doubled each time it ends within `steady_s`, up to `backoff_s_max`
    """

    def __init__(
        self, command: Sequence[str] | Callable[[], Sequence[str]], *, backoff_s: float = 1.0, backoff_s_max: float = 60.0,
        steady_s: float = 30.0,
    ) -> None:  # fmt: skip
        self.command = command if callable(command) else tuple(command)
        self._backoff_s, self._backoff_s_max, self._steady_s = backoff_s, backoff_s_max, steady_s
        self._ready: queue.Queue[bytes | None] = queue.Queue(_MOST_WAITING)
        self._leaving = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="read a command", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # a command must not outlive the service that reads it

    def poll(self) -> Iterator[bytes | None]:
        """What has been written since the last time, in pieces; None where the command has ended, or could not be started."""
        for _ in range(self._ready.qsize()):
            yield self._ready.get_nowait()

    def close(self) -> None:
        """End the command and read no more."""
        atexit.unregister(self.close)
        self._leaving.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_LEAVE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._thread.join(_LEAVE_S)

    def _run(self) -> None:
        wait_s = self._backoff_s
        while not self._leaving.is_set():
            begun = time.monotonic()
            self._read_all()
            self._put(None)
            wait_s = self._backoff_s if time.monotonic() - begun >= self._steady_s else min(2.0 * wait_s, self._backoff_s_max)
            self._leaving.wait(wait_s)

    def _read_all(self) -> None:
        try:
            words = self.command() if callable(self.command) else self.command
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0)
        except (OSError, ValueError):
            return
        self._process = process
        if self._leaving.is_set():  # closed between the start and the line above
            process.terminate()
        out = process.stdout
        with process:
            while out is not None and (piece := out.read(_READ_BYTES)):
                if not self._put(piece):
                    process.terminate()
                    return

    def _put(self, piece: bytes | None) -> bool:
        """Hand over a piece; False when told to leave while nobody takes it."""
        while not self._leaving.is_set():
            try:
                self._ready.put(piece, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

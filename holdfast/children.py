"""A child process that is started again when it dies."""

import subprocess
import time
from pathlib import Path

_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)

# A child that lived so long died of something new: it is started again at once.
_SETTLED_S = 10.0


class Child:
    """One child in a session of its own, so that a Ctrl-C at the terminal does not reach it."""

    def __init__(self, command: list[str], *, log: Path) -> None:
        self.command, self.log = command, log
        self.starts = 0
        self._fails = 0
        self._due_at = 0.0
        self._started_at = 0.0
        self._process = self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def keep(self) -> None:
        """Start it again if it has died of itself, later each time it dies young; one that ended well stays ended."""
        status = self._process.poll()
        if status is None or status == 0:
            return
        now = time.monotonic()
        if not self._due_at:
            self._fails = 0 if now - self._started_at > _SETTLED_S else self._fails + 1
            self._due_at = now + _BACKOFF_S[min(self._fails, len(_BACKOFF_S) - 1)]
        elif now >= self._due_at:
            self._process = self._start()

    def wait(self, seconds: float) -> bool:
        """Wait for it to end by itself; return whether it has."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, seconds: float) -> None:
        """SIGTERM, and SIGKILL if it has not ended in time."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        if not self.wait(seconds):
            self._process.kill()
            self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        self._due_at, self._started_at = 0.0, time.monotonic()
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

"""Reads the job's log files as they grow, and picks the lines that say something went wrong."""

import os
import re
from collections import deque

_MOST_BYTES = 1 << 20
_MOST_LINE = 8192
_LAST_LINES = 50
_MOST_BLOCK = 200
_MOST_READS = 64

# Words of trouble; what they mean is judged by the service. A traceback is taken whole.
PATTERN = re.compile(
    r"error|exception|fatal|traceback|killed|abort|segmentation|core dumped|out of memory|oom|nccl|cuda|xid|watchdog"
    r"|timeout|timed out|exitcode|signal|sigterm|sigkill|cancelled|preempt|stale file|no space"
    r"|connection (reset|refused|closed)"
    r"|\bnan\b|overflow|assert|fail",
    re.IGNORECASE,
)
_TRACEBACK = "Traceback (most recent call last)"
_TRACEBACK_LINE = re.compile(
    r"^(\[?[\w./:]*\d+\]?:?\s*)?(  |\t|During handling|The above exception"
    r"|[\w.]+(Error|Exception|Interrupt|Exit|Warning)\b|\s*$|Traceback)"
)


class LogFile:
    """One log file. sent: lines sent already; recent: the last lines read, so that the end can be sent whole."""

    def __init__(self, path, name, rank, mark):
        # type: (str, str, object, dict) -> None
        self.path, self.name, self.rank = path, name, rank
        self.offset = int(mark.get("offset") or 0)
        self.line = int(mark.get("line") or 0)
        self._inode = mark.get("inode")
        self._rest = b""
        self._cut = bool(mark.get("cut"))  # the line that grows now was told already, as far as it is ever told
        self._block = 0
        self._recent = deque(maxlen=_LAST_LINES)  # type: deque
        self._sent = set()

    def mark(self):
        # type: () -> dict
        """Where reading goes on after a restart of the agent."""
        offset = self.offset - len(self._rest)
        return {"offset": offset, "line": self.line, "inode": self._inode, "cut": self._cut}

    def read(self, pattern):
        # type: (object) -> list
        """What is new and matches: [(line number, text)], at most a megabyte is read at a time."""
        return self._chosen(self._fresh(), pattern)

    def _chosen(self, fresh, pattern):
        # type: (list, object) -> list
        found = []
        for number, text in fresh:
            self._recent.append((number, text))
            if _TRACEBACK in text:
                self._block = _MOST_BLOCK
            wanted = self._block > 0 or pattern.search(text) is not None
            if self._block:
                self._block = self._block - 1 if _TRACEBACK_LINE.match(text) else 0
            if wanted:
                found.append((number, text))
                self._sent.add(number)
        self._sent = {number for number in self._sent if number > self.line - 2 * _LAST_LINES}
        return found

    def read_to_end(self, pattern):
        # type: (object) -> list
        """The same for all that is left of a file that grows no more, its last line complete or not."""
        found = []
        for _ in range(_MOST_READS):
            before = self.offset
            found.extend(self.read(pattern))
            if self.offset == before:
                break
        if self._rest:
            found.extend(self._chosen([self._line(self._rest)], pattern))
            self._rest, self._cut = b"", True
        return found

    def last(self):
        # type: () -> list
        """The last lines that were not sent yet."""
        found = [(number, text) for number, text in self._recent if number not in self._sent]
        self._sent.update(number for number, _ in found)
        return found

    def _fresh(self):
        # type: () -> list
        try:
            with open(self.path, "rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self.offset:
                    if self._inode is not None:
                        self.offset, self.line, self._rest, self._cut = 0, 0, b"", False  # rotated or truncated
                    self._inode = status.st_ino
                file.seek(self.offset)
                data = file.read(_MOST_BYTES)
        except OSError:
            return []
        self.offset += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        if self._cut and whole:
            del whole[0]  # the end of the line that was cut
            self._cut = False
        fresh = [self._line(raw) for raw in whole]
        if self._cut:
            self._rest = b""
        elif len(self._rest) > _MOST_LINE:
            fresh.append(self._line(self._rest))
            self._rest, self._cut = b"", True
        return fresh

    def _line(self, raw):
        # type: (bytes) -> tuple
        self.line += 1
        return self.line, raw[:_MOST_LINE].rstrip(b"\r").decode("utf-8", "replace")


def records(file, found, at):
    # type: (LogFile, list, float) -> list
    """Lines as the service is told of them: one record for each run of neighbours."""
    rows = []
    for number, text in found:
        if rows and rows[-1]["first"] + len(rows[-1]["lines"]) == number and len(rows[-1]["lines"]) < 500:
            rows[-1]["lines"].append(text)
        else:
            rows.append(
                {"type": "lines", "at": at, "file": file.name, "first": number, "rank": file.rank, "lines": [text]}
            )
    return rows

"""Reads files as they grow: found by pattern, kept open so that the end of a rotated one is not lost."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 8 << 20  # of one poll, over all files
_MOST_BYTES_EACH = 1 << 20
_MOST_LISTED = 100_000


@dataclass
class Followed:
    """A file that is open. inode: device and number; offset: bytes read; begun: nothing of it was handed over yet."""

    file: BinaryIO
    inode: tuple[int, int]
    offset: int = 0
    begun: bool = True


class Follower:
    """Hands over what was appended to the files that fit `patterns`.

    A file that is renamed is read to its end before the one that took its name; one that has become shorter is read from its
    beginning. One that was cut and has grown past where it was read before the next look cannot be told from one that grew.
    left_out: files that fit and are over `most_files`
    """

    def __init__(self, patterns: Sequence[str], *, every_s: float, most_files: int) -> None:
        if not all(Path(pattern).name for pattern in patterns):
            raise ValueError("patterns: each names files, such as /var/log/job/rank*.log")
        self.patterns, self.every_s, self.most_files = tuple(patterns), every_s, most_files
        self.left_out = 0
        self._files: dict[str, Followed] = {}
        self._looked_at = float("-inf")
        self._states: dict[str, bool] = {}
        self._said_left_out = 0

    def read(self, now: float) -> Iterator[tuple[str, bytes, bool, bool]]:
        """(path, bytes, whether the file begins with them, whether it has ended), at most MOST_BYTES of all files together."""
        if now - self._looked_at >= self.every_s:
            self._looked_at = now
            self._look()
        left = MOST_BYTES
        for path in list(self._files):
            if left <= 0:
                break
            for piece in self._read_one(path, min(left, _MOST_BYTES_EACH)):
                left -= len(piece[1])
                yield piece
            if (followed := self._files.pop(path, None)) is not None:
                self._files[path] = followed  # whoever was read goes to the end, so that the next poll begins with the others

    def states(self) -> Iterator[tuple[str, bool]]:
        """Which patterns and files were found readable, and which not, since this was asked last."""
        states, self._states = self._states, {}
        yield from states.items()

    def news_of_left_out(self) -> bool:
        """Whether `left_out` has changed since this was asked last."""
        changed, self._said_left_out = self._said_left_out != self.left_out, self.left_out
        return changed

    def close(self) -> None:
        """Close every file."""
        for followed in self._files.values():
            followed.file.close()
        self._files.clear()

    def _look(self) -> None:
        found: dict[str, None] = {}
        for pattern in self.patterns:
            fits = sorted(path for path in islice(_fitting(pattern), _MOST_LISTED) if _is_regular(path))
            self._states[pattern] = bool(fits)
            found |= dict.fromkeys(fits)
        new = [path for path in found if path not in self._files]
        room = max(0, self.most_files - len(self._files))
        self.left_out = max(0, len(new) - room)
        for path in new[:room]:
            followed = self._open(path)
            if followed is not None:
                self._files[path] = followed

    def _open(self, path: str) -> Followed | None:
        try:
            file = Path(path).open("rb", buffering=0)  # noqa: SIM115  # it stays open while the file is followed
            status = os.fstat(file.fileno())
        except OSError:
            self._states[path] = False
            return None
        self._states[path] = True
        return Followed(file, (status.st_dev, status.st_ino))

    def _read_one(self, path: str, most: int) -> Iterator[tuple[str, bytes, bool, bool]]:
        followed = self._files[path]
        try:
            data = followed.file.read(most) or b""
            inode, size = _status(path)
        except OSError:
            self._states[path] = False
            self._forget(path)
            yield path, b"", False, True
            return
        if data:
            followed.offset += len(data)
            yield path, data, followed.begun, False
            followed.begun = False
        elif inode is None:  # it is gone, and has been read to its end
            self._forget(path)
            yield path, b"", False, True
        elif inode != followed.inode:
            self._forget(path)
            yield path, b"", False, True
            if (fresh := self._open(path)) is not None:
                self._files[path] = fresh
        elif size < followed.offset:
            followed.file.seek(0)
            followed.offset, followed.begun = 0, True

    def _forget(self, path: str) -> None:
        self._files.pop(path).file.close()


def _fitting(pattern: str) -> Iterator[str]:
    whole = Path(pattern)
    yield from map(str, Path(whole.anchor or ".").glob(str(whole.relative_to(whole.anchor))))


def _is_regular(path: str) -> bool:
    """Whether it is a file and no pipe or device, whose reading might wait."""
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except OSError:
        return False


def _status(path: str) -> tuple[tuple[int, int] | None, int]:
    """A path's inode and size, None where nothing is there."""
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return None, 0
    return (status.st_dev, status.st_ino), status.st_size

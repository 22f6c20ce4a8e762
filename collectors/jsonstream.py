"""Cuts a stream of JSON objects that follow one another, on one line each or over many, into the objects."""

import re
from collections.abc import Iterator

_OUTSIDE = re.compile(rb'["{}]')
_INSIDE = re.compile(rb'["\\]')


class Objects:
    """Takes pieces of any size and gives each object as soon as its last brace is there; linear in what it is given.

    most_bytes: an object that is longer is passed over; lost: how many were; stray: bytes between objects that are no white
        space, such as an error message in plain text
    """

    def __init__(self, most_bytes: int = 8 << 20) -> None:
        self.most_bytes = most_bytes
        self.lost = self.stray = 0
        self._object = bytearray()
        self._depth = 0
        self._in_string = self._escaped = self._too_long = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The objects that end in `data`."""
        at = kept = 0
        while at < len(data):
            if self._escaped:  # whatever follows a backslash is one character of its string
                self._escaped = False
                at += 1
                continue
            found = (_INSIDE if self._in_string else _OUTSIDE).search(data, at)
            if found is None:
                break
            at, mark = found.end(), found.group()
            if mark == b"\\":
                self._escaped = True
            elif mark == b'"':
                self._in_string = not self._in_string if self._depth else False
            elif mark == b"{":
                if not self._depth:
                    self.stray += len(data[kept : at - 1].strip())
                    kept = at - 1
                self._depth += 1
            elif self._depth:
                self._depth -= 1
                if not self._depth:
                    yield from self._end(data[kept:at])
                    kept = at
        if self._depth:
            self._keep(data[kept:])
        else:
            self.stray += len(data[kept:].strip())

    def _keep(self, piece: bytes) -> None:
        self._too_long = self._too_long or len(self._object) + len(piece) > self.most_bytes
        if self._too_long:
            self._object.clear()
        else:
            self._object += piece

    def _end(self, piece: bytes) -> Iterator[bytes]:
        self._keep(piece)
        whole, lost = bytes(self._object), self._too_long
        self._object.clear()
        self._too_long = False
        if lost:
            self.lost += 1
        else:
            yield whole

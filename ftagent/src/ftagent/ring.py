"""The memory that one rank shares with its agent: a few facts, and a ring of its last steps.

Everything is 8-byte words, read and written through two views of one mapping ('q' and 'd'), because that costs a
twentieth of struct.pack_into. One writer, any number of readers; `WRITTEN` is stored last, so a reader that sees a
record's number sees the record.
"""

import mmap
import os
import struct

MAGIC = int.from_bytes(b"FTAGENT2", "little")
SLOTS = 256
COLUMNS = 29
NAME_BYTES = 48

# words of the header
W_MAGIC, W_PID, W_START, W_RANK, W_WORLD, W_STEP, W_STEPPED_AT, W_WRITTEN, W_PHASE, W_PHASE_AT, W_NAMES, W_PHASES = (
    range(12)
)
HEADER_WORDS = 16
NAMES_AT = HEADER_WORDS * 8
PHASE_NAMES = 32
PHASES_AT = NAMES_AT + COLUMNS * NAME_BYTES
RING_AT = PHASES_AT + PHASE_NAMES * NAME_BYTES
RECORD_WORDS = 3 + COLUMNS  # step, ended_at, mask of columns that were given, columns
SIZE = RING_AT + SLOTS * RECORD_WORDS * 8


class RingError(ValueError):
    """A file that is not a ring."""


class Ring:
    """A mapped ring file. q, d: the same words as integers and as floats."""

    def __init__(self, path, create=False):
        # type: (str, bool) -> None
        # a new file takes an old one's place: cut short, it would be a SIGBUS in everybody who has it mapped
        fresh = "%s.%d.new" % (path, os.getpid())
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600) if create else os.open(path, os.O_RDONLY)
        try:
            if create:
                # a full disk must show here: later it would be a SIGBUS in the training process
                os.posix_fallocate(fd, 0, SIZE)
            elif os.fstat(fd).st_size != SIZE:
                raise RingError("%s: %d bytes, a ring has %d" % (path, os.fstat(fd).st_size, SIZE))
            self.inode = os.fstat(fd).st_ino
            access = mmap.ACCESS_WRITE if create else mmap.ACCESS_READ
            self.map = mmap.mmap(fd, SIZE, access=access)
            if create:
                os.rename(fresh, path)
        finally:
            os.close(fd)
        with memoryview(self.map) as view:
            self.q = view.cast("q")
            self.d = view.cast("d")
        if not create and self.q[W_MAGIC] != MAGIC:
            self.close()
            raise RingError("%s: not a ring" % path)

    def close(self):
        # type: () -> None
        self.q.release()
        self.d.release()
        self.map.close()

    def name(self, at, index):
        # type: (int, int) -> str
        """The name in slot `index` of the table at byte `at`."""
        begin = at + index * NAME_BYTES
        return self.map[begin : begin + NAME_BYTES].split(b"\0", 1)[0].decode("utf-8", "replace")

    def put_name(self, at, index, name):
        # type: (int, int, str) -> None
        data = name.encode("utf-8", "replace")[: NAME_BYTES - 1]
        struct.pack_into("%ds" % NAME_BYTES, self.map, at + index * NAME_BYTES, data)

    def phase(self):
        # type: () -> tuple
        """The phase open now and when it was entered: ("", 0.0) if none."""
        index = self.q[W_PHASE]
        if not 0 < index <= PHASE_NAMES:
            return "", 0.0
        return self.name(PHASES_AT, index - 1), self.d[W_PHASE_AT]

    def records(self, after):
        # type: (int) -> tuple
        """The records numbered over `after`: (rows, last number, how many were overwritten before they were read).

        A row is (step, ended_at, {name: value}).
        """
        written = self.q[W_WRITTEN]
        if written < after:
            return [], written, 0  # not the ring that was read before
        # the slot that is written next may be half overwritten while it is read
        oldest = max(after, written - SLOTS + 1)
        names = [self.name(NAMES_AT, i) for i in range(min(self.q[W_NAMES], COLUMNS))]
        rows = []
        for number in range(oldest, written):
            base = RING_AT // 8 + (number % SLOTS) * RECORD_WORDS
            mask = self.q[base + 2]
            values = {names[i]: self.d[base + 3 + i] for i in range(len(names)) if mask >> i & 1}
            rows.append((self.q[base], self.d[base + 1], values))
        if self.q[W_WRITTEN] - oldest >= SLOTS:
            rows = rows[self.q[W_WRITTEN] - SLOTS + 1 - oldest :]
        return rows, written, max(0, written - after - len(rows))

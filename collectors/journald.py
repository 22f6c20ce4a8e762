"""The journal of systemd: entries as `journalctl -o json` writes them, from a cursor on, so that none is read twice or missed."""

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from collectors.child import Child
from collectors.sourcestate import SourceStates, reading
from holdfast.events import Lines, Observation
from holdfast.topology import JobId, NodeId

MOST_ENTRY = 65_536
_FIELDS = "MESSAGE,_HOSTNAME,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,PRIORITY,_TRANSPORT,_PID"
_SAVE_EVERY = 200


class _Entry(msgspec.Struct):
    """The keys of an entry that decide what becomes of it."""

    MESSAGE: str | list[int] | None = None
    cursor: str = msgspec.field(default="", name="__CURSOR")
    transport: str = msgspec.field(default="", name="_TRANSPORT")


_decode = msgspec.json.Decoder(_Entry)


class Journald:
    """The collector `journald`. Lines are entries as JSON, as the node rules read them; source "journal:<node>".

    node, job: what its lines are said of, this machine's name unless told; units: only of these, all if none
    kernel: the kernel's entries too; off where `kmsg` reads them
    lookback_s: how much from before the start is read where there is no cursor; cursor_file: keeps the place over a restart
    command: the program and its first words; read: instead of a program, gives pieces of its output, None where it has ended
    """

    durable = False

    def __init__(
        self, *, node: str = "", job: str = "", units: Sequence[str] = (), kernel: bool = False, lookback_s: float = 300.0,
        cursor_file: str = "", command: Sequence[str] = ("journalctl",), read: Callable[[float], Iterable[bytes | None]] | None = None,
    ) -> None:  # fmt: skip
        self.node, self.job, self.units, self.kernel = node or socket.gethostname(), job, tuple(units), kernel
        self.lookback_s, self.cursor_file, self.program = lookback_s, cursor_file, tuple(command)
        self.cursor = _kept(cursor_file)
        self._read, self._child = read, None if read is not None else Child(self.words)
        self._states = SourceStates()
        self._rest, self._number, self._malformed, self._unsaved = b"", 0, 0, 0

    def words(self) -> list[str]:
        """The command as it is started next."""
        since = ["--after-cursor", self.cursor] if self.cursor else ["--since", f"-{self.lookback_s:.0f}s"]
        units = [word for unit in self.units for word in ("-u", unit)]
        return [*self.program, "-o", "json", "--follow", "--no-tail", "--all", f"--output-fields={_FIELDS}", *since, *units]

    def poll(self, now: float) -> Iterator[Observation]:
        """The entries that have come, and whether they can be read."""
        source = f"journal:{self.node}"
        pieces = self._read(now) if self._read is not None else self._child.poll() if self._child is not None else ()
        lines: list[str] = []
        malformed = self._malformed
        for piece in pieces:
            yield from self._states.of(source, now, up=piece is not None, node=self.node, job=self.job)
            if piece is None:
                self._rest = b""
            else:
                lines += self._cut(piece)
        if lines:
            first = self._number + 1
            self._number += len(lines)
            yield Lines(
                at=now, source=source, job=JobId(self.job), node=NodeId(self.node), file="journal", first=first, lines=tuple(lines)
            )
        if self._malformed != malformed:
            yield reading(source, {"source.malformed_total": float(self._malformed)}, now, node=self.node, job=self.job)
        self._save()

    def close(self, seconds: float = 0.0) -> None:
        """End the program and keep the place."""
        if self._child is not None:
            self._child.close()
        self._unsaved = _SAVE_EVERY
        self._save()

    def _cut(self, piece: bytes) -> Iterator[str]:
        *whole, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MOST_ENTRY:
            self._rest, self._malformed = b"", self._malformed + 1
        for row in whole:
            if not row:
                continue
            try:
                entry = _decode.decode(row) if len(row) <= MOST_ENTRY else None
            except (msgspec.MsgspecError, UnicodeDecodeError):
                entry = None
            if entry is None or not entry.MESSAGE:
                self._malformed += entry is None
                continue
            self.cursor, self._unsaved = entry.cursor or self.cursor, self._unsaved + 1
            if self.kernel or entry.transport != "kernel":
                yield row.decode("utf-8", "replace")

    def _save(self) -> None:
        if self.cursor_file and self.cursor and self._unsaved >= _SAVE_EVERY:
            self._unsaved = 0
            try:
                fresh = Path(self.cursor_file).with_suffix(".new")
                fresh.write_text(self.cursor, encoding="utf-8")
                fresh.replace(self.cursor_file)
            except OSError:
                return  # the next start reads some entries again


def _kept(file: str) -> str:
    """A cursor that was kept, "" if there is none; one that is no word of the journal's would be an option of its program."""
    try:
        cursor = Path(file).read_text(encoding="utf-8").strip() if file else ""
    except (OSError, UnicodeDecodeError):
        return ""
    return cursor if cursor.startswith("s=") and len(cursor) < 500 else ""

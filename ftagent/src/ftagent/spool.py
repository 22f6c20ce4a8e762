"""Batches that wait on disk until the service has acknowledged them, within a bound."""

import json
import logging
import os
import uuid

from ftagent import layout

log = logging.getLogger("ftagent")

# What says how a process or an order ended is given up last.
VITAL = frozenset(("job", "process", "outcome", "dump"))
_MOST_RECORDS = 500
_MOST_BYTES = 8 << 20


class Spool:
    """Numbered batch files in a folder. A number is never used twice for different content.

    most_bytes: past it the oldest batches of beats, steps and lines are given up, then the oldest of all; `dropped`
    counts the records lost so, or because the disk took them not, or elsewhere before they came here (`lose`).
    """

    def __init__(self, folder, most_bytes=64 << 20):
        # type: (str, int) -> None
        layout.make_folder(folder)
        self.folder, self.most_bytes = folder, most_bytes
        self._mark = os.path.join(folder, "mark.json")
        mark = layout.read_dict(self._mark)
        self.boot = str(mark.get("boot") or uuid.uuid4().hex[:12])
        self.dropped = int(mark.get("dropped") or 0)
        self._sizes = {}  # sequence -> (bytes, vital, records)
        for name in os.listdir(folder):
            if name.endswith(".batch"):
                path = os.path.join(folder, name)
                number, _, kind = name[: -len(".batch")].partition("-")
                letter, _, count = kind.partition("-")
                if number.isdecimal() and count.isdecimal() and letter in ("v", "b"):
                    self._sizes[int(number)] = (os.path.getsize(path), letter == "v", int(count))
            elif name.endswith(".new"):
                os.unlink(os.path.join(folder, name))  # half written when an agent died
        self._sequence = max([int(mark.get("sequence") or 0), *self._sizes])
        self._save_mark()

    def __len__(self):
        # type: () -> int
        return len(self._sizes)

    def put(self, envelope, records):
        # type: (dict, list) -> None
        """Make batches of these records, the vital ones first and apart; what the disk does not take is counted."""
        vital = [record for record in records if record["type"] in VITAL]
        rest = [record for record in records if record["type"] not in VITAL]
        for some, is_vital in ((vital, True), (rest, False)):
            for part in _parts([json.dumps(record) for record in some]):
                self._write(envelope, part, is_vital)
        self._bound()

    def lose(self, count):
        # type: (int) -> None
        """Count records that were lost before they came here."""
        self.dropped += count

    def oldest(self):
        # type: () -> object
        """(sequence, body) of the oldest batch, None if there is none."""
        for sequence in sorted(self._sizes):
            try:
                with open(self._path(sequence), "rb") as file:
                    return sequence, file.read()
            except OSError as error:
                log.warning("batch %d is lost: %s", sequence, error)
                self.dropped += self._sizes.pop(sequence)[2]
        return None

    def acknowledge(self, sequence):
        # type: (int) -> None
        """Forget the batch of this number and all before it."""
        for number in [number for number in self._sizes if number <= sequence]:
            self._remove(number)

    def refuse(self, sequence):
        # type: (int) -> None
        """A batch will never be taken: forget it alone, and count it."""
        if sequence in self._sizes:
            self.dropped += self._sizes[sequence][2]
            self._remove(sequence)
            self._try_save_mark()

    def _write(self, envelope, records, vital):
        # type: (dict, list, bool) -> None
        self._sequence += 1
        head = dict(envelope, boot=self.boot, sequence=self._sequence, dropped=self.dropped)
        data = ('%s, "records": [%s]}' % (json.dumps(head)[:-1], ", ".join(records))).encode()
        self._sizes[self._sequence] = (len(data), vital, len(records))
        try:
            self._save_mark()  # before the batch: a number once taken stays taken
            layout.write_bytes(self._path(self._sequence), data)
        except OSError as error:
            log.warning("%d records are lost: %s", len(records), error)
            del self._sizes[self._sequence]
            self.dropped += len(records)

    def _bound(self):
        # type: () -> None
        excess = sum(size for size, _, _ in self._sizes.values()) - self.most_bytes
        if excess <= 0:
            return
        for number in sorted(self._sizes, key=lambda n: (self._sizes[n][1], n)):
            if excess <= 0:
                break
            size, _, records = self._sizes[number]
            excess -= size
            self.dropped += records
            self._remove(number)
        self._try_save_mark()

    def _remove(self, number):
        # type: (int) -> None
        try:
            os.unlink(self._path(number))
        except OSError:
            pass  # it is gone already
        self._sizes.pop(number, None)

    def _path(self, number):
        # type: (int) -> str
        _, vital, records = self._sizes[number]
        return os.path.join(self.folder, "%d-%s-%d.batch" % (number, "v" if vital else "b", records))

    def _try_save_mark(self):
        # type: () -> None
        try:
            self._save_mark()
        except OSError as error:
            log.warning("the spool's mark is not kept: %s", error)

    def _save_mark(self):
        # type: () -> None
        layout.write_json(self._mark, {"boot": self.boot, "sequence": self._sequence, "dropped": self.dropped})


def _parts(records):
    # type: (list) -> list
    """Encoded records in portions that the service takes: so many, and so many bytes."""
    part, size = [], 0
    for record in records:
        if part and (len(part) >= _MOST_RECORDS or size + len(record) > _MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(record)
        size += len(record)
    if part:
        yield part

"""Prometheus text pages -> samples: a thin cut along each line, label blocks read once and remembered."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from collectors.aliases import Alias
from holdfast.events import Samples
from holdfast.topology import JobId, Kind, NodeId, Target

MOST_CACHED = 200_000
MOST_BYTES = 64 << 20
LATE_S = 300.0

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_PCI = re.compile(r"^(?:[0-9a-fA-F]{4})?([0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})(?:\.[0-7])?$")
_ESCAPES = re.compile(r"\\(.)")
_ENDS = frozenset("0123456789NnfF")
_WORD = re.compile(r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")

# What stands for "no reading": the end of 64 bits everywhere, and DCGM's blanks of 32 bits and of a float (dcgm_structs.h).
_BLANK = 2.0**63 - 4096
_BLANKS_OF_DCGM = ((2147483632.0, 2147483647.0), (140737488355328.0, 140737488355343.0))
_SUSPECT = 2147483632.0  # readings below it cannot be blanks
LIES = ("source.blank_values", "source.not_numbers", "source.negative_counters", "source.lag_s")

Places = dict[tuple[Target, str], tuple[int, str]]


class PageError(ValueError):
    """A page that is not text format; the message holds the line's number."""


class Page(NamedTuple):
    """A page as it was read. node, job: where it comes from, "" where its labels say so."""

    source: str
    text: str
    node: str = ""
    job: str = ""


_targets: dict[tuple[Kind, tuple[str, ...], str, str], dict[str, Target]] = {}
_plain: dict[int, tuple[Mapping[str, Alias], int, dict[str, Alias]]] = {}
_cached = 0


def parse_page(page: Page, *, names: Mapping[str, Alias], at: float, places: Places | None = None) -> Iterator[Samples]:
    """Turn one exporter page into tables of targets x signals, one for each kind of target.

    names: metric -> alias; other metrics are passed over. Where a target has a metric twice the last counts.
    places: filled with (line, text) of each reading, where given
    Readings that are none (blank, not a number, a counter below zero) are left out, and counted in a table of the source's own.
    raises PageError: a line is not text format
    """
    if len(page.text) > MOST_BYTES:
        raise PageError(f"{page.source}: {len(page.text)} characters, at most {MOST_BYTES} are read")
    reader = _Reader(page, at, places)
    plain = _plain_of(names)
    rows = reader.rows
    for number, line in enumerate(page.text.split("\n"), 1):
        if not line or line[0] == "#":
            continue
        opened = line.find("{")
        name = line[:opened] if opened >= 0 else line.partition(" ")[0]
        alias = plain.get(name)
        if alias is None:
            other = names.get(name)
            if other is not None:
                reader.take_by_labels(other, *_cut(line, page.source, number), number, line)
            elif line[-1] not in _ENDS or not name:  # cheap, and enough to tell a page from something else
                _cut(line, page.source, number)
            continue
        closed = line.rfind("}") + 1 if opened >= 0 else len(name)
        labels = line[opened + 1 : closed - 1] if opened >= 0 else ""
        try:
            value = float(line[closed:])
        except ValueError:
            value = -1.0
        if "} " in labels or not 0.0 <= value < _SUSPECT:  # an exemplar, a time behind it, or a reading that may be none
            labels, value = _cut(line, page.source, number)
            if reader.is_lie(alias, value, number, line):
                continue
        row = rows[alias.kind].get(labels)
        if row is None:
            row = reader.row(alias, labels)
        row[alias.signal] = value * alias.factor if alias.equals is None else float(value == alias.equals)
        if places is not None:
            places[reader.target(alias, labels), alias.signal] = (number, line)
    yield from reader.tables()


def _plain_of(names: Mapping[str, Alias]) -> Mapping[str, Alias]:
    """Those of a table that mean one thing whatever their labels say; worked out once for each table."""
    known = _plain.get(id(names))
    if known is None or known[0] is not names or known[1] != len(names):
        if len(_plain) > 64:
            _plain.clear()
        known = _plain[id(names)] = (names, len(names), {n: alias for n, alias in names.items() if alias.is_plain and not alias.id})
    return known[2]


def written_at(text: str) -> float | None:
    """Unix seconds of a page whose samples carry their time in milliseconds, None where they do not."""
    lines = (line for line in reversed(text[-65_536:].split("\n")) if line and line[0] != "#")
    fields = next(lines, "").rpartition("}")[2].split()
    return int(fields[-1]) / 1e3 if len(fields) > 1 and fields[-1].isdigit() and 12 <= len(fields[-1]) <= 14 else None


class _Reader:
    """What has been read of one page. rows: kind -> labels -> the target's readings; several label blocks may be of one target."""

    def __init__(self, page: Page, at: float, places: Places | None) -> None:
        self._page, self._at, self._places = page, at, places
        self.rows: defaultdict[Kind, dict[str, dict[str, float]]] = defaultdict(dict)
        self._found: dict[Kind, dict[Target, dict[str, float]]] = {}
        self._lies = dict.fromkeys(LIES, 0.0)

    def target(self, alias: Alias, labels: str) -> Target:
        return _target(alias, labels, self._page)

    def row(self, alias: Alias, labels: str) -> dict[str, float]:
        """The readings of whom a label block names, remembered by the block."""
        found = self._found.setdefault(alias.kind, {}).setdefault(self.target(alias, labels), {})
        if not alias.id:
            self.rows[alias.kind][labels] = found
        return found

    def is_lie(self, alias: Alias, value: float, number: int, line: str) -> bool:
        """Whether a reading is none; then it is counted."""
        told = self._lie(alias, value, line)
        if told:
            self._lies[told] += 1.0
            if self._places is not None:
                self._places.setdefault((self._source(), told), (number, line))
        return bool(told)

    def take_by_labels(self, alias: Alias, labels: str, value: float, number: int, line: str) -> None:
        """A sample whose labels say what it means, in each of its meanings."""
        if self.is_lie(alias, value, number, line):
            return
        for one in (alias, *alias.others):
            if any(f'{key}="{word}"' not in labels for key, word in one.where.items()):
                continue
            if any(f'{key}="{word}"' in labels for key, words in one.unless.items() for word in words):
                continue
            reading = self._labelled(one, labels, value)
            row = self.row(one, labels)
            before = row.get(one.signal)
            if reading is None or (before is not None and one.keep == "most" and before >= reading):
                continue
            row[one.signal] = reading + before if before is not None and one.keep == "sum" else reading
            if self._places is not None and (one.keep != "sum" or reading or before is None):
                self._places[self.target(one, labels), one.signal] = (number, line)

    @staticmethod
    def _labelled(alias: Alias, labels: str, value: float) -> float | None:
        """The number a label holds, where the sample says that it is so."""
        if not alias.label:
            return alias.of(value)
        found = next((word for name, word in _LABEL.findall(labels) if name == alias.label), "")
        return float(found) if value > 0 and found.isdigit() and len(found) < 16 else None

    @staticmethod
    def _lie(alias: Alias, value: float, line: str) -> str:
        if value != value or value in (float("inf"), float("-inf")):
            return "source.not_numbers"
        blank = value >= _BLANK or (line.startswith("DCGM_") and any(low <= value <= high for low, high in _BLANKS_OF_DCGM))
        if blank:
            return "source.blank_values"
        return "source.negative_counters" if value < 0.0 and alias.signal.endswith("_total") else ""

    def _source(self) -> Target:
        return Target(Kind.SOURCE, self._page.source, node=self._page.node)

    def tables(self) -> Iterator[Samples]:
        """A table for each kind of target, and one of the source itself where it gave what cannot be used."""
        written = written_at(self._page.text)
        if written is not None and self._at - written >= LATE_S:
            self._lies["source.lag_s"] = self._at - written
        for kind, rows in self._found.items():
            yield _table(self._page, kind, rows, self._at)
        if any(self._lies.values()):
            yield _table(self._page, Kind.SOURCE, {self._source(): self._lies}, self._at)


def _cut(line: str, source: str, number: int) -> tuple[str, float]:
    """(labels, value) of a sample; a time and an exemplar behind the value are dropped."""
    opened = line.find("{")
    if opened < 0:
        name, _, rest = line.partition(" ")
        labels = ""
    else:
        closed = line.rfind("}")
        if " # {" in line:
            closed = line.rfind("}", 0, line.rfind(" # {"))
        name, labels, rest = line[:opened], line[opened + 1 : closed], line[closed + 1 :]
        if closed < opened:
            raise PageError(f"{source}, line {number}: labels without an end")
    try:
        return labels, float(rest)
    except ValueError:
        pass
    fields = rest.split()
    try:
        value = float(fields[0])
    except (IndexError, ValueError):
        raise PageError(f"{source}, line {number}: no number where the value stands") from None
    if not _WORD.match(name.strip()):
        raise PageError(f"{source}, line {number}: {name[:40]!r} is no name")
    return labels, value


def _target(alias: Alias, labels: str, page: Page) -> Target:
    global _cached
    key = (alias.kind, alias.id, page.node, page.source)
    known = _targets.get(key)
    if known is None:
        known = _targets[key] = {}
    target = known.get(labels)
    if target is None:
        if _cached >= MOST_CACHED:
            _targets.clear()
            _cached = 0
            known = _targets[key] = {}
        _cached += 1
        target = known[labels] = _read_target(alias, labels, page)
    return target


def _read_target(alias: Alias, labels: str, page: Page) -> Target:
    said = {name: _ESCAPES.sub(lambda m: "\n" if m[1] == "n" else m[1], value) for name, value in _LABEL.findall(labels)}
    node = page.node or said.get("Hostname") or said.get("hostname") or said.get("node") or said.get("instance", "")
    kind = alias.kind
    if alias.id:
        id = " ".join(said[name] for name in alias.id if said.get(name))
    elif kind is Kind.DEVICE:
        pci = _PCI.match(said.get("pci_bus_id") or said.get("pcie_bus_info", ""))
        id = pci.group(1).lower() if pci else said.get("gpu") or said.get("id") or said.get("UUID", "")
    elif kind is Kind.NIC:
        id = f"{said.get('device', '')}:{said.get('port', '1')}"
    elif kind is Kind.INSTANCE:
        id = page.source.partition(":")[2] or page.source
    elif kind is Kind.SOURCE:
        id = page.source
    else:
        id = node
    return Target(kind, id, node=node)


def _table(page: Page, kind: Kind, rows: Mapping[Target, Mapping[str, float]], at: float) -> Samples:
    signals = tuple(dict.fromkeys(signal for row in rows.values() for signal in row))
    places = {signal: n for n, signal in enumerate(signals)}
    values = np.full((len(rows), len(signals)), np.nan)
    for n, row in enumerate(rows.values()):
        for signal, value in row.items():
            values[n, places[signal]] = value
    targets = tuple(rows)
    return Samples(
        at=at, source=page.source, job=JobId(page.job), node=NodeId(page.node or targets[0].node), targets=targets, signals=signals,
        values=values,
    )  # fmt: skip

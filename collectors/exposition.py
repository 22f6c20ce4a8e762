"""Prometheus text pages -> samples: a thin cut along each line, label blocks read once and remembered."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from collectors.aliases import Alias
from holdfast.events import Samples
from holdfast.topology import JobId, Kind, NodeId, Target

MOST_CACHED = 200_000
MOST_BYTES = 64 << 20
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_PCI = re.compile(r"^(?:[0-9a-fA-F]{4})?([0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})(?:\.[0-7])?$")
_ESCAPES = re.compile(r"\\(.)")


class PageError(ValueError):
    """A page that is not text format; the message holds the line's number."""


class Page(NamedTuple):
    """A page as it was read. node, job: where it comes from, "" where its labels say so."""

    source: str
    text: str
    node: str = ""
    job: str = ""


_targets: dict[tuple[Kind, str, str, str], Target] = {}


def parse_page(page: Page, *, names: Mapping[str, Alias], at: float) -> Iterator[Samples]:
    """Turn one exporter page into tables of targets x signals, one for each kind of target.

    names: metric -> alias; other metrics are passed over. Where a target has a metric twice the last counts.
    raises PageError: a line is not text format
    """
    if len(page.text) > MOST_BYTES:
        raise PageError(f"{page.source}: {len(page.text)} characters, at most {MOST_BYTES} are read")
    found: dict[Kind, dict[Target, dict[str, float]]] = {}
    for number, line in enumerate(page.text.splitlines(), 1):
        if not line or line[0] == "#":
            continue
        name, labels, value = _cut(line, page.source, number)
        alias = names.get(name)
        if alias is not None:
            target = _target(alias.kind, labels, page)
            found.setdefault(alias.kind, {}).setdefault(target, {})[alias.signal] = alias.of(value)
    for kind, rows in found.items():
        yield _table(page, kind, rows, at)


def _cut(line: str, source: str, number: int) -> tuple[str, str, float]:
    opened = line.find("{")
    if opened < 0:
        name, _, rest = line.partition(" ")
        labels = ""
    else:
        closed = line.rfind("}")
        name, labels, rest = line[:opened], line[opened + 1 : closed], line[closed + 1 :]
        if closed < opened:
            raise PageError(f"{source}, line {number}: labels without an end")
    fields = rest.split()
    try:
        return name.strip(), labels, float(fields[0])
    except (IndexError, ValueError):
        raise PageError(f"{source}, line {number}: no number where the value stands") from None


def _target(kind: Kind, labels: str, page: Page) -> Target:
    key = (kind, labels, page.node, page.source)
    target = _targets.get(key)
    if target is None:
        if len(_targets) >= MOST_CACHED:
            _targets.clear()
        target = _targets[key] = _read_target(kind, labels, page)
    return target


def _read_target(kind: Kind, labels: str, page: Page) -> Target:
    said = {name: _ESCAPES.sub(lambda m: "\n" if m[1] == "n" else m[1], value) for name, value in _LABEL.findall(labels)}
    node = page.node or said.get("Hostname") or said.get("hostname") or said.get("node") or said.get("instance", "")
    if kind is Kind.DEVICE:
        pci = _PCI.match(said.get("pci_bus_id", ""))
        id = pci.group(1).lower() if pci else said.get("gpu") or said.get("id") or said.get("UUID", "")
    elif kind is Kind.NIC:
        id = f"{said.get('device', '')}:{said.get('port', '1')}"
    elif kind is Kind.INSTANCE:
        id = page.source.partition(":")[2] or page.source
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

"""Claims what other monitors' alerts say, for as long as they fire: a hint beside what was seen here, never more."""

import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import msgspec
import re2

from holdfast.events import Alert, Alerts, Finding, Observation
from holdfast.faults import Action, Fault, Judgement, Perception, Severity
from holdfast.topology import JobId, Kind, Target, job_of
from holdfast.verdict import Evidence, Json

MOST_STANDING = 65_536
_MOST_TEXT = 500
_MOST_NAME = 120
_SHOWN_LABELS = 30

# What we say ourselves comes back through the same Alertmanager; to believe it would be to believe an echo.
OURS = "Holdfast"
CAUSE = "outside_alert"

_GPU = frozenset({Fault.GPU_HW, Fault.GPU_MEM, Fault.GPU_THERMAL_POWER, Fault.NVLINK, Fault.PCIE})
_NET = frozenset({Fault.NIC, Fault.FABRIC})
_PCI = re2.compile(r"^(?:[0-9a-fA-F]{4})?([0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})(?:\.[0-7])?$")
_PORT = re2.compile(r"^(.+?):[0-9]+$")


class AlertTableError(ValueError):
    """Not a table of alerts; the message names the file and the place."""


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fault: Fault
    match: str


class _Labels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    node: tuple[str, ...]
    device: tuple[str, ...]
    nic: tuple[str, ...]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`alerts.toml`: the meaning of each key stands at its head."""

    severity: dict[str, Severity]
    labels: _Labels
    row: tuple[_Row, ...]


class Standing(msgspec.Struct):
    """An alert that fires. claim: key of the finding it holds up; heard_at: when it was said last, Unix seconds."""

    starts_at: float
    heard_at: float
    claim: str


class Claim(msgspec.Struct):
    """A finding that was made and how many alerts hold it up."""

    finding: Finding
    alerts: int = 1


class _Memory(msgspec.Struct):
    said: int
    standing: dict[str, Standing]
    claims: dict[str, Claim]


class Place(NamedTuple):
    """Where an alert points to."""

    target: Target
    perception: Perception


class OutsideAlerts:
    """The detector `alerts`. Undecided and watched: an alert from outside repairs nothing by itself.

    One finding for each (alert name, target) while at least one alert of it fires; alerts are known by fingerprint and
    start, so repeats say nothing. Alerts whose name begins with `Holdfast` are our own and are passed over.

    job_label: the label that names the training job (Prometheus' own `job` is a scrape job)
    expire_s: an alert that is not repeated for so long is over, whoever forgot to say so; over the repeat_interval
    table: a file of the form of `detectors/alerts.toml`, instead of it
    raises AlertTableError: an unreadable table, a word or an expression that is none
    """

    consumes = (Alerts,)

    def __init__(self, *, job_label: str = "training_job", expire_s: float = 86_400.0, table: str = "") -> None:
        self.job_label, self.expire_s = job_label, expire_s
        self._table = read_table(table)
        self._rows = [(row.fault, re2.compile(row.match)) for row in self._table.row]
        self._said = 0
        self._standing: dict[str, Standing] = {}  # the longest unheard first
        self._claims: dict[str, Claim] = {}

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Alerts):
            for alert in seen.alerts:
                if not alert.name.startswith(OURS):
                    yield from self._on_alert(alert, seen)

    def tick(self, now: float) -> Iterator[Finding]:
        while self._standing:
            fingerprint, oldest = next(iter(self._standing.items()))
            if now - oldest.heard_at <= self.expire_s:
                return
            yield from self._end(fingerprint, now, f"not repeated for {self.expire_s:g} s")

    def _on_alert(self, alert: Alert, seen: Alerts) -> Iterator[Finding]:
        known = self._standing.get(alert.fingerprint)
        if known is not None and alert.starts_at < known.starts_at:
            return  # late news of an earlier time that it fired
        if alert.status == "resolved":
            if known is not None:
                yield from self._end(alert.fingerprint, seen.at, "resolved")
        elif known is not None and alert.starts_at == known.starts_at:
            del self._standing[alert.fingerprint]  # to the end of the line of those that may have been forgotten
            known.heard_at = seen.at
            self._standing[alert.fingerprint] = known
        else:
            if known is not None:  # that it had ended was never said
                yield from self._end(alert.fingerprint, seen.at, "fires anew")
            yield from self._begin(alert, seen)

    def _begin(self, alert: Alert, seen: Alerts) -> Iterator[Finding]:
        while len(self._standing) >= MOST_STANDING:
            yield from self._end(next(iter(self._standing)), seen.at, "forgotten: too many alerts fire")
        finding = self._finding(alert, seen)
        key = f"{finding.check} {finding.target} {finding.job}"
        self._standing[alert.fingerprint] = Standing(alert.starts_at, seen.at, key)
        if key in self._claims:
            self._claims[key].alerts += 1
            return
        self._said += 1
        claim = self._claims[key] = Claim(msgspec.structs.replace(finding, id=f"alerts/{self._said}"))
        yield claim.finding

    def _end(self, fingerprint: str, at: float, why: str) -> Iterator[Finding]:
        key = self._standing.pop(fingerprint).claim
        claim = self._claims[key]
        claim.alerts -= 1
        if not claim.alerts:
            del self._claims[key]
            was = claim.finding
            text = Evidence(was.evidence[0].file, 0, f"alert {was.detail['alert']}: {why}")
            yield msgspec.structs.replace(was, at=at, cleared=True, evidence=(text,))

    def _finding(self, alert: Alert, seen: Alerts) -> Finding:
        name = alert.name[:_MOST_NAME]
        fault = self._fault(alert)
        place = self._place(alert, fault, seen)
        labels: dict[str, Json] = {key: value[:_MOST_TEXT] for key, value in list(alert.labels.items())[:_SHOWN_LABELS]}
        said = alert.annotations.get("summary") or alert.annotations.get("description") or alert.annotations.get("message", "")
        return Finding(
            at=seen.at, id="", job=JobId(alert.labels.get(self.job_label) or seen.job), target=place.target,
            perception=place.perception, fault=fault, check=f"alert.{name}", judgement=Judgement.UNDECIDED,
            severity=self._table.severity.get(alert.labels.get("severity", "").lower(), Severity.WARNING), cause=CAUSE,
            confidence=0.5, action=Action.WATCH, evidence=(Evidence(seen.source, 0, f"alert {name}: {said}"[:_MOST_TEXT]),),
            detail={"alert": name, "starts_at": alert.starts_at, "labels": labels},
        )  # fmt: skip

    def _fault(self, alert: Alert) -> Fault:
        word = alert.labels.get("holdfast_fault", "")
        if word in set(Fault):
            return Fault(word)
        return next((fault for fault, form in self._rows if form.search(alert.name)), Fault.UNKNOWN)

    def _place(self, alert: Alert, fault: Fault, seen: Alerts) -> Place:
        """The narrowest thing that the labels name: a device of a GPU fault, a port of a network fault, else the node."""
        labels = self._table.labels
        job = alert.labels.get(self.job_label) or seen.job
        node = _host(_first(alert.labels, labels.node)) or seen.node
        device, nic = _first(alert.labels, labels.device), _first(alert.labels, labels.nic)
        if fault in _GPU and device:
            pci = _PCI.match(device)
            return Place(Target(Kind.DEVICE, pci.group(1).lower() if pci else device, node=node), Perception.NODE_FAULT)
        if fault in _NET and nic:
            port = alert.labels.get("port", "1")
            return Place(Target(Kind.NIC, f"{nic}:{port}", node=node), Perception.NODE_FAULT)
        if node:
            return Place(Target(Kind.NODE, node, node=node), Perception.NODE_FAULT)
        return Place(job_of(job) if job else Target(Kind.SOURCE, alert.name[:_MOST_NAME]), Perception.LOG_ERROR)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(_Memory(self._said, self._standing, self._claims))

    def restore(self, memory: bytes) -> None:
        kept = msgspec.msgpack.decode(memory, type=_Memory)
        self._said, self._standing, self._claims = kept.said, kept.standing, kept.claims


def read_table(own: str = "") -> Table:
    """Read the table that comes with the package, or the user's own.

    raises AlertTableError: unreadable, not TOML, an unknown key or word, an expression RE2 cannot run
    """
    file = Path(own) if own else resources.files("detectors") / "alerts.toml"
    try:
        table = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), Table)
        for row in table.row:
            re2.compile(row.match)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise AlertTableError(f"{own or 'alerts.toml'}: {error}") from error
    except re2.error as error:
        raise AlertTableError(f"{own or 'alerts.toml'}: {row.match!r}: {error}") from error
    return table


def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((labels[name][:_MOST_TEXT] for name in names if labels.get(name)), "")


def _host(address: str) -> str:
    """An `instance` without its port; an IPv6 address without its brackets too."""
    if address.count(":") > 1 and not address.startswith("["):
        return address  # a bare IPv6 address
    found = _PORT.match(address)
    return (str(found.group(1)) if found else address).strip("[]")

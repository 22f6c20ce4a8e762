"""The exporter `alertmanager`: every live incident is an alert that fires until the incident is resolved.

An alert is known by its labels alone, so they hold only what never changes while an incident lives, severity included:
`HoldfastIncident` is always a warning. When people are needed a second alert, `HoldfastNeedsHuman`, always
critical, fires beside it; routes and phones go by its labels. What is learned on the way stands in annotations.
"""

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from exporters.delivery import Delivery, Errand
from exporters.peer import Peer
from holdfast.events import Event, Transition
from holdfast.incident import Incident, State, Trigger

INCIDENT, NEEDS_HUMAN = "HoldfastIncident", "HoldfastNeedsHuman"
_SEVERITY = {INCIDENT: "warning", NEEDS_HUMAN: "critical"}

# An alert that is not sent again ends by itself: a dead Holdfast does not leave alerts behind that nobody ends.
LIVES_S = 240.0
MOST_ALERTS = 10_000
_AT_ONCE = 500
_MOST_TEXT = 2000
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OWN = ("alertname", "incident", "job", "severity")

Key = tuple[str, str]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert. ended_at: Unix seconds of the wall, None while it fires."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: float
    ended_at: float | None = None


class Alertmanager:
    """Posts to `/api/v2/alerts` of an Alertmanager of 0.16 or newer.

    url: without the path; resend_s: how often alerts that fire are sent again, under LIVES_S
    external_url: where people find the service's page; labels: further ones, the same on every alert
    raises ValueError: a URL that is none, a time out of range, a label that is none
    """

    def __init__(
        self, *, url: str, resend_s: float = 60.0, external_url: str = "", labels: Mapping[str, str] | None = None
    ) -> None:
        if not 0.0 < resend_s < LIVES_S:
            raise ValueError(f"resend_s: must be over 0 and under {LIVES_S:g}, after which an alert ends by itself")
        self._peer, self._external_url = Peer(url), external_url.rstrip("/")
        self._labels = _valid(labels or {})
        self._lock = threading.Lock()
        self._alerts: dict[Key, Alert] = {}
        self._asked = False
        self.forgotten = 0
        self.delivery = Delivery("alertmanager", regular=self._due, every_s=resend_s)

    def export(self, event: Event) -> None:
        if not isinstance(event, Transition):
            return
        with self._lock:
            self._note(event)
            asked, self._asked = self._asked, True
        if not asked:  # one post says everything that is known when it goes out
            self.delivery.put(self._post)

    def resume(self, incidents: Sequence[Incident]) -> None:
        """What was open when the service ended fires on: an alert that nobody repeats would end by itself."""
        with self._lock:
            for incident in incidents:
                at = incident.at if incident.ended_at is None else incident.ended_at
                again = Transition(at=at, id=incident.id, incident=incident, before=incident.state, trigger=Trigger.CLAIMED)
                self._note(again)
        if incidents:
            self.delivery.put(self._post)

    def _due(self) -> Errand | None:
        return self._post if self._alerts else None

    def close(self, seconds: float) -> None:
        self.delivery.close(seconds)

    def _note(self, moved: Transition) -> None:
        incident = moved.incident
        firing = {INCIDENT: incident.state is not State.RESOLVED, NEEDS_HUMAN: incident.state is State.NEEDS_HUMAN}
        for name, fires in firing.items():
            key = (incident.id, name)
            known = self._alerts.get(key)
            # an end is said even of what is not known here: it may have been told before this service was started anew
            if not fires and name == NEEDS_HUMAN and moved.before is not State.NEEDS_HUMAN:
                continue
            if known is None or known.ended_at is not None:
                starts_at = incident.at if name == INCIDENT else moved.at
                known = Alert(labels=self._identity(incident, name), annotations={}, starts_at=starts_at)
            ended_at = None if fires else time.time()
            annotations = annotations_of(incident, page=self._external_url)
            self._alerts[key] = msgspec.structs.replace(known, annotations=annotations, ended_at=ended_at)
        while len(self._alerts) > MOST_ALERTS:
            del self._alerts[next(iter(self._alerts))]
            self.forgotten += 1

    def _identity(self, incident: Incident, name: str) -> dict[str, str]:
        labels = {"alertname": name, "incident": incident.id, "job": incident.job, "severity": _SEVERITY[name]}
        return {**self._labels, **{label: value for label, value in labels.items() if value}}

    def _post(self) -> None:
        now = time.time()
        with self._lock:
            self._asked = False
            self._alerts = {key: alert for key, alert in self._alerts.items() if _matters(alert, now)}
            alerts = dict(self._alerts)
        said = list(alerts.items())
        for first in range(0, len(said), _AT_ONCE):
            part = said[first : first + _AT_ONCE]
            body = msgspec.json.encode([self._postable(alert, now) for _, alert in part])
            self._peer.post(body, path="/api/v2/alerts", headers={"Content-Type": "application/json"})
            with self._lock:  # an end that was heard need not be said again
                for key, alert in part:
                    if alert.ended_at is not None and self._alerts.get(key) is alert:
                        del self._alerts[key]

    def _postable(self, alert: Alert, now: float) -> dict[str, object]:
        ends_at = now + LIVES_S if alert.ended_at is None else alert.ended_at
        # a start beyond the end would be refused: an agent's clock may be ahead of this one
        starts_at = alert.starts_at if 0.0 <= alert.starts_at <= min(now, ends_at) else min(now, ends_at)
        page = {"generatorURL": alert.annotations["runbook_url"]} if "runbook_url" in alert.annotations else {}
        return {
            "labels": alert.labels, "annotations": alert.annotations, "startsAt": _stamp(starts_at),
            "endsAt": _stamp(ends_at), **page,
        }  # fmt: skip


def _valid(labels: Mapping[str, str]) -> dict[str, str]:
    for name, value in labels.items():
        if not _LABEL.fullmatch(name) or name in _OWN or not isinstance(value, str):
            raise ValueError(f"labels: {name!r} must be a label's name, none of {', '.join(_OWN)}, and its value a text")
    return dict(labels)


def annotations_of(incident: Incident, *, page: str) -> dict[str, str]:
    """What is known of an incident by now, for people to read; page: "" none."""
    verdict = incident.verdict
    said = {
        "summary": f"{_place(incident)}: {incident.perception or 'asked for'}, {verdict.fault}, {incident.state}",
        "description": "\n".join(_description(incident))[:_MOST_TEXT],
        "state": incident.state,
        "perception": incident.perception or "",
        "fault": verdict.fault,
        "verdict": verdict.verdict,
        "verb": incident.verb or "",
        "culprits": ", ".join(f"{culprit.kind} {culprit.id} ({culprit.cause})" for culprit in verdict.culprits[:20]),
        "targets": ", ".join(str(target) for target in incident.targets[:20]),
        "runbook_url": f"{page}/#incident={incident.id}" if page else "",
    }
    return {name: str(value) for name, value in said.items() if value}


def _place(incident: Incident) -> str:
    if incident.job:
        return f"job {incident.job}"
    return str(incident.targets[0]) if incident.targets else "cluster"


def _description(incident: Incident) -> Iterator[str]:
    for evidence in incident.verdict.evidence[:5]:
        yield f"{evidence.file}: {evidence.text}" if evidence.file else evidence.text
    if incident.note:
        yield incident.note


def _matters(alert: Alert, now: float) -> bool:
    return alert.ended_at is None or now - alert.ended_at <= LIVES_S


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

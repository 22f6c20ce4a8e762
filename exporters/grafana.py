"""The exporter `grafana`: one annotation for each incident, opened when it is detected and closed when it ends."""

import html
import io
from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

import requests
from grafana_api.grafana_face import GrafanaFace

from exporters.delivery import Delivery
from exporters.peer import DeliveryError, Peer, checked
from holdfast.events import Event, Transition
from holdfast.incident import ENDED, Incident, State
from holdfast.secretfile import secret_of

MOST_OPEN = 10_000
_MOST_TEXT = 1000
_LATEST = 2.0**33  # the year 2242: what an agent's broken clock says must fit


class Grafana:
    """Annotates graphs through Grafana's HTTP API.

    token_file: holds a service account's token; dashboard_uid: "" shows the annotations on every dashboard that asks for
    `tags`. Each annotation is also tagged with its incident's id, by which it is found again.
    raises ValueError: a URL that is none, an unreadable token
    """

    def __init__(self, *, url: str, token_file: str, dashboard_uid: str = "", tags: Sequence[str] = ("holdfast",)) -> None:
        self._peer = Peer(url)
        self._face = _face(self._peer, secret_of(token_file, key="token_file"))
        self._dashboard_uid, self._tags = dashboard_uid, tuple(tags)
        self._known: dict[str, int] = {}
        self.delivery = Delivery("grafana")

    def export(self, event: Event) -> None:
        if isinstance(event, Transition):
            incident = event.incident
            if event.id == f"{incident.id}/1" or (incident.state in ENDED and incident.state is not event.before):
                self.delivery.put(partial(self._tell, incident))

    def close(self, seconds: float) -> None:
        self.delivery.close(seconds)

    def _tell(self, incident: Incident) -> None:
        """Make the annotation, or bring the one that is there up to date; twice the same changes nothing."""
        try:
            id = self._known.get(incident.id) or self._find(incident)
            if id is None:
                # not add_annotation: it knows no dashboardUID
                id = int(self._face.api.POST("/annotations", json=self._annotation(incident))["id"])
            else:
                self._patch(id, incident)
        except (requests.RequestException, LookupError, TypeError, ValueError) as error:
            raise DeliveryError(f"{self._peer} gave an answer that is none of Grafana's: {error!r}", again=False) from error
        self._known[incident.id] = id
        if incident.state is State.RESOLVED:
            del self._known[incident.id]
        elif len(self._known) > MOST_OPEN:
            del self._known[next(iter(self._known))]

    def _find(self, incident: Incident) -> int | None:
        """The incident's annotation, made by a try whose answer was lost or by this service before it was started anew."""
        start = _milliseconds(incident.at)
        tags = [quote(tag, safe="") for tag in self._tags_of(incident)]
        found = self._face.annotations.get_annotation(time_from=start, time_to=start, tags=tags, limit=1)
        return int(found[0]["id"]) if found else None

    def _patch(self, id: int, incident: Incident) -> None:
        said = self._annotation(incident)
        self._face.annotations.partial_update_annotation(
            id, time_from=said["time"], time_to=said["timeEnd"], tags=said["tags"], text=said["text"]
        )

    def _annotation(self, incident: Incident) -> dict[str, Any]:
        end = incident.at if incident.ended_at is None else max(incident.at, incident.ended_at)
        said = {
            "time": _milliseconds(incident.at),
            "timeEnd": _milliseconds(end),
            "tags": self._tags_of(incident),
            "text": text_of(incident),
        }
        return {**said, "dashboardUID": self._dashboard_uid} if self._dashboard_uid else said

    def _tags_of(self, incident: Incident) -> list[str]:
        return [*self._tags, f"incident:{incident.id}"]


class Guarded(requests.adapters.BaseAdapter):
    """Sends what the Grafana client asks for through the Peer, so that it is bound by the same rules as everything else."""

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self._peer = peer

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        body = request.body if isinstance(request.body, bytes) else str(request.body or "").encode()
        answer = self._peer.request(
            request.method or "GET",
            request.path_url,
            body,
            {name: str(value) for name, value in request.headers.items() if name.lower() != "content-length"},
        )
        checked(self._peer, answer.status)
        response = requests.Response()
        response.status_code, response.raw = answer.status, io.BytesIO(answer.body)
        response.request, response.url = request, request.url or ""
        return response

    def close(self) -> None:
        """Nothing is kept open."""


def text_of(incident: Incident) -> str:
    """What Grafana shows, as HTML: log lines are foreign text and are escaped."""
    verdict = incident.verdict
    blamed = ", ".join(f"{culprit.kind} {culprit.id}" for culprit in verdict.culprits[:10]) or verdict.verdict
    rows = [
        f"{incident.job or 'cluster'}: {verdict.fault} ({incident.perception or 'asked for'}), {blamed}",
        *(evidence.text for evidence in verdict.evidence[:1]),
        f"{incident.state}{f', {incident.verb}' if incident.verb else ''}{f': {incident.note}' if incident.note else ''}",
    ]
    return "<br>".join(html.escape(row[:_MOST_TEXT]) for row in rows)


def _face(peer: Peer, token: str) -> Any:
    prefix = f"{peer.path.lstrip('/')}/" if peer.path else ""
    face = GrafanaFace(auth=token, host=peer.netloc, protocol=peer.scheme, url_path_prefix=prefix)
    session: requests.Session = face.api.s
    session.trust_env = False  # neither proxies nor ~/.netrc
    for scheme in ("http://", "https://"):
        session.mount(scheme, Guarded(peer))
    return face


def _milliseconds(at: float) -> int:
    return round(at * 1000) if 0.0 <= at < _LATEST else 0

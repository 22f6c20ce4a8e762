"""Alertmanager's door: takes the body of its webhook, version 4, and answers once the alerts are in the journal."""

import datetime
from collections.abc import Callable
from typing import Literal

import msgspec
import structlog
from aiohttp import web

from holdfast.api.door import Door, DoorError
from holdfast.events import Alert, Alerts

log = structlog.get_logger()

MOST_BYTES = 8 * 1024 * 1024
MOST_ALERTS = 10_000
MOST_LABELS = 200
MOST_LABEL_CHARACTERS = 8192


class AlertBodyError(ValueError):
    """A body that is none of Alertmanager's; the message names the field."""


class AlertRecord(msgspec.Struct, kw_only=True, rename="camel"):
    """One alert as Alertmanager writes it; a time of the year 1 is none."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: datetime.datetime
    ends_at: datetime.datetime | None = None
    fingerprint: str


class AlertBody(msgspec.Struct, kw_only=True):
    """The webhook's body; what else stands in it is passed over."""

    version: Literal["4"]
    alerts: tuple[AlertRecord, ...]
    receiver: str = ""


class AlertAnswer(msgspec.Struct):
    """How many alerts were taken in."""

    alerts: int


class AlertDoor(Door):
    """A collector whose source is the webhook of an Alertmanager; a repeat is harmless.

    now: the service's time
    """

    def __init__(self, wake: Callable[[], None], *, now: Callable[[], float]) -> None:
        super().__init__(wake)
        self._now = now
        self.refused = 0

    async def receive(self, request: web.Request) -> web.Response:
        """POST /api/v1/alerts."""
        try:
            seen = alerts_of(await _body(request), at=self._now())
            await self.bring([seen])
        except AlertBodyError as error:
            self.refused += 1
            log.warning("alerts refused", remote=request.remote, reason=str(error))
            return web.json_response({"error": str(error)}, status=422)
        except DoorError as error:
            return web.json_response({"error": str(error)}, status=error.status)
        return web.json_response(msgspec.to_builtins(AlertAnswer(len(seen.alerts))))


def alerts_of(body: bytes, *, at: float) -> Alerts:
    """Decode a webhook's body. at: when it came, Unix seconds.

    raises AlertBodyError: not JSON, another version, a field that is missing or wrong, too much of something
    """
    try:
        said = msgspec.json.decode(body, type=AlertBody)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise AlertBodyError(str(error)) from error
    if len(said.alerts) > MOST_ALERTS:
        raise AlertBodyError(f"over {MOST_ALERTS} alerts - at `$.alerts`; set max_alerts of the receiver")
    alerts = tuple(_alert(n, record) for n, record in enumerate(said.alerts))
    return Alerts(at=at, source=f"alertmanager:{said.receiver}" if said.receiver else "alertmanager", alerts=alerts)


def _alert(n: int, record: AlertRecord) -> Alert:
    place = f"$.alerts[{n}]"
    if not record.fingerprint:
        raise AlertBodyError(f"empty - at `{place}.fingerprint`")
    for field, texts in (("labels", record.labels), ("annotations", record.annotations)):
        if len(texts) > MOST_LABELS:
            raise AlertBodyError(f"over {MOST_LABELS} entries - at `{place}.{field}`")
        if any(len(text) > MOST_LABEL_CHARACTERS for pair in texts.items() for text in pair):
            raise AlertBodyError(f"over {MOST_LABEL_CHARACTERS} characters - at `{place}.{field}`")
    starts_at = _seconds(record.starts_at, f"{place}.startsAt")
    if starts_at is None:
        raise AlertBodyError(f"no time - at `{place}.startsAt`")
    return Alert(
        fingerprint=record.fingerprint, name=record.labels.get("alertname", "unnamed"), status=record.status, labels=record.labels,
        annotations=record.annotations, starts_at=starts_at,
        ends_at=_seconds(record.ends_at, f"{place}.endsAt") if record.status == "resolved" else None,
    )  # fmt: skip


def _seconds(time: datetime.datetime | None, place: str) -> float | None:
    """Unix seconds; None for Go's zero time."""
    if time is None or time.year == 1:
        return None
    if time.tzinfo is None:
        raise AlertBodyError(f"no time zone - at `{place}`")
    return time.timestamp()


async def _body(request: web.Request) -> bytes:
    body = bytearray()
    async for part in request.content.iter_chunked(65_536):
        body += part
        if len(body) > MOST_BYTES:
            raise DoorError(413, f"over {MOST_BYTES} bytes")
    return bytes(body)

"""Other monitors of nodes as sources: gpud's states and NVSentinel's health events become alerts, as they themselves mean them."""

import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from collectors.follow import Follower
from collectors.logfiles import Cutter
from collectors.sourcestate import SourceStates
from holdfast.events import Alert, Alerts, Observation
from holdfast.topology import NodeId

MOST_BYTES = 8 << 20
MOST_STANDING = 65_536
_SAID_AGAIN_S = 3600.0
_HEALTH = {"unhealthy": "critical", "degraded": "warning"}
_ENTITY = {"gpu": "gpu", "pci": "pci_bus_id", "nic": "nic", "nvswitch": "nvswitch"}


class NeighbourError(ValueError):
    """Not what this neighbour writes; the message tells what is wrong."""


def states_of_gpud(body: bytes, node: str) -> Iterator[Alert]:
    """gpud's /v1/states: components with their health states, or the states alone.

    raises NeighbourError: not JSON, or not a list
    """
    answer = _json(body)
    if not isinstance(answer, list):
        raise NeighbourError("no list of components")
    for row in answer[:4096]:
        if isinstance(row, dict):
            states = row.get("states") if isinstance(row.get("states"), list) else [row] if "health" in row else []
            for state in states or ():
                if isinstance(state, dict):
                    yield _of_gpud(state, str(state.get("component") or row.get("component") or "component")[:100], node)


def _of_gpud(state: Mapping[str, Any], component: str, node: str) -> Alert:
    health = str(state.get("health", "")).casefold()
    asked = state.get("suggested_actions")
    actions = asked.get("repair_actions") if isinstance(asked, dict) else None
    labels = {"node": node, "component": component, "severity": _HEALTH.get(health, "none")}
    if isinstance(actions, list) and actions:
        labels["repair_actions"] = ",".join(str(action) for action in actions[:8])[:200]
    said = {"summary": str(state.get("reason") or state.get("error") or health)[:1000]}
    name = str(state.get("name") or component)[:100]
    return Alert(
        fingerprint=f"gpud {node} {component} {name}", name=f"gpud.{component}", labels=labels, annotations=said,
        status="firing" if health in _HEALTH else "resolved", starts_at=_time(state.get("time")),
    )  # fmt: skip


def events_of_nvsentinel(line: str) -> Iterator[Alert]:
    """A line of NVSentinel's health events (health_event.proto as JSON): one event, or several in `events`.

    raises NeighbourError: not JSON, or no event
    """
    answer = _json(line.encode())
    events = answer.get("events") if isinstance(answer, dict) and isinstance(answer.get("events"), list) else [answer]
    for event in events or ():
        check = _key(event, "checkName", "check_name") if isinstance(event, dict) else None
        if not check:
            raise NeighbourError("an event without checkName")
        yield _of_nvsentinel(event, str(check)[:100])


def _of_nvsentinel(event: Mapping[str, Any], check: str) -> Alert:
    node = str(_key(event, "nodeName", "node_name") or "")[:253]
    entities = _key(event, "entitiesImpacted", "entities_impacted")
    rows = [e for e in entities if isinstance(e, dict)][:64] if isinstance(entities, list) else []
    named = [(str(_key(e, "entityType", "entity_type") or ""), str(_key(e, "entityValue", "entity_value") or "")) for e in rows]
    labels = {"node": node, "severity": "critical" if _key(event, "isFatal", "is_fatal") else "warning"}
    for kind, value in named:
        labels.setdefault(_ENTITY.get(kind.casefold(), kind.casefold()[:40] or "entity"), value[:100])
    codes = _key(event, "errorCode", "error_code")
    words = [str(code) for code in codes[:16]] if isinstance(codes, list) else [str(codes)] if codes else []
    asked = str(_key(event, "recommendedAction", "recommended_action") or "")[:60]
    said = {"summary": f"[{', '.join(words)}] {event.get('message', '')} - {asked}"[:1000]}
    healthy = bool(_key(event, "isHealthy", "is_healthy"))
    return Alert(
        fingerprint=f"nvsentinel {node} {check} {sorted(named)}", name=f"nvsentinel.{check}", labels=labels, annotations=said,
        status="resolved" if healthy else "firing", starts_at=_time(_key(event, "generatedTimestamp", "generated_timestamp")),
    )  # fmt: skip


class Neighbours:
    """The collector `neighbours`. Says each real change once, and what still stands again after an hour.

    gpud: addresses of gpud's /v1/states, asked every `every_s`, each within `timeout_s`; node: whose they are, "" by the address
    events: files to which NVSentinel's health events are written, one JSON object per line (globs)
    """

    durable = False

    def __init__(
        self, *, gpud: Sequence[str] = (), events: Sequence[str] = (), node: str = "", every_s: float = 15.0, timeout_s: float = 5.0,
    ) -> None:  # fmt: skip
        self.node, self.every_s, self.timeout_s = node, every_s, timeout_s
        self._ready: queue.Queue[tuple[str, bytes | None]] = queue.Queue(256)
        self._states = SourceStates()
        self._follower = Follower(events, every_s=2.0, most_files=64)
        self._cutters: dict[str, Cutter] = {}
        self._standing: dict[str, tuple[float, float]] = {}  # fingerprint -> since when, and when it was last said
        for url in gpud:
            threading.Thread(target=self._ask, args=(url,), name=f"ask {url}", daemon=True).start()

    def poll(self, now: float) -> Iterator[Observation]:
        """What has changed with the neighbours, and which of them cannot be read."""
        for _ in range(self._ready.qsize()):
            url, body = self._ready.get_nowait()
            yield from self._of_gpud(url, body, now)
        for path, data, _, ended in self._follower.read(now):
            cutter = self._cutters.setdefault(path, Cutter())
            yield from self._of_file(path, [*cutter.feed(data), *(cutter.end() if ended else ())], now)
            if ended:
                self._cutters.pop(path, None)
        for name, up in self._follower.states():
            yield from self._states.of(f"neighbours:{name}", now, up=up, node=self.node)

    def _of_gpud(self, url: str, body: bytes | None, now: float) -> Iterator[Observation]:
        node = self.node or url.partition("://")[2].partition("/")[0].partition(":")[0]
        try:
            alerts = list(states_of_gpud(body, node)) if body is not None else None
        except NeighbourError:
            alerts = None
        yield from self._states.of(url, now, up=alerts is not None, node=node)
        yield from self._changes(alerts or (), url, node, now)

    def _of_file(self, path: str, lines: Sequence[str], now: float) -> Iterator[Observation]:
        for line in lines:
            if line.strip():
                try:
                    alerts = list(events_of_nvsentinel(line))
                except NeighbourError:
                    yield from self._states.of(f"neighbours:{path}", now, up=False, node=self.node)
                    continue
                yield from self._changes(alerts, f"neighbours:{path}", self.node, now)

    def _changes(self, alerts: Sequence[Alert], source: str, node: str, now: float) -> Iterator[Observation]:
        news = []
        for alert in alerts:
            known = self._standing.get(alert.fingerprint)
            if alert.status == "resolved":
                if known is not None:
                    del self._standing[alert.fingerprint]
                    news.append(msgspec.structs.replace(alert, starts_at=known[0], ends_at=now))
            elif known is None or now - known[1] >= _SAID_AGAIN_S:
                since = known[0] if known is not None else alert.starts_at or now
                while len(self._standing) >= MOST_STANDING:
                    del self._standing[next(iter(self._standing))]
                self._standing[alert.fingerprint] = (since, now)
                news.append(msgspec.structs.replace(alert, starts_at=since))
        if news:
            yield Alerts(at=now, source=source, node=NodeId(node), alerts=tuple(news))

    def _ask(self, url: str) -> None:
        while True:
            begun = time.monotonic()
            try:
                with urllib.request.urlopen(url, timeout=self.timeout_s) as answer:
                    body: bytes | None = answer.read(MOST_BYTES)
            except (urllib.error.URLError, OSError, ValueError):
                body = None
            try:
                self._ready.put_nowait((url, body))
            except queue.Full:  # nobody polls
                pass
            time.sleep(max(0.1, self.every_s - (time.monotonic() - begun)))


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NeighbourError(f"not JSON: {error}") from error


def _key(row: Mapping[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if name in row), None)


def _time(text: Any) -> float:
    """Unix seconds of an ISO date, 0.0 where there is none."""
    try:
        when = datetime.fromisoformat(str(text).replace("Z", "+00:00")[:40])
    except ValueError:
        return 0.0
    return when.timestamp() if when.tzinfo is not None else 0.0

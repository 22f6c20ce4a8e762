"""The exporter `webhook`: one signed POST for each stage of an incident; docs/webhooks.md tells receivers how to read it."""

import hashlib
import hmac
import time
from collections.abc import Sequence
from functools import partial

import msgspec

from exporters.delivery import Delivery
from exporters.peer import Peer
from holdfast.events import Event, Transition
from holdfast.incident import State, Trigger
from holdfast.secretfile import secret_of

STAGES = ("detected", "diagnosed", "decided", "acted", "resolved", "needs_human")

_BY_TRIGGER = {Trigger.DIAGNOSED: "diagnosed", Trigger.DECIDED: "decided", Trigger.DONE: "acted"}
_BY_STATE = {State.RESOLVED: "resolved", State.NEEDS_HUMAN: "needs_human"}


class Webhook:
    """Tells one server about incidents, in their order; a repeat of a delivery has the same id.

    secret_file: holds the key of the signature; stages: those that are told
    simulated: what is told comes from a simulated cluster, and says so
    raises ValueError: a URL that is none, a stage that is none, an unreadable secret
    """

    def __init__(self, *, url: str, secret_file: str, stages: Sequence[str] = STAGES, simulated: bool = False) -> None:
        if unknown := sorted(set(stages) - set(STAGES)):
            raise ValueError(f"stages: no stage called {unknown[0]!r}; there are: {', '.join(STAGES)}")
        self._peer = Peer(url)
        self._secret = secret_of(secret_file, key="secret_file").encode()
        self._stages, self._simulated = frozenset(stages), simulated
        self.delivery = Delivery("webhook")

    def export(self, event: Event) -> None:
        if isinstance(event, Transition) and (stage := stage_of(event)) in self._stages:
            self.delivery.put(partial(self._post, event, stage))

    def close(self, seconds: float) -> None:
        self.delivery.close(seconds)

    def _post(self, moved: Transition, stage: str) -> None:
        body = body_of(moved, stage, simulated=self._simulated)
        # signed anew at each try, so that a receiver may refuse old timestamps and still take a late delivery
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "Holdfast-Delivery": moved.id,
            "Holdfast-Timestamp": timestamp,
            "Holdfast-Signature": signature(self._secret, timestamp=timestamp, body=body),
        }
        self._peer.post(body, headers=headers)


def stage_of(moved: Transition) -> str:
    """The stage an incident has come to with this move, "" where it is none.

    A move that ends an incident is its end, whatever else it is: an order to stop that was carried out is `needs_human`.
    """
    incident = moved.incident
    if incident.state is not moved.before and incident.state in _BY_STATE:
        return _BY_STATE[incident.state]
    return "detected" if moved.id == f"{incident.id}/1" else _BY_TRIGGER.get(moved.trigger, "")


def body_of(moved: Transition, stage: str, *, simulated: bool) -> bytes:
    """The JSON that is signed and sent; the same bytes at every try."""
    said = {"id": moved.incident.id, "delivery": moved.id, "stage": stage, "at": moved.at, "incident": moved.incident}
    return msgspec.json.encode({**said, "simulated": True} if simulated else said)


def signature(secret: bytes, *, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over the timestamp, a full stop and the body, as `v1=<hex>`."""
    return "v1=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()

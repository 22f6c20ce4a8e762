"""A real HTTP server on loopback that writes down what it is told, and the life of an incident to tell it of."""

import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import msgspec

from holdfast.events import Transition
from holdfast.faults import Action, Fault, Judgement, Perception, Symptom, Verb
from holdfast.incident import Incident, State, Trigger
from holdfast.topology import Kind, Target
from holdfast.verdict import Culprit, Evidence, Verdict

WAIT_S = 20.0


class Quiet(ThreadingHTTPServer):
    """Says nothing of clients that hang up."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Tests look at what was told."""


class Told(NamedTuple):
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers in the order of `script`, (status, body, headers), then with 200 and `{}`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.told: list[Told] = []
        self.script: list[tuple[int, bytes, dict[str, str]]] = []
        self.changed = threading.Condition()

    def wait(self, enough: Callable[[Sequence[Told]], bool]) -> list[Told]:
        """What was told once it is enough; fails if it never is."""
        with self.changed:
            assert self.changed.wait_for(lambda: enough(self.told), WAIT_S), [t[:2] for t in self.told]
            return list(self.told)

    def wait_for(self, requests: int) -> list[Told]:
        return self.wait(lambda told: len(told) >= requests)

    def take(self, told: Told) -> tuple[int, bytes, dict[str, str]]:
        with self.changed:
            self.told.append(told)
            self.changed.notify_all()
            return self.script.pop(0) if self.script else (200, b"{}", {})


@contextmanager
def receiver(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A running server; context: with TLS."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, said, more = there.take(Told(self.command, self.path, headers, body))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(said)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_PATCH = answer  # noqa: N815  # the names the base class looks for

        def log_message(self, format: str, *args: object) -> None:
            """Tests are quiet."""

    server = Quiet(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    there = Receiver(f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield there
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


BLAMED = Culprit(kind=Kind.DEVICE, id="0000:1b:00", cause="xid.79", confidence=0.95, node="n4")
OPENED = Incident(
    id="i7", at=1000.0, job="j", targets=(Target(Kind.DEVICE, "0000:1b:00", node="n4", job="j"),),
    perception=Perception.NODE_FAULT, check="xid.79",
    verdict=Verdict(
        verdict=Judgement.CULPRIT, symptom=Symptom.HANG, fault=Fault.GPU_HW, culprits=(BLAMED,), action=Action.REPLACE,
        evidence=(Evidence("kmsg", 12, "NVRM: Xid (PCI:0000:1b:00): 79, <GPU> has fallen off the bus."),),
    ),
)  # fmt: skip

DIAGNOSED = msgspec.structs.replace(OPENED, state=State.RECOVERING, diagnosed_at=1003.0)
DECIDED = msgspec.structs.replace(DIAGNOSED, verb=Verb.REPLACE, tries=1, decided_at=1004.0, orders=("i7/replace/1",))
ACTED = msgspec.structs.replace(DECIDED, state=State.VERIFYING, acted_at=1030.0)
RESOLVED = msgspec.structs.replace(ACTED, state=State.RESOLVED, ended_at=1090.0, note="stepped past where it broke: step 8")
REFUSED = msgspec.structs.replace(DECIDED, state=State.NEEDS_HUMAN, ended_at=1005.0, note="over budget")


def move(n: int, incident: Incident, before: State, trigger: Trigger, at: float) -> Transition:
    """The n-th move of an incident."""
    return Transition(at=at, id=f"{incident.id}/{n}", incident=incident, before=before, trigger=trigger)


FOUND = (
    move(1, OPENED, State.OPEN, Trigger.CLAIMED, 1001.0),
    move(2, OPENED, State.OPEN, Trigger.CLAIMED, 1001.5),
    move(3, DIAGNOSED, State.OPEN, Trigger.DIAGNOSED, 1003.0),
    move(4, DECIDED, State.RECOVERING, Trigger.DECIDED, 1004.0),
)
REPAIRED = (
    *FOUND,
    move(5, ACTED, State.RECOVERING, Trigger.DONE, 1030.0),
    move(6, RESOLVED, State.VERIFYING, Trigger.STEPPED, 1090.0),
)
CALLED = (*FOUND, move(5, REFUSED, State.RECOVERING, Trigger.REFUSED, 1005.0))
MENDED = msgspec.structs.replace(REFUSED, state=State.RESOLVED, ended_at=1200.0, note="a person closed it")
CLOSED = (*CALLED, move(6, MENDED, State.NEEDS_HUMAN, Trigger.CLOSED, 1200.0))

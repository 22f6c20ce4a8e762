"""Brings a node's findings and samples to the service by the agents' protocol: numbered batches, kept until they are acknowledged."""

import http.client
import logging
import threading
import urllib.parse
from collections import deque
from typing import Any

import msgspec

from holdfast.secretfile import secret_of

log = logging.getLogger(__name__)

MOST_BATCHES = 1024
_ANSWER_S = 30.0
_MOST_ANSWER = 1 << 20
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0)
_REFUSED_FOR_GOOD = (400, 413, 422)


class Sender:
    """One request at a time, in a thread of its own.

    url, token_file: the service, and the file that holds the token it knows this node by; boot: a word made anew at each start
    dropped: records given up because the service was away for too long, the oldest first: what stands is said again anyway
    resync: the service asks for everything again
    raises ValueError: not an address of HTTP, a token that cannot be read
    """

    def __init__(self, url: str, token_file: str, *, node: str, boot: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url {url!r}: no address of HTTP")
        secret_of(token_file, key="token_file")
        self._parts, self._port, self._token_file = parts, parts.port, token_file
        self.node, self.boot = node, boot
        self.dropped, self.resync, self.heard_at = 0, False, 0.0
        self._sequence = 0
        self._waiting: deque[tuple[int, list[Any], float]] = deque()
        self._lock = threading.Condition()
        self._leaving = self._giving_up = False
        self._line: http.client.HTTPConnection | None = None
        self._thread = threading.Thread(target=self._run, name="send", daemon=True)
        self._thread.start()

    def put(self, records: list[Any], now: float) -> None:
        """Make a batch; an empty one is a sign of life."""
        with self._lock:
            if not records and self._waiting:
                return
            self._sequence += 1
            self._waiting.append((self._sequence, records, now))
            while len(self._waiting) > MOST_BATCHES:
                self.dropped += len(self._waiting.popleft()[1])
            self._lock.notify()

    def close(self, seconds: float = 2.0) -> None:
        """Send what can be sent in so long, and end."""
        for end in ("_leaving", "_giving_up"):
            with self._lock:
                setattr(self, end, True)
                self._lock.notify()
            self._thread.join(seconds)

    def _run(self) -> None:
        fails = 0
        while True:
            with self._lock:
                while not self._waiting and not self._leaving:
                    self._lock.wait()
                if self._giving_up or (self._leaving and not self._waiting):
                    break
                batch = self._waiting[0]
            if self._send(*batch):
                fails = 0
                with self._lock:
                    if self._waiting and self._waiting[0][0] == batch[0]:
                        self._waiting.popleft()
            else:
                fails += 1
                with self._lock:
                    if not self._giving_up:
                        self._lock.wait(_BACKOFF_S[min(fails - 1, len(_BACKOFF_S) - 1)])
        self._close()

    def _send(self, sequence: int, records: list[Any], at: float) -> bool:
        body = msgspec.json.encode(
            {
                "agent": f"node:{self.node}", "boot": self.boot, "sequence": sequence, "node": self.node, "sent_at": at,
                "dropped": self.dropped, "records": records,
            }
        )  # fmt: skip
        try:
            status, answer = self._post(body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.info("the service is not heard: %s", error)
            self._close()
            return False
        if status in _REFUSED_FOR_GOOD:
            log.error("batch %d is refused with %d: %s", sequence, status, answer[:300])
            self.dropped += len(records)
            return True
        if status != 200:
            log.warning("batch %d is answered with %d", sequence, status)
            return False
        self.heard_at = at
        try:
            self.resync = self.resync or msgspec.json.decode(answer, type=dict[str, Any]).get("resync") is True
        except msgspec.MsgspecError:
            return False
        return True

    def _post(self, body: bytes) -> tuple[int, bytes]:
        if self._line is None:
            kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            self._line = kind(str(self._parts.hostname), self._port, timeout=_ANSWER_S)
        token = secret_of(self._token_file, key="token_file")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._line.request("POST", self._parts.path.rstrip("/") + "/api/v1/ingest", body, headers)
        answer = self._line.getresponse()
        return answer.status, answer.read(_MOST_ANSWER)

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

"""Brings the spool to the service, one request at a time, and takes its orders back."""

import http.client
import json
import logging
import threading
import urllib.parse

log = logging.getLogger("ftagent")

_ANSWER_S = 35.0
_MOST_ANSWER = 1 << 20
_BACKOFF_S = (0.2, 0.4, 0.8, 1.6, 2.0)
_REFUSED_FOR_GOOD = (400, 413, 422)


class Sender(threading.Thread):
    """Sends until told to leave.

    heard: whether the last request was answered; released, resync: what the service said
    """

    def __init__(self, spool, lock, url, token_file, on_orders):
        # type: (object, object, str, str, object) -> None
        super().__init__(name="ftagent-sender", daemon=True)
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("%r is not an http address" % url)
        self._port = parts.port  # a ValueError too, if it is none
        self._parts, self._token_file = parts, token_file
        self._spool, self._lock, self._on_orders = spool, lock, on_orders
        self.heard = True
        self.released = self.resync = False
        self._leaving = threading.Event()
        self._line = None
        self._fails = 0

    def run(self):
        # type: () -> None
        while not self._leaving.is_set():
            with self._lock:
                batch = self._spool.oldest()
            if batch is None:
                self._leaving.wait(0.05)
            elif self._send(*batch):
                self._fails, self.heard = 0, True
            else:
                self._fails, self.heard = self._fails + 1, False
                self._leaving.wait(_BACKOFF_S[min(self._fails - 1, len(_BACKOFF_S) - 1)])
        self._close()

    def leave(self, seconds):
        # type: (float) -> None
        """Stop sending; wait for the request under way."""
        self._leaving.set()
        self.join(seconds)

    def _send(self, sequence, body):
        # type: (int, bytes) -> bool
        """One request; whether it went through (a batch that is refused for good did)."""
        try:
            status, answer = self._post(body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.info("the service is not heard: %s", error)
            self._close()
            return False
        if status in _REFUSED_FOR_GOOD:
            log.error("batch %d is refused with %d: %s", sequence, status, answer[:300])
            with self._lock:
                self._spool.refuse(sequence)
            return True
        if status != 200:
            log.warning("batch %d is answered with %d: %s", sequence, status, answer[:300])
            return False
        try:
            self._take(sequence, json.loads(answer.decode("utf-8")))
        except (ValueError, RecursionError) as error:
            log.warning("the answer to batch %d cannot be read: %s", sequence, error)
            return False
        return True

    def _post(self, body):
        # type: (bytes) -> tuple
        if self._line is None:
            kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            self._line = kind(self._parts.hostname, self._port, timeout=_ANSWER_S)
        with open(self._token_file, encoding="utf-8") as file:
            token = file.read(4096).strip()
        headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
        self._line.request("POST", self._parts.path.rstrip("/") + "/api/v1/ingest", body, headers)
        answer = self._line.getresponse()
        data = answer.read(_MOST_ANSWER + 1)
        if len(data) > _MOST_ANSWER:
            raise ValueError("an answer of over %d bytes" % _MOST_ANSWER)
        return answer.status, data

    def _take(self, sequence, answer):
        # type: (int, object) -> None
        if not isinstance(answer, dict) or answer.get("acknowledged") != sequence:
            raise ValueError("it does not acknowledge %d" % sequence)
        with self._lock:
            self._spool.acknowledge(sequence)
        self.resync = self.resync or answer.get("resync") is True
        self.released = answer.get("release") is True
        orders = answer.get("orders")
        if isinstance(orders, list):
            self._on_orders([order for order in orders if isinstance(order, dict)])

    def _close(self):
        # type: () -> None
        if self._line is not None:
            self._line.close()
            self._line = None

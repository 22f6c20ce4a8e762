"""Real jobs under a real keeper, and a service that listens: what the agent's tests run against."""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ftagent.job import Job
from ftagent.layout import Layout
from ftagent.lines import PATTERN
from ftagent.watch import Watcher, end_tree

Record = dict[str, Any]


def until(true: Callable[[], bool], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


class Service:
    """A service on a free port. answers: what it says, by turns, the last for ever; None: as it should."""

    def __init__(self, *answers: tuple[int, bytes] | None) -> None:
        self.answers = list(answers) or [None]
        self.heard: list[tuple[str, dict[str, Any]]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.heard.append((self.headers["Authorization"], body))
                said = service.answers.pop(0) if len(service.answers) > 1 else service.answers[0]
                status, answer = said or (200, json.dumps({"acknowledged": body["sequence"], "orders": []}).encode())
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *words: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def sh(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


class Watch:
    """One agent's view of a job, driven by hand; what it was told is kept."""

    def __init__(self, folder: Path, command: list[str], nproc: int = 0) -> None:
        settings = {"command": command, "nproc": nproc, "env": dict(os.environ), "cwd": str(folder), "umask": 0o022}
        self.folder = folder
        self.job = Job(Layout(str(folder / "run")), settings, PATTERN)
        self.job.begin()
        self.told: list[tuple[int, Record]] = []

    def look(self) -> "Watch":
        """One turn of the agent's loop."""
        now = time.time()
        self.job.look(now)
        for attempt, records in self.job.take(now):
            self.told.extend((attempt, record) for record in records)
        self.job.save()
        return self

    def of(self, kind: str, **known: Any) -> list[Record]:
        return [row for _, row in self.told if row["type"] == kind and all(row[key] == known[key] for key in known)]

    def until(self, kind: str, **known: Any) -> Record:
        """Look until such a record was told, and return the last."""
        until(lambda: bool(self.look().of(kind, **known)))
        return self.of(kind, **known)[-1]

    def pid(self, rank: int = 0) -> int:
        """The process of a rank, as soon as it is known."""
        until(lambda: rank in self.look().job.watcher.by_rank())
        return int(self.job.watcher.by_rank()[rank].pid)


@contextlib.contextmanager
def job(folder: Path, command: list[str], nproc: int = 0) -> Iterator[Watch]:
    """A job that is ended with the block, whatever is left of it."""
    watch = Watch(folder, command, nproc)
    try:
        yield watch
    finally:
        paths = Layout(str(folder / "run"))
        for number in range(paths.last_attempt() + 1):
            assert end_tree(Watcher(paths.attempt(number)), 0.0, sleep=lambda _: time.sleep(0.01)) == []

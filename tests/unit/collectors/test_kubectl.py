"""The real kubectl against an API server of a few answers: what it writes is what is read."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from collectors.kubernetes import COMMANDS, Kubernetes
from holdfast.events import Change, Changes

ENDED = {"name": "w", "restartCount": 0, "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
RESOURCE = {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get", "list", "watch"]}


def pod(phase: str, version: str, **status: Any) -> dict[str, Any]:
    meta = {"name": "j-0", "namespace": "t", "uid": "u1", "resourceVersion": version, "labels": {"job-name": "j"}}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": {"nodeName": "n1"}, "status": {"phase": phase, **status}}


ANSWERS = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [RESOURCE]},
    "/api/v1/pods": {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "10"}, "items": [pod("Running", "9")]},
}
EVENTS = (
    {"type": "MODIFIED", "object": pod("Failed", "11", containerStatuses=[ENDED])},
    {"type": "DELETED", "object": pod("Failed", "12", containerStatuses=[ENDED])},
)


class Api(BaseHTTPRequestHandler):
    """Discovery, one list of pods, and a watch of two events that then stays open."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if "watch" in parse_qs(asked.query):
            self._answer(200, None)
            for event in EVENTS:
                self._chunk(json.dumps(event).encode() + b"\n")
            time.sleep(5.0)
            self._chunk(b"")
        else:
            known = ANSWERS.get(asked.path)
            self._answer(200 if known else 404, json.dumps(known or {}).encode())

    def _answer(self, status: int, body: bytes | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header(*(("Transfer-Encoding", "chunked") if body is None else ("Content-Length", str(len(body)))))
        self.end_headers()
        self.wfile.write(body or b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a running one."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        running.block_on_close = False


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_s_watch_is_read(server: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    collector = Kubernetes(commands=[[COMMANDS[0][0], "--server", server, *COMMANDS[0][1:]]])
    changes: list[Change] = []
    for n in range(1000):
        changes += [change for seen in collector.poll(float(n)) if isinstance(seen, Changes) for change in seen.changes]
        if len(changes) == 2:
            break
        time.sleep(0.02)
    collector.close()
    assert [(change.target.job, change.state, change.signal, change.reason) for change in changes] == [
        ("j", "running", None, ""),
        ("j", "failed", 9, "OOMKilled"),
    ]

"""The sender against a real HTTP server that takes, refuses, is busy, lies, or is away."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ftagent.sender import Sender
from ftagent.spool import Spool

from tests.unit.agent.running import Service, until

ENVELOPE = {"agent": "n0", "job": "j"}


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts a sender: (spool, sender, orders heard); stopped at the end."""
    senders: list[Any] = []
    (tmp_path / "token").write_text("first\n")

    def start(url: str, *, most_bytes: int = 64 << 20, records: int = 3) -> Any:
        spool = Spool(str(tmp_path / "spool"), most_bytes)
        orders: list[dict[str, Any]] = []
        for n in range(records):
            spool.put(ENVELOPE, [{"type": "beat", "at": float(n), "ranks": []}])
        sender = Sender(spool, threading.RLock(), url, str(tmp_path / "token"), orders.extend)
        sender.start()
        senders.append(sender)
        return spool, sender, orders

    yield start
    for sender in senders:
        sender.leave(5.0)
        assert not sender.is_alive()


@pytest.fixture
def serving() -> Iterator[Callable[..., Service]]:
    open_: list[Service] = []

    def serve(*answers: tuple[int, bytes] | None) -> Service:
        open_.append(Service(*answers))
        return open_[-1]

    yield serve
    for one in open_:
        one.close()


def test_batches_are_sent_in_order_and_forgotten_once_acknowledged(begin: Any, serving: Any) -> None:
    service = serving()
    spool, sender, _ = begin(service.url)
    until(lambda: len(spool) == 0)
    assert [body["sequence"] for _, body in service.heard] == [1, 2, 3]
    assert (spool.dropped, sender.heard) == (0, True)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_batch_refused_for_good_is_dropped_counted_and_the_next_goes(begin: Any, serving: Any, status: int) -> None:
    service = serving((status, b"no"), None)
    spool, _, _ = begin(service.url)
    until(lambda: len(spool) == 0)
    assert [body["sequence"] for _, body in service.heard] == [1, 2, 3]
    assert spool.dropped == 1


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        pytest.param(503, b"busy", id="a busy service"),
        pytest.param(401, b"who are you", id="a token that is not known"),
        pytest.param(404, b"", id="another server at this address"),
        pytest.param(200, b"<html>", id="a proxy's page"),
        pytest.param(200, b'{"acknowledged": 77}', id="another number acknowledged"),
        pytest.param(200, b"[" * 100_000, id="an answer nested without end"),
        pytest.param(200, b'"' + b"x" * (1 << 20) + b'"', id="an answer without end"),
        pytest.param(200, b"\xff\xfe", id="an answer that is no text"),
    ],
)
def test_the_same_batch_goes_again_until_it_is_taken(begin: Any, serving: Any, status: int, answer: bytes) -> None:
    service = serving((status, answer), None)
    spool, sender, _ = begin(service.url)
    until(lambda: len(spool) == 0)
    assert [body["sequence"] for _, body in service.heard] == [1, 1, 2, 3]
    assert (spool.dropped, sender.heard) == (0, True)


def test_while_nobody_listens_the_spool_grows_to_its_bound(begin: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        spool, sender, _ = begin(f"http://127.0.0.1:{free.getsockname()[1]}", most_bytes=2000)
        until(lambda: not sender.heard)
        for n in range(50):
            spool.put(ENVELOPE, [{"type": "beat", "at": float(n), "ranks": []}])
    assert 0 < len(spool) < 53
    assert len(spool) + spool.dropped == 53


def test_a_new_token_is_used_at_once(begin: Any, serving: Any, tmp_path: Path) -> None:
    service = serving((401, b""), (401, b""), None)
    spool, _, _ = begin(service.url)
    until(lambda: bool(service.heard))
    (tmp_path / "token").write_text("second")
    until(lambda: len(spool) == 0)
    assert [service.heard[0][0], service.heard[-1][0]] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("token", [None, "two\nlines", "t\u00f6ken"], ids=["no file", "two lines", "not latin"])
def test_a_token_that_cannot_be_used_keeps_the_spool(begin: Any, serving: Any, tmp_path: Path, token: Any) -> None:
    (tmp_path / "token").unlink()
    if token is not None:
        (tmp_path / "token").write_text(token)
    spool, sender, _ = begin(serving((401, b"")).url)
    until(lambda: not sender.heard)
    assert len(spool) == 3


def test_what_the_service_says_is_passed_on(begin: Any, serving: Any) -> None:
    orders = [{"id": "i1/stop/1", "verb": "stop"}, "nonsense", 7, None]
    answer = {"acknowledged": 1, "orders": orders, "release": True, "resync": True}
    spool, sender, heard = begin(serving((200, json.dumps(answer).encode())).url, records=1)
    until(lambda: sender.released)
    assert (heard, sender.resync, len(spool)) == ([orders[0]], True, 0)


@pytest.mark.parametrize("orders", ["x", 5, {"id": 1}, None])
def test_orders_that_are_no_list_are_none(begin: Any, serving: Any, orders: Any) -> None:
    answer = {"acknowledged": 1, "orders": orders, "release": True}
    _, sender, heard = begin(serving((200, json.dumps(answer).encode())).url, records=1)
    until(lambda: sender.released)
    assert heard == []


@pytest.mark.parametrize("url", ["", "n3:80", "ftp://n3", "http://", "http://n3:port", "http://n3:99999"])
def test_an_address_that_is_none_is_an_error_at_the_start(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        Sender(Spool(str(tmp_path)), threading.RLock(), url, "", print)

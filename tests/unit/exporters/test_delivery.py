"""The way out: bounded, in order, tried again; a dead or forbidden server costs the line nothing."""

import ipaddress
import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shutil import which

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.delivery import Delivery
from exporters.peer import DeliveryError, Peer, forbidden
from holdfast.secretfile import secret_of
from tests.servers import free_port
from tests.unit.exporters.receiver import receiver

JSON = {"Content-Type": "application/json"}


def failing(*, again: bool, times: int, then: Callable[[], None] = lambda: None) -> Callable[[], None]:
    """An errand that does not get through so many times."""
    left = [times]

    def errand() -> None:
        if left[0]:
            left[0] -= 1
            raise DeliveryError("not now", again=again)
        then()

    return errand


@pytest.mark.parametrize(
    ("again", "times", "sent", "failed"),
    [
        pytest.param(True, 0, 1, 0, id="what gets through is sent"),
        pytest.param(True, 2, 1, 0, id="what does not get through for now is tried again"),
        pytest.param(False, 1, 0, 1, id="what never can get through is given up at once"),
    ],
)
def test_an_errand_ends_as(again: bool, times: int, sent: int, failed: int) -> None:
    delivery, ended = Delivery("t"), threading.Event()
    delivery.put(failing(again=again, times=times))
    delivery.put(ended.set)
    assert ended.wait(20)
    delivery.close(5)
    assert (delivery.sent - 1, delivery.failed, delivery.dropped, delivery.alive) == (sent, failed, 0, False)


def test_patience_ends() -> None:
    delivery, ended = Delivery("t", patience_s=0.3), threading.Event()
    delivery.put(failing(again=True, times=1000))
    delivery.put(ended.set)
    assert ended.wait(20)
    assert delivery.failed == 1
    delivery.close(5)


def test_a_full_line_drops_its_oldest_and_counts_it() -> None:
    delivery, go, begun = Delivery("t", most=3), threading.Event(), threading.Event()
    done: list[int] = []

    def first() -> None:
        begun.set()
        go.wait(20)

    delivery.put(first)
    assert begun.wait(20)
    for n in range(10):
        delivery.put(partial(done.append, n))
    assert (delivery.waiting, delivery.dropped) == (3, 7)
    go.set()
    delivery.close(20)
    assert done == [7, 8, 9]


def test_a_bug_in_one_errand_is_counted_and_the_next_errand_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery, ended, seen = Delivery("t"), threading.Event(), threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.set())

    def bug() -> None:
        raise LookupError("a bug")

    delivery.put(bug)
    assert seen.wait(20)
    while delivery.alive:
        time.sleep(0.005)
    delivery.put(ended.set)
    assert ended.wait(20)
    assert delivery.failed == 1
    delivery.close(5)


def test_closing_gives_up_what_does_not_get_through_and_counts_what_comes_later() -> None:
    delivery = Delivery("t", patience_s=3600)
    for _ in range(3):
        delivery.put(failing(again=True, times=1000))
    delivery.close(20)
    delivery.put(lambda: None)
    assert (delivery.sent, delivery.failed, delivery.dropped, delivery.alive) == (0, 3, 1, False)


def test_a_regular_errand_comes_again_and_again() -> None:
    ran = threading.Semaphore(0)
    delivery = Delivery("t", regular=lambda: ran.release, every_s=0.01)
    delivery.put(lambda: None)
    assert all(ran.acquire(timeout=20) for _ in range(3))
    delivery.close(20)
    assert not delivery.alive


@pytest.mark.parametrize(
    ("status", "again"),
    [
        pytest.param(200, None, id="200 is through"),
        pytest.param(204, None, id="204 is through"),
        pytest.param(302, False, id="a redirect is not followed"),
        pytest.param(400, False, id="400 is final"),
        pytest.param(401, False, id="401 is final"),
        pytest.param(429, True, id="429 is tried again"),
        pytest.param(503, True, id="503 is tried again"),
    ],
)
def test_an_answer_of(status: int, again: bool | None) -> None:
    with receiver() as there, receiver() as elsewhere:
        there.script = [(status, b"", {"Location": elsewhere.url} if status == 302 else {})]
        try:
            Peer(there.url + "/hook?key=1").post(b"{}", headers=JSON)
            outcome = None
        except DeliveryError as error:
            outcome = error.again
        assert outcome is again
        assert [(told.method, told.path) for told in there.told] == [("POST", "/hook?key=1")]
        assert elsewhere.told == []


@pytest.mark.parametrize("host", ["a..b", "x" * 70], ids=["an empty label", "a label that is too long"])
def test_a_host_that_cannot_be_a_name_is_given_up(host: str) -> None:
    with pytest.raises(DeliveryError) as caught:
        Peer(f"http://{host}/").post(b"{}", headers=JSON)
    assert not caught.value.again


def test_a_server_that_says_a_byte_now_and_then_does_not_hold_the_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def drip() -> None:
            link, _ = server.accept()
            with link:
                link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not done.wait(0.01):
                    link.sendall(b".")

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(DeliveryError, match="too slowly") as caught:
            Peer(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_s=0.2).post(b"{}", headers=JSON)
        done.set()
        thread.join()
    assert caught.value.again


@pytest.mark.skipif(which("openssl") is None, reason="openssl is not installed")
def test_a_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=t"]
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", "-x509", *kind, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with receiver(context) as there:
        with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
            Peer(there.url).post(b"{}", headers=JSON)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        Peer(there.url).post(b"{}", headers=JSON)
        with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
            Peer(there.url.replace("127.0.0.1", "localhost")).post(b"{}", headers=JSON)
        assert [told.body for told in there.told] == [b"{}"]


def test_a_dead_server_is_tried_again_later() -> None:
    with pytest.raises(DeliveryError) as caught:
        Peer(f"http://127.0.0.1:{free_port()}/").post(b"{}", headers=JSON)
    assert caught.value.again


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%2", "fd00:ec2::254", "100.100.100.200", "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "168.63.129.16", "192.0.0.192",
    ],
)  # fmt: skip
def test_a_forbidden_address(address: str) -> None:
    assert forbidden(address)


@given(st.ip_addresses(v=4))
def test_of_all_other_addresses_of_ipv4_none_is_forbidden(address: ipaddress.IPv4Address) -> None:
    known = {"100.100.100.200", "168.63.129.16", "192.0.0.192"}
    assert forbidden(str(address)) == (address.is_link_local or str(address) in known)


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "http://[fe80::1]:80/", "https://100.100.100.200"])
def test_settings_that_point_to_a_forbidden_address_stop_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="link-local or metadata"):
        Peer(url)


def test_a_name_that_resolves_to_a_forbidden_address_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is looked up when it is dialled, so that it cannot be harmless at the start and a trap later."""
    real = socket.getaddrinfo

    def trap(host: str, port: int, *args: int, **kwargs: int) -> object:
        return real("169.254.169.254", port, *args, **kwargs) if host == "metadata.example" else real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", trap)
    with pytest.raises(DeliveryError, match="link-local or metadata") as caught:
        Peer("http://metadata.example/").post(b"{}", headers=JSON)
    assert not caught.value.again


@pytest.mark.parametrize(
    ("url", "says"),
    [
        pytest.param("ftp://h/", "must be http", id="another scheme"),
        pytest.param("http:///x", "must be http", id="no host"),
        pytest.param("http://me:secret@h/", "no user", id="a password in the settings"),
        pytest.param("http://h:99999/", "[Pp]ort", id="no port number"),
        pytest.param("http://h/a b", "printable", id="a space"),
        pytest.param("http://h/a\r\nX: y", "printable|must be", id="a header in the path"),
    ],
)
def test_a_url_is_refused_that_has(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        Peer(url)
    assert "secret@" not in str(caught.value)


def test_paths_and_queries_are_not_shown(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    delivery = Delivery("t", patience_s=0.0)
    peer = Peer(f"http://127.0.0.1:{free_port()}/hook/hidden?token=hidden")
    delivery.put(partial(peer.post, b"{}", headers=JSON))
    delivery.close(20)
    shown = capsys.readouterr()
    assert delivery.failed == 1
    assert "not delivered" in shown.out + shown.err + caplog.text
    assert "hidden" not in shown.out + shown.err + caplog.text + str(peer)


def test_a_secret_is_read_from_its_file_and_an_empty_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "good").write_text("s3cret\n")
    (tmp_path / "empty").write_text("\n")
    assert secret_of(str(tmp_path / "good"), key="token_file") == "s3cret"
    (tmp_path / "binary").write_bytes(b"s3cret\xff")
    for name, why in (("empty", "empty"), ("gone", "No such file or directory"), ("binary", "not UTF-8")):
        with pytest.raises(ValueError, match=f"^token_file .*{name}: {why}$"):
            secret_of(str(tmp_path / name), key="token_file")

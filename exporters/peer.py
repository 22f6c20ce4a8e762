"""A server that exporters talk to: one HTTP request at a time, never to a metadata address, never along a redirect."""

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

# An answer is read for its status, or for an id; whoever sends more is cut off.
MOST_ANSWER_BYTES = 1 << 20

# Where cloud machines keep their credentials: whoever can write settings must not be able to have them fetched.
_FORBIDDEN = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local; AWS, GCP, Azure, OpenStack metadata
        "fe80::/10",  # link-local
        "fd00:ec2::254/128",  # AWS
        "fd20:ce::254/128",  # GCP
        "100.100.100.200/32",  # Alibaba Cloud
        "168.63.129.16/32",  # Azure wire server
        "192.0.0.192/32",  # Oracle Cloud
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class DeliveryError(Exception):
    """A request that did not get through; again: whether trying later can help."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


class Answer(NamedTuple):
    """What came back. body: at most MOST_ANSWER_BYTES of it."""

    status: int
    body: bytes


class Peer:
    """A server by its URL; prints as scheme, host and port, because paths and queries of webhooks are secrets.

    timeout_s: for each connect, write and read; proxies of the environment are not used
    raises ValueError: no http(s) URL, one with a user or a password in it, or a forbidden address
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        parts = _split(url)
        self.scheme, self.host, self.timeout_s = parts.scheme, parts.hostname or "", timeout_s
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.path = parts.path.rstrip("/")
        self._query = f"?{parts.query}" if parts.query else ""
        _refuse_forbidden(self.host)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"

    @property
    def netloc(self) -> str:
        """Host and port as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def post(self, body: bytes, *, path: str = "", headers: Mapping[str, str]) -> None:
        """POST to the URL, extended by `path`.

        raises DeliveryError: not reached, or answered otherwise than with 2xx
        """
        target = (self.path + path or "/") + self._query
        checked(self, self.request("POST", target, body, headers).status)

    def request(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One request and whatever is answered. target: path and query.

        raises DeliveryError: not reached, or no HTTP
        """
        kind = _Tls if self.scheme == "https" else _Plain
        connection = kind(self.host, self.port, timeout=self.timeout_s)
        try:
            connection.request(method, target, body, dict(headers))
            answer = connection.getresponse()
            return Answer(answer.status, self._read(answer))
        except (OSError, http.client.HTTPException) as error:
            raise DeliveryError(f"{self}: {type(error).__name__}: {error}", again=True) from error
        except ValueError as error:  # a host that cannot be a name, a header that cannot be sent
            raise DeliveryError(f"{self}: {type(error).__name__}", again=False) from error
        finally:
            connection.close()

    def _read(self, answer: http.client.HTTPResponse) -> bytes:
        """The body, bounded in size and in time: a server that says a byte now and then must not hold the line for long."""
        body, until = bytearray(), time.monotonic() + self.timeout_s
        while len(body) < MOST_ANSWER_BYTES and (part := answer.read1(65_536)):
            body += part
            if time.monotonic() > until:
                raise DeliveryError(f"{self} answers too slowly", again=True)
        return bytes(body)


def checked(peer: Peer, status: int) -> None:
    """Pass on 2xx.

    raises DeliveryError: anything else; again if the server says that it is its own trouble, or too early
    """
    if 300 <= status < 400:
        raise DeliveryError(f"{peer} answered {status}: redirects are not followed", again=False)
    if not 200 <= status < 300:
        raise DeliveryError(f"{peer} answered {status}", again=status >= 500 or status in (408, 425, 429))


def forbidden(address: str) -> bool:
    """Whether an IP address, as it stands or inside an IPv6 one, is link-local or a metadata service."""
    ip = ipaddress.ip_address(address)
    inner: list[ipaddress.IPv4Address | None] = []
    if isinstance(ip, ipaddress.IPv6Address):
        nat64 = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        inner = [ip.ipv4_mapped, ip.sixtofour, nat64]
    return any(one in network for one in (ip, *inner) if one is not None for network in _FORBIDDEN)


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("url: must be http://HOST[:PORT]/... or https://...")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url: no user and no password may stand in it; secrets come from files")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("url: only printable ASCII without spaces; write the rest as %XX")
    _ = parts.port  # raises ValueError where it is no port
    return parts


def _refuse_forbidden(host: str) -> None:
    """A literal address is refused at the start; what a name stands for is known only when it is dialled."""
    try:
        bad = forbidden(host)
    except ValueError:
        return
    if bad:
        raise ValueError(f"url: {host} is a link-local or metadata address")


def _dial(host: str, port: int, timeout_s: float | None) -> socket.socket:
    """Connect to an address that was checked: the one that was looked at is the one that is called."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if any(forbidden(str(address[0])) for *_, address in found):
        raise DeliveryError(f"{host} is a link-local or metadata address", again=False)
    problem: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in found:
        link = socket.socket(family, kind, protocol)
        link.settimeout(timeout_s)
        try:
            link.connect(address)
        except OSError as error:
            link.close()
            problem = error
        else:
            return link
    raise problem


class _Plain(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = _dial(self.host, self.port, self.timeout)


class _Tls(http.client.HTTPSConnection):
    def connect(self) -> None:
        link = _dial(self.host, self.port, self.timeout)
        try:
            self.sock = ssl.create_default_context().wrap_socket(link, server_hostname=self.host)
        except (OSError, ValueError):
            link.close()
            raise

"""Real servers for tests: each on a free loopback port, in a folder of its own, stopped by its process id."""

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest

READY_S = 30.0
STOP_S = 10.0


@contextmanager
def prometheus(folder: Path, config: str = "") -> Iterator[str]:
    """A Prometheus that takes remote writes and reloads; yields its URL.

    folder: is made if it is missing; keeps settings, data and log
    config: prometheus.yml as text; relative `rule_files` are looked for in the folder
    """
    settings, port = _settings(folder, "prometheus.yml", config), free_port()
    options = [
        f"--config.file={settings}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--web.enable-lifecycle",
    ]
    with _server(("prometheus", *options), folder=folder, port=port) as url:
        yield url


@contextmanager
def alertmanager(folder: Path, config: str = "") -> Iterator[str]:
    """An Alertmanager without gossip; yields its URL.

    folder: is made if it is missing; keeps settings, data and log
    config: alertmanager.yml as text; empty is one receiver that tells nobody
    """
    quiet = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
    settings, port = _settings(folder, "alertmanager.yml", config or quiet), free_port()
    options = [
        f"--config.file={settings}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    name = "prometheus-alertmanager" if which("prometheus-alertmanager") else "alertmanager"
    with _server((name, *options), folder=folder, port=port) as url:
        yield url


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def _settings(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@contextmanager
def _server(words: Sequence[str], *, folder: Path, port: int) -> Iterator[str]:
    """Start it, wait until it is ready, and stop it by its process id; its log is `folder/log`."""
    if which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    url, log = f"http://127.0.0.1:{port}", folder / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=written, stderr=written)
    try:
        _wait_ready(process, page=f"{url}/-/ready", log=log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: subprocess.Popen[bytes], *, page: str, log: Path) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(page, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    state = "is not ready" if process.poll() is None else f"ended with {process.returncode}"
    raise RuntimeError(f"the server {state}: {log.read_text(errors='replace')[-2000:]}")

"""`holdfast demo`: a simulated cluster that breaks and is repaired, told as it happens."""

import asyncio
import os
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

import msgspec
from rich.console import Console

from holdfast.cli.diagnose import unusable
from holdfast.cli.screen import Lines, Screen
from holdfast.cli.simulate import load, score_table
from holdfast.config import Token
from holdfast.demo import HOST, Demo, passed
from holdfast.logging import to_stderr

_SHOWN_EVERY_S = 0.5


class Told(Protocol):
    """What shows a demo to a person. `show` is asked again and again."""

    def begin(self, demo: Demo, *, url: str, act: Path) -> None: ...

    def show(self) -> None: ...

    def end(self) -> None: ...


def demo(*, once: bool, seed: int, report: str, speed: float, port: int, scenario: str = "demo") -> int:
    """Play a scenario at up to `speed` times real time (0: as fast as it goes), served on loopback; the exit status.

    once: end with the scenario. Without a terminal it ends there too, because nobody is there to end it.
    """
    to_stderr()
    if report:
        _must_be_writable(Path(report))
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as name:
        folder = Path(name)
        tokens = {role: _token(folder / role) for role in ("read", "act")}
        played = load(scenario, seed)
        endless = on_terminal and not once

        async def play() -> tuple[dict[str, Any], bool]:
            demo = Demo(
                played, folder=folder, tokens=[Token(file=str(folder / role), role=role) for role in tokens], speed=speed,
                endless=endless, clock=time.monotonic,
            )  # fmt: skip
            told = Screen(Console(highlight=False)) if on_terminal else Lines()
            return await _show(demo, told, port=port, read=tokens["read"], act=folder / "act")

        score, over = asyncio.run(play())
    if report:
        Path(report).write_bytes(msgspec.json.format(msgspec.json.encode(score), indent=2) + b"\n")
    print(score_table(score))
    # whoever ends an endless demo early has not asked for a judgement
    good = passed(score) if over else endless
    return 0 if good else 1


async def _show(demo: Demo, told: Told, *, port: int, read: str, act: Path) -> tuple[dict[str, Any], bool]:
    """Play it to its end; the score, and whether the scenario was over."""
    loop = asyncio.get_running_loop()
    for word in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(word, demo.stop)
    try:
        await demo.open(port)
    except OSError as error:
        await demo.close()
        unusable(f"port {port}: {error.strerror}")
    if port not in (0, demo.port):
        print(f"port {port} is taken; it is {demo.port} instead", flush=True)
    # after `#` it stays in the browser: it is sent to no server and stands in no log
    told.begin(demo, url=f"http://{HOST}:{demo.port}/#token={read}", act=act)
    showing = asyncio.create_task(_showing(told))
    try:
        await demo.play()
    finally:
        showing.cancel()
        told.show()
        told.end()
        over = demo.simulation.over
        score = await demo.close()
    return score, over


async def _showing(told: Told) -> None:
    while True:
        told.show()
        await asyncio.sleep(_SHOWN_EVERY_S)


def _must_be_writable(report: Path) -> None:
    """Say so now, and not when the demo has been seen to its end."""
    try:
        report.open("ab").close()
    except OSError as error:
        unusable(f"{report}: {error.strerror}")


def _token(path: Path) -> str:
    """A fresh token in a file that only its owner reads."""
    token = secrets.token_urlsafe(24)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f"{token}\n")
    return token

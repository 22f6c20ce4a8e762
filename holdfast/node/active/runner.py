"""Runs active checks within their time, each in a process of its own, and notes what they measured; recorded outputs are read alike."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from collectors.node import outputs
from collectors.node.notes import Notes
from holdfast.plugins import ConfigError, installed, make

MOST_BYTES = 8 << 20


class ActiveCheck(Protocol):
    """A test that puts a part of the machine under load.

    limit_s: it is ended after so long
    kind: which tool's output it writes, by `collectors/node/outputs.py`
    missing: why it cannot be run here, "" if it can; command: what is run
    """

    limit_s: float
    kind: str

    def missing(self) -> str: ...

    def command(self) -> Sequence[str]: ...


def chosen(names: Sequence[str], settings: Mapping[str, dict[str, Any]]) -> dict[str, ActiveCheck]:
    """Checks by name, all installed ones if none is named.

    raises ConfigError: no such check, or a key it does not take
    """
    if unknown := sorted(set(settings) - set(installed("checks"))):
        raise ConfigError(f"no plugin of checks called {unknown[0]!r}; installed: {', '.join(installed('checks')) or 'none'}")
    return {name: make("checks", name, settings.get(name, {})) for name in names or installed("checks")}


def run(name: str, check: ActiveCheck, notes: Notes) -> str:
    """Run one check and note what it measured; "" if it was run, else why not."""
    reason = check.missing()
    if reason:
        return reason
    status, text = _output(list(check.command()), check.limit_s)
    if text:
        outputs.read_text(check.kind, name, text, notes)
    told = next((line for line in reversed(text.splitlines()) if line.strip()), "")[:300]
    if status is None:
        notes.tell("test.timed_out", 1.0, name, f"{name}: not ended after {check.limit_s:g} s; its last words: {told or 'none'}")
    elif status != 0:
        notes.tell("test.failed", 1.0, name, f"{name}: ended with status {status}: {told}")
    return ""


def _output(command: list[str], limit_s: float) -> tuple[int | None, str]:
    """(exit status, None where it had to be ended; what it wrote, both streams, bounded)."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, bufsize=0
        )
    except (OSError, ValueError) as error:
        return 127, f"{command[0]}: {error}"
    try:
        written, _ = process.communicate(timeout=limit_s)
        return process.returncode, written[:MOST_BYTES].decode("utf-8", "replace")
    except subprocess.TimeoutExpired as late:
        _end(process)
        return None, (late.stdout or b"")[:MOST_BYTES].decode("utf-8", "replace")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a check and what it started; one that waits in the kernel cannot be ended and is left behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(2.0)
    except (ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
        return
    finally:
        if process.stdout is not None:
            process.stdout.close()


def python(module: str, *words: str) -> list[str]:
    """The command of a check of ours."""
    return [sys.executable, "-m", module, *words]


def skipped(checks: Mapping[str, ActiveCheck], notes: Notes) -> Iterator[tuple[str, str]]:
    """Run checks one after the other; (name, reason) of those that could not be."""
    for name, check in checks.items():
        reason = run(name, check, notes)
        if reason:
            yield name, reason

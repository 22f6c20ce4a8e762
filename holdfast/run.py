"""`holdfast run`: a job on this machine, with service and agent as processes of their own beside it."""

import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from holdfast.children import Child
from holdfast.cli.output import headline
from holdfast.incident import Incident
from holdfast.watching import Client, Tail

_POLL_S = 0.25

# Ctrl-C twice, or a job that does not end: this long after the first word nothing is waited for any more.
_STOP_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `holdfast run` was asked."""

    command: list[str]
    nproc: int = 0
    report: str = ""
    directory: str = ""
    job: str = ""
    quiet: bool = False
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


def run_job(settings: Settings) -> int:
    """Run the job to its end under service and agent; return the job's last exit status (128 + signal if killed)."""
    supervisor = Supervisor(settings)
    with _stop_signals(supervisor):
        return supervisor.run()


class Supervisor:
    """Starts service and agent, starts each again when it dies, shows what happens, and ends with the job."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.job = settings.job or _job_name(settings.command)
        self.directory = Path(settings.directory) if settings.directory else _default_directory(self.job)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.stopped_by: int | None = None
        self._job_dir = self.directory / "job"
        self._port = _free_port()
        self._tokens = {role: self._token(role) for role in ("agent", "read")}
        self._client = Client(
            f"http://127.0.0.1:{self._port}", self._tokens["read"].read_text(encoding="utf-8").strip()
        )
        self._tail = Tail(self._job_dir / "logs")
        self._told: dict[str, str] = {}
        self._incidents: dict[str, Incident] = {}
        self._last: dict[str, Any] = {}

    def run(self) -> int:
        """The whole life; returns the exit status."""
        config = self.directory / "holdfast.toml"
        config.write_bytes(msgspec.toml.encode(self._config()))
        service = Child(
            [sys.executable, "-m", "holdfast", "serve", "-c", str(config)], log=self.directory / "service.log"
        )
        agent = Child(self._agent_command(), log=self.directory / "agent.log")
        self._say(f"job {self.job!r}; logs, journal and evidence in {self.directory}")
        try:
            self._watch(service, agent)
        finally:
            self._end(service, agent)
        status = self._status()
        self._say(f"job {self.job!r} ended with status {status}")
        self._write_report(status)
        return status

    def _watch(self, service: Child, agent: Child) -> None:
        while True:
            service.keep()
            agent.keep()
            self._show_output()
            self._look()
            if self._last.get("over") or self._last.get("stuck") or self.stopped_by is not None:
                return
            time.sleep(_POLL_S)

    def _look(self) -> None:
        self._last = self._client.job(self.job) or self._last
        for incident in self._client.incidents():
            self._incidents[incident.id] = incident
            now = f"{incident.state} {incident.verb or ''}".strip()
            if self._told.get(incident.id) != now:
                self._told[incident.id] = now
                note = f" ({incident.note})" if incident.note else ""
                self._say(f"{incident.id} {incident.state}: {headline(incident.verdict)}{note}")

    def _end(self, service: Child, agent: Child) -> None:
        if not self._last.get("over"):
            self._stop_job(service, agent)
        agent.wait(5.0)  # it leaves by itself once its job is over and its spool is empty
        agent.end(5.0)
        self._show_output()
        self._look()
        service.end(5.0)

    def _stop_job(self, service: Child, agent: Child) -> None:
        """A person said stop, or is needed: the agent ends the processes, the supervisor waits for it."""
        agent.end(2.0)
        stopper = Child(
            [sys.executable, "-m", "ftagent", "stop", "--dir", str(self._job_dir)], log=self.directory / "agent.log"
        )
        stopper.wait(_STOP_S)
        stopper.end(1.0)

    # --- settings of the parts

    def _config(self) -> dict[str, Any]:
        tokens = [
            {"file": str(self._tokens["agent"]), "role": "agent", "job": self.job},
            {"file": str(self._tokens["read"]), "role": "read"},
        ]
        parts: dict[str, dict[str, Any]] = {
            "service": {"port": self._port},
            "journal": {"path": str(self.directory / "journal.sqlite")},
            # the person who typed the command owns the job and asked for it to be repaired
            "remedier": {"mode": "auto", "ladder": ["restart"] * 5},
            "backends": {"local": {}},
        }
        for name, own in self.settings.settings.items():
            if name not in ("service", "tokens"):  # where it listens, and who may speak, are this run's own
                parts[name] = {**parts.get(name, {}), **own}
        return {**parts, "tokens": tokens}

    def _agent_command(self) -> list[str]:
        s = self.settings
        options = [
            "--dir",
            str(self._job_dir),
            "--url",
            f"http://127.0.0.1:{self._port}",
            "--token-file",
            str(self._tokens["agent"]),
        ]
        options += ["--job", self.job, "--node", socket.gethostname(), "--agent", socket.gethostname()]
        options += ["--nproc", str(s.nproc)] if s.nproc else []
        options += ["--own-status"]  # an agent that ends otherwise than with 0 is started again
        return [sys.executable, "-m", "ftagent", "run", *options, "--", *s.command]

    def _token(self, role: str) -> Path:
        path = self.directory / f"{role}.token"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
        return path

    # --- what is left at the end

    def _status(self) -> int:
        if self.stopped_by is not None:
            return 128 + self.stopped_by
        code, killed_by = self._last.get("exit_code"), self._last.get("signal")
        if self._last.get("stuck") and self._last.get("state") == "started":
            return 1
        return int(code) if code is not None else 128 + int(killed_by) if killed_by else 1

    def _write_report(self, status: int) -> None:
        if not self.settings.report:
            return
        answer = {
            "job": self.job,
            "exit_status": status,
            "attempts": int(self._last.get("attempt", 0)) + 1,
            "directory": str(self.directory),
            "incidents": [report_of(incident) for incident in self._incidents.values()],
        }
        path = Path(self.settings.report)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(answer), indent=2) + b"\n")

    def _show_output(self) -> None:
        """The job's own output; whoever reads it may go, the job and its repair go on."""
        if not self.settings.quiet:
            with contextlib.suppress(OSError):
                self._tail.copy_to(sys.stdout)

    def _say(self, what: str) -> None:
        with contextlib.suppress(OSError):
            print(f"holdfast: {what}", file=sys.stderr, flush=True)


def report_of(incident: Incident) -> dict[str, Any]:
    """An incident as a report has it: the verdict's own keys, and beside them what was done when."""
    facts: dict[str, Any] = msgspec.to_builtins(incident)
    verdict: dict[str, Any] = facts.pop("verdict")
    known = facts.pop("detail")
    return {**verdict, **facts, "detail": {**verdict["detail"], **known}}


@contextlib.contextmanager
def _stop_signals(supervisor: Supervisor) -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        supervisor.stopped_by = number

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _job_name(command: list[str]) -> str:
    scripts = [Path(word).stem for word in command if word.endswith(".py")]
    return scripts[0] if scripts else Path(command[0]).name


def _default_directory(job: str) -> Path:
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "holdfast" / "runs" / f"{job}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

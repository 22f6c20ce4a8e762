"""Settings: one TOML file, one table per plugin; an unknown key stops the start and is named."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from holdfast.plugins import ConfigError, installed

__all__ = ["Config", "ConfigError", "read"]


class Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Any table whose keys are fixed."""


class Service(Table):
    """host, port: where the API listens, loopback unless told; port 0 takes a free one and writes it to `port_file`.

    period_s: the longest time between two steps
    """

    host: str = "127.0.0.1"
    port: int = 8642
    port_file: str = ""
    period_s: float = 0.2


class JournalTable(Table):
    """snapshot_every_s: how often memory is kept; keep: "all" inputs, or only those "since_snapshot"."""

    path: str = "holdfast.journal"
    snapshot_every_s: float = 60.0
    keep: str = "since_snapshot"


class Token(Table):
    """A caller.

    file: holds the token; role: agent, read, act or admin; agent, job: whom an agent may speak for ("*" any)
    """

    file: str
    role: str
    agent: str = "*"
    job: str = "*"


class Remedier(Table):
    """How far the loop may go. mode: observe (nothing is changed), approve or auto, for every job not in `jobs`."""

    mode: str = "observe"
    jobs: dict[str, str] = {}
    playbook: str = ""
    ladder: tuple[str, ...] = ("restart", "replace", "resubmit")
    grace_s: float = 5.0
    settle_s: float = 2.0
    evidence_s: float = 20.0
    verify_s: float = 900.0
    approval_s: float = 3600.0
    budget: int = 10
    budget_per_s: float = 3600.0
    no_progress: int = 3
    breaker: int = 10
    breaker_per_s: float = 3600.0


class Config(Table):
    """The whole file. The plugin tables are checked against the plugins' own arguments when they are made.

    detectors: all installed ones run; `[detectors.NAME] enabled = false` leaves one out
    collectors, backends, exporters: those with a table run
    """

    service: Service = msgspec.field(default_factory=Service)
    journal: JournalTable = msgspec.field(default_factory=JournalTable)
    tokens: tuple[Token, ...] = ()
    remedier: Remedier = msgspec.field(default_factory=Remedier)
    collectors: dict[str, dict[str, Any]] = {}
    detectors: dict[str, dict[str, Any]] = {}
    backends: dict[str, dict[str, Any]] = {}
    exporters: dict[str, dict[str, Any]] = {}

    def names(self, group: str) -> list[str]:
        """The plugins of a group that run, in order of their names."""
        tables: dict[str, dict[str, Any]] = getattr(self, group)
        chosen = {*installed(group), *tables} if group == "detectors" else set(tables)
        return sorted(name for name in chosen if tables.get(name, {}).get("enabled", True))

    def settings(self, group: str, name: str) -> dict[str, Any]:
        """A plugin's own keys."""
        table: dict[str, Any] = getattr(self, group).get(name, {})
        return {key: value for key, value in table.items() if key != "enabled"}


def read(path: Path) -> Config:
    """Read a settings file.

    raises ConfigError: unreadable, not TOML, an unknown key, a wrong type; the message names file and place
    """
    try:
        return parse(path.read_text(encoding="utf-8"), name=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def tables(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of a settings file as they stand there, checked as `read` does; to be laid over others."""
    read(path)
    return tomllib.loads(path.read_text(encoding="utf-8"))


def parse(text: str, *, name: str = "settings") -> Config:
    """Read settings from text; errors as `read`."""
    try:
        return msgspec.convert(tomllib.loads(text), Config)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{name}: {error}") from error


def show(config: Config) -> str:
    """The settings in full, defaults included, as TOML."""
    return msgspec.toml.encode(config).decode()

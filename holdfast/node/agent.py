"""`holdfast agent`: collects and judges on the node itself; the service gets findings and a few readings, no raw logs.

    python -m holdfast.node.agent -c agent.toml

It stays small: no server, no data base, no exporters; whatever imports much of memory stays out of this process.
"""

import argparse
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from holdfast.events import Finding, Observation, Samples
from holdfast.faults import Severity
from holdfast.node import state
from holdfast.node.sender import Sender
from holdfast.plugins import ConfigError, make
from holdfast.ports import Closing, Collector, Detector
from holdfast.topology import Kind

log = logging.getLogger(__name__)

# What judges a node by itself; the others need a job's ranks or the whole cluster.
DETECTORS = ("kernel_log", "nic", "node_checks", "sources", "thermal")
COLLECTORS = ("kmsg", "node")
SIGNALS = (
    "gpu.temp_c", "gpu.power_w", "gpu.util_ratio", "gpu.sm_clock_hz", "gpu.mem_used_bytes", "nic.up", "nic.rx_bytes_total",
    "nic.tx_bytes_total", "nic.rate_bps", "node.load1", "node.mem_available_bytes",
)  # fmt: skip
_LIFE_S = 5.0
_WHOLE_S = 300.0
_STATE_S = 15.0
_MOST_STANDING = 1024


class AgentTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """url: the service, "" for none; node: this machine's name unless told; state: where `holdfast check` looks.

    mode: observe (nothing is changed here), approve or auto; signals: which readings are sent, every `samples_every_s`
    """

    url: str = ""
    token_file: str = ""
    node: str = ""
    mode: str = "observe"
    state: str = state.DEFAULT
    period_s: float = 1.0
    samples_every_s: float = 30.0
    signals: tuple[str, ...] = SIGNALS


class AgentConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """agent.toml. collectors, detectors: tables of settings; `enabled = false` leaves one out, a table adds one."""

    agent: AgentTable = msgspec.field(default_factory=AgentTable)
    collectors: dict[str, dict[str, Any]] = {}
    detectors: dict[str, dict[str, Any]] = {}


def read(path: Path) -> AgentConfig:
    """Read the agent's settings.

    raises ConfigError: unreadable, not TOML, an unknown key, an unknown mode; the message names the file
    """
    try:
        config = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), AgentConfig)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if config.agent.mode not in ("observe", "approve", "auto"):
        raise ConfigError(f"{path}: [agent] mode {config.agent.mode!r} is none of observe, approve, auto")
    return config


class Agent:
    """One node's collectors and detectors, and what they claim.

    send: takes records for the service; None where there is no service
    """

    def __init__(
        self, table: AgentTable, collectors: Mapping[str, Collector], detectors: Mapping[str, Detector], sender: Sender | None
    ) -> None:
        self.table, self.collectors, self.detectors, self.sender = table, collectors, detectors, sender
        self.node = table.node or this_node()
        self.standing: dict[str, Finding] = {}
        self.errors = 0
        self._down: dict[str, None] = {}
        self._sampled: dict[Kind, float] = {}
        self._due = {"life": 0.0, "whole": 0.0, "state": 0.0}

    def step(self, now: float) -> list[Finding]:
        """One round: ask every source, judge, tell."""
        said: list[Finding] = []
        records: list[dict[str, Any]] = []
        for collector in self.collectors.values():
            for seen in collector.poll(now):
                said += self._judge(seen)
                if isinstance(seen, Samples):
                    records += self._sampled_of(seen, now)
        for detector in self.detectors.values():
            said += detector.tick(now)
        for finding in said:
            self._keep(finding)
        self._tell(said, records, now)
        return said

    def _judge(self, seen: Observation) -> list[Finding]:
        if isinstance(seen, Samples) and "source.up" in seen.signals:
            up = bool(seen.values[0, seen.signals.index("source.up")])
            if up:
                self._down.pop(seen.source, None)
            else:
                self._down[seen.source] = None
        return [f for d in self.detectors.values() if isinstance(seen, d.consumes) for f in d.observe(seen)]

    def _keep(self, finding: Finding) -> None:
        key = f"{finding.check} {finding.target}"
        if finding.cleared:
            self.standing.pop(key, None)
        elif len(self.standing) < _MOST_STANDING:
            self.standing[key] = finding

    def _sampled_of(self, seen: Samples, now: float) -> list[dict[str, Any]]:
        """The few readings that the service is told, each kind of target as often as is wanted."""
        if not seen.targets or self.sender is None:
            return []
        if now - self._sampled.get(seen.targets[0].kind, float("-inf")) < self.table.samples_every_s:
            return []
        columns = [n for n, signal in enumerate(seen.signals) if signal in self.table.signals]
        if not columns:
            return []
        self._sampled[seen.targets[0].kind] = now
        values = [[None if np.isnan(v) else round(float(v), 3) for v in row] for row in seen.values[:, columns]]
        return [
            {
                "type": "samples", "at": seen.at, "kind": seen.targets[0].kind, "targets": [t.id for t in seen.targets],
                "signals": [seen.signals[n] for n in columns], "values": values,
            }
        ]  # fmt: skip

    def _tell(self, said: list[Finding], records: list[dict[str, Any]], now: float) -> None:
        if self.sender is not None:
            if now >= self._due["whole"] or self.sender.resync:
                self._due["whole"], self.sender.resync = now + _WHOLE_S, False
                records.append({"type": "claims", "at": now, "findings": list(self.standing.values()), "whole": True})
            elif said:
                records.append({"type": "claims", "at": now, "findings": said, "whole": False})
            if records or now >= self._due["life"]:
                self._due["life"] = now + _LIFE_S
                self.sender.put(records, now)
        if said or now >= self._due["state"]:
            self._due["state"] = now + _STATE_S
            try:
                state.save(Path(self.table.state), self.state(now))
            except OSError as error:
                log.warning("the state is not written: %s", error)

    def state(self, now: float) -> state.NodeState:
        """What is known now."""
        standing = [
            state.Standing(
                check=f.check, severity=f.severity.value, fault=f.fault.value, target=str(f.target), since=f.at, action=f.action.value,
                node_action=f.node_action.value, text=f.evidence[0].text[:500] if f.evidence else f.check,
            )
            for f in self.standing.values()
            if f.severity is not Severity.INFO
        ]  # fmt: skip
        sent = {"dropped": self.sender.dropped, "heard_at": self.sender.heard_at} if self.sender is not None else {}
        return state.NodeState(
            node=self.node, at=now, mode=self.table.mode, standing=tuple(standing), sources_down=tuple(self._down), figures=sent
        )

    def close(self) -> None:
        """End every part."""
        for part in self.collectors.values():
            if isinstance(part, Closing):
                part.close(1.0)
        if self.sender is not None:
            self.sender.close()


def this_node() -> str:
    """The node's name: as a pod is told by HOLDFAST_NODE, else the machine's own."""
    return os.environ.get("HOLDFAST_NODE") or socket.gethostname()


def make_agent(config: AgentConfig) -> Agent:
    """Make the parts that the settings name.

    raises ConfigError: an unknown plugin or key, by name
    """
    node = config.agent.node or this_node()
    try:
        sender = _sender(config.agent, node)
    except ValueError as error:
        raise ConfigError(f"[agent]: {error}") from error
    collectors = _made("collectors", COLLECTORS, config.collectors, node)
    return Agent(config.agent, collectors, _made("detectors", DETECTORS, config.detectors, ""), sender)


def _sender(table: AgentTable, node: str) -> Sender | None:
    return Sender(table.url, table.token_file, node=node, boot=secrets.token_hex(6)) if table.url else None


def _made(group: str, usual: tuple[str, ...], tables: Mapping[str, dict[str, Any]], node: str) -> dict[str, Any]:
    made = {}
    for name in dict.fromkeys((*usual, *tables)):
        table = dict(tables.get(name, {}))
        if table.pop("enabled", True):
            if node and name in ("kmsg", "node", "journald", "logfiles", "nvml"):
                table.setdefault("node", node)
            made[name] = make(group, name, table)
    return made


def run(config: AgentConfig) -> None:
    """Run until SIGTERM or SIGINT."""
    leaving = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leaving.set())
    agent = make_agent(config)
    log.info("looking at %s, mode %s", agent.node, config.agent.mode)
    at = 0.0
    while not leaving.is_set():
        at = max(time.time(), at + 1e-6)
        agent.step(at)
        leaving.wait(config.agent.period_s)
    agent.close()


def main(words: list[str] | None = None) -> int:
    """The agent as a process of its own; the exit status."""
    parser = argparse.ArgumentParser(prog="holdfast agent", description="Collects and judges on the node itself.")
    parser.add_argument("-c", "--config", required=True, type=Path, help="settings, TOML")
    given = parser.parse_args(words)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="holdfast agent: %(message)s")
    try:
        run(read(given.config))
    except ConfigError as error:
        print(f"holdfast: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

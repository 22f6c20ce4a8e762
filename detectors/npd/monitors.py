"""Reads node-problem-detector's own JSON files as they are: log monitors, counters of a log, monitors by plugin.

The forms, defaults and meanings are those of github.com/kubernetes/node-problem-detector (pkg/systemlogmonitor,
pkg/custompluginmonitor, cmd/logcounter); only what is needed to match what it matches is read.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from detectors.npd.expressions import ExpressionError, compiled

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
# A comma before a closing bracket, as one of the shipped files has it; strings are passed over.
_TRAILING = re.compile(r'("(?:[^"\\]|\\.)*")|,(\s*[}\]])')
_MOST_LINES = 10_000
_COUNTER = "log-counter"


class MonitorError(ValueError):
    """A file that is no monitor; the message names the file and the rule."""


class Condition(msgspec.Struct, frozen=True):
    """A state of the node and the words for its being well."""

    type: str
    reason: str = ""
    message: str = ""


class _JsonRule(msgspec.Struct, frozen=True):
    type: Literal["temporary", "permanent"]
    reason: str
    condition: str = ""
    pattern: str = ""
    path: str = ""
    args: tuple[str, ...] = ()
    timeout: str = ""


class _Json(msgspec.Struct, frozen=True):
    plugin: str
    rules: tuple[_JsonRule, ...]
    source: str = ""
    conditions: tuple[Condition, ...] = ()
    settings: dict[str, Any] = msgspec.field(default_factory=dict, name="pluginConfig")
    path: str = msgspec.field(default="", name="logPath")
    lookback: str = "0"
    delay: str = "0"
    lines: int = msgspec.field(default=10, name="bufferSize")
    skip: tuple[str, ...] = msgspec.field(default=(), name="skipList")


class LogRule(msgspec.Struct, frozen=True, kw_only=True):
    """A pattern that has to match to the end of the last lines. permanent: it changes a condition, else it is an event."""

    reason: str
    pattern: str
    permanent: bool
    condition: str = ""


class LogMonitor(msgspec.Struct, frozen=True, kw_only=True):
    """Rules over one log.

    plugin: where it is read; sender: of a journal only what this program says; lines: how many a pattern may span
    lookback_s, delay_s: at the start only what is no older, and nothing of so long after a boot
    message: for a file, the expression whose last group is the message; timestamp: lines without it are left out
    """

    file: str
    plugin: Literal["kmsg", "journald", "filelog"]
    source: str
    path: str
    rules: tuple[LogRule, ...]
    conditions: tuple[Condition, ...] = ()
    sender: str = ""
    lines: int = 10
    lookback_s: float = 0.0
    delay_s: float = 0.0
    message: str = ""
    timestamp: str = ""
    skip: tuple[str, ...] = ()


class Counter(msgspec.Struct, frozen=True, kw_only=True):
    """How often a journal may say something within `lookback_s`; `revert` takes one back."""

    pattern: str
    sender: str = ""
    count: int = 1
    lookback_s: float = 0.0
    delay_s: float = 0.0
    revert: str = ""


class PluginRule(msgspec.Struct, frozen=True, kw_only=True):
    """A program whose exit status says how the node is: 0 well, 1 not, anything else nobody knows."""

    reason: str
    permanent: bool
    condition: str
    path: str
    arguments: tuple[str, ...]
    timeout_s: float
    counter: Counter | None = None


class PluginMonitor(msgspec.Struct, frozen=True, kw_only=True):
    """Rules by programs. output_most: characters of an output that are kept; every_s: how often they are asked."""

    file: str
    source: str
    rules: tuple[PluginRule, ...]
    conditions: tuple[Condition, ...] = ()
    every_s: float = 30.0
    output_most: int = 80


def read(path: str) -> LogMonitor | PluginMonitor:
    """Read one file.

    raises MonitorError: no JSON, a key that is missing, a pattern RE2 cannot run, a condition that is not there
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MonitorError(f"{path}: {error}") from error
    return parse(path, text)


def parse(name: str, text: str) -> LogMonitor | PluginMonitor:
    """The monitor of a file's text; name: what errors call it."""
    try:
        given = msgspec.json.decode(_TRAILING.sub(lambda m: m.group(1) or m.group(2), text), type=_Json)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise MonitorError(f"{name}: {error}") from error
    known = {condition.type for condition in given.conditions}
    for rule in given.rules:
        if rule.type == "permanent" and rule.condition not in known:
            raise MonitorError(f"{name}: rule {rule.reason!r}: no condition {rule.condition!r} among {sorted(known)}")
    if given.plugin == "custom":
        return _plugin_monitor(name, given)
    if given.plugin not in ("kmsg", "journald", "filelog"):
        raise MonitorError(f"{name}: plugin {given.plugin!r} is none of kmsg, journald, filelog, custom")
    return _log_monitor(name, given)


def _log_monitor(name: str, given: _Json) -> LogMonitor:
    if not 1 <= given.lines <= _MOST_LINES:
        raise MonitorError(f"{name}: bufferSize {given.lines} is not between 1 and {_MOST_LINES}")
    settings = {key: str(value) for key, value in given.settings.items()}
    rules = tuple(
        LogRule(
            reason=rule.reason, pattern=_usable(name, rule.reason, rule.pattern), permanent=rule.type == "permanent",
            condition=rule.condition,
        )
        for rule in given.rules
    )  # fmt: skip
    if given.plugin == "filelog":
        for key in ("timestamp", "message", "timestampFormat"):
            if not settings.get(key):
                raise MonitorError(f"{name}: pluginConfig.{key} is missing")
    plugin: Any = given.plugin
    return LogMonitor(
        file=name, plugin=plugin, source=given.source, path=given.path, rules=rules, conditions=given.conditions,
        sender=settings.get("source", "") if given.plugin == "journald" else "", lines=given.lines,
        lookback_s=duration_s(name, given.lookback), delay_s=duration_s(name, given.delay),
        message=_usable(name, "message", settings.get("message", ""), end=False),
        timestamp=_usable(name, "timestamp", settings.get("timestamp", ""), end=False), skip=given.skip,
    )  # fmt: skip


def _plugin_monitor(name: str, given: _Json) -> PluginMonitor:
    settings = given.settings
    whole_s = duration_s(name, str(settings.get("timeout", "5s")))
    rules = []
    for rule in given.rules:
        own_s = duration_s(name, rule.timeout) if rule.timeout else whole_s
        if own_s > whole_s:
            raise MonitorError(f"{name}: rule {rule.reason!r}: its timeout is longer than that of all, {whole_s:.0f} s")
        rules.append(
            PluginRule(
                reason=rule.reason, permanent=rule.type == "permanent", condition=rule.condition, path=rule.path, arguments=rule.args,
                timeout_s=own_s, counter=_counter(name, rule) if Path(rule.path).name == _COUNTER else None,
            )
        )  # fmt: skip
    most = settings.get("max_output_length", 80)
    return PluginMonitor(
        file=name, source=given.source, rules=tuple(rules), conditions=given.conditions,
        every_s=duration_s(name, str(settings.get("invoke_interval", "30s"))), output_most=most if isinstance(most, int) else 80,
    )  # fmt: skip


def _counter(name: str, rule: _JsonRule) -> Counter:
    said = dict(_option(argument) for argument in rule.args)
    try:
        count = int(said.get("count", "1"))
    except ValueError:
        raise MonitorError(f"{name}: rule {rule.reason!r}: count {said['count']!r} is no number") from None
    revert = said.get("revert-pattern", "")
    return Counter(
        pattern=_usable(name, rule.reason, said.get("pattern", "")), sender=said.get("journald-source", ""), count=count,
        lookback_s=duration_s(name, said.get("lookback", "0")), delay_s=duration_s(name, said.get("delay", "0")),
        revert=_usable(name, rule.reason, revert) if revert else "",
    )  # fmt: skip


def _option(argument: str) -> tuple[str, str]:
    key, _, value = argument.lstrip("-").partition("=")
    return key, value


def _usable(name: str, rule: str, pattern: str, *, end: bool = True) -> str:
    try:
        compiled(f"{pattern}\\z" if end else pattern)
    except ExpressionError as error:
        raise MonitorError(f"{name}: rule {rule!r}: {error}") from error
    return pattern


def duration_s(name: str, text: str) -> float:
    """Seconds of a duration as Go writes it: "5m", "1h30m", "0"."""
    found: Sequence[tuple[str, str]] = _DURATION.findall(text)
    if text.strip() in ("", "0"):
        return 0.0
    if not found or "".join(number + unit for number, unit in found) != text.strip():
        raise MonitorError(f"{name}: {text!r} is no duration such as 5m or 1h30m")
    return sum(float(number) * _UNITS_S[unit] for number, unit in found)

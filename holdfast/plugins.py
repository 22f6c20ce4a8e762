"""Plugins by entry point: found by name, made from the keys of a settings table."""

import inspect
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUPS = ("collectors", "detectors", "exporters", "backends", "diagnosers", "checks", "notices")


class ConfigError(ValueError):
    """The operator's mistake: what is wrong, where, and what would be right."""


@cache
def installed(group: str) -> Mapping[str, EntryPoint]:
    """The plugins of one group, by name, in order of their names."""
    found = {point.name: point for point in entry_points(group=f"holdfast.{group}")}
    return {name: found[name] for name in sorted(found)}


def load(group: str, name: str) -> Any:
    """Import what a plugin's entry point names.

    raises ConfigError: there is no such plugin, or it needs an extra that is not installed
    """
    points = installed(group)
    if name not in points:
        raise ConfigError(f"no plugin of {group} called {name!r}; installed: {', '.join(points) or 'none'}")
    try:
        return points[name].load()
    except ModuleNotFoundError as error:
        raise ConfigError(f"{group}.{name} needs the module {error.name!r}, which is not installed") from error


def make(group: str, name: str, settings: Mapping[str, Any]) -> Any:
    """Make a plugin from its settings, whose keys are its constructor's arguments.

    raises ConfigError: an unknown or a missing key, by name, or a value the plugin refuses
    """
    kind = load(group, name)
    known = inspect.signature(kind).parameters
    if unknown := sorted(set(settings) - set(known)):
        raise ConfigError(f"[{group}.{name}]: unknown key {unknown[0]!r}; it takes: {', '.join(known) or 'none'}")
    missing = [
        key for key, p in known.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD and key not in settings
    ]
    if missing:
        raise ConfigError(f"[{group}.{name}]: key {missing[0]!r} is missing")
    try:
        return kind(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"[{group}.{name}]: {error}") from error

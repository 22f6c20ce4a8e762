"""The node's log rules: data in, and the ones that fit a message out."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec
import re2

from holdfast.faults import Action, Fault, NodeAction, Severity


class RulesError(ValueError):
    """A rules file that is not one; the message names the file and the rule."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the file; the meaning of each key stands at its head."""

    id: str
    any: tuple[str, ...]
    match: str = ""
    device: str = ""
    not_: tuple[str, ...] = msgspec.field(default=(), name="not")
    role: Literal["finding", "frame", "follows", "clears"] = "finding"
    of: str = ""
    replaces: tuple[str, ...] = ()
    fault: Fault
    severity: Severity
    action: Action
    node_action: NodeAction


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: tuple[Rule, ...]


class Rules:
    """Rules with their expressions compiled; words: every literal to look for."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.words = tuple(dict.fromkeys(word for rule in rules for word in rule.any))
        self._by_word: dict[str, list[Rule]] = {}
        self._match = {rule.id: re2.compile(rule.match) for rule in rules if rule.match}
        self._device = {rule.id: re2.compile(rule.device) for rule in rules if rule.device}
        for rule in rules:
            for word in rule.any:
                self._by_word.setdefault(word, []).append(rule)

    @classmethod
    def read(cls, own: str = "") -> "Rules":
        """Read the rules that come with the package, the user's own file of the same form before them.

        raises RulesError: not TOML, an unknown key or word, an expression RE2 cannot run
        """
        shipped = (resources.files("detectors.npd") / "rules.toml").read_text(encoding="utf-8")
        texts = [("rules.toml", shipped)]
        try:
            if own:
                texts.insert(0, (own, Path(own).read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise RulesError(f"{own}: {error}") from error
        return cls(tuple(rule for name, text in texts for rule in _parsed(name, text)))

    def fitting(self, text: str, words: set[str]) -> list[tuple[Rule, str]]:
        """The rules that fit a message and the device each names ("" none); words: those found in its line."""
        rules = {rule.id: rule for word in words for rule in self._by_word.get(word, ())}
        return [(rule, device) for rule in rules.values() if (device := self._fits(rule, text)) is not None]

    def _fits(self, rule: Rule, text: str) -> str | None:
        if any(word in text for word in rule.not_):
            return None
        form = self._match.get(rule.id)
        found = form.search(text) if form is not None else None
        if form is not None and found is None:
            return None
        if found is not None and "device" in found.groupdict():
            return str(found.group("device") or "")
        about = self._device[rule.id].search(text) if rule.id in self._device else None
        return str(about.group("device") or "") if about is not None else ""


def _parsed(name: str, text: str) -> tuple[Rule, ...]:
    try:
        rules = msgspec.convert(tomllib.loads(text), _File).rule
        for rule in rules:
            if not rule.id or not rule.any or not all(rule.any):
                raise RulesError(f"{name}: rule {rule.id!r}: needs an id and words in `any`")
            for form in (rule.match, rule.device):
                re2.compile(form)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, re2.error) as error:
        raise RulesError(f"{name}: {error}") from error
    return rules

"""The node's log rules: data in, and the ones that fit a message out."""

import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec
import re2

from detectors.npd.expressions import ExpressionError, compiled
from detectors.npd.literals import required
from detectors.npd.prefilter import ENDS
from holdfast.faults import Action, Fault, NodeAction, Severity


class RulesError(ValueError):
    """A rules file that is not one; the message names the file and the rule."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the file; the meaning of each key stands at its head."""

    id: str
    any: tuple[str, ...] = ()
    match: str = ""
    device: str = ""
    not_: tuple[str, ...] = msgspec.field(default=(), name="not")
    role: Literal["finding", "frame", "follows", "clears", "last"] = "finding"
    of: str = ""
    replaces: tuple[str, ...] = ()
    sticky: bool = False
    warnings: int = 0
    fault: Fault
    severity: Severity
    action: Action
    node_action: NodeAction

    @property
    def check(self) -> str:
        """What its findings are called."""
        return f"npd.{self.id}"

    @property
    def words(self) -> tuple[str, ...]:
        """Texts one of which a line has to hold, those of `match` where none are named; empty: any line may fit."""
        return self.any or tuple(sorted(required(self.match) or ()))


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: tuple[Rule, ...]


# Set keeps no more than so large a program's states in memory; a larger one is run by search.
_LARGEST_SET = 2_000


class Form:
    """An expression of RE2 that is asked for very often. named: its groups, with their numbers."""

    def __init__(self, expression: str) -> None:
        self._whole = compiled(expression)
        self.named = tuple(self._whole.groupindex.items())
        self._set = None
        if self._whole.programsize <= _LARGEST_SET:
            self._set = re2.Set.SearchSet()
            self._set.Add(expression)
            self._set.Compile()

    def fits(self, data: bytes) -> bool:
        """Whether it is found in a text."""
        return bool(self._set.Match(data)) if self._set is not None else self._whole.search(data) is not None

    def read(self, data: bytes) -> dict[str, str] | None:
        """What its groups name in a text, None where it is not found."""
        found = self._whole.search(data)
        if found is None:
            return None
        return {name: value.decode("utf-8", "replace") for name, number in self.named if (value := found.group(number))}


class Rules:
    """Rules with their expressions compiled, each known by its place."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self.checks = [rule.check for rule in rules]
        self.words = tuple(rule.words for rule in rules)
        self._any = [tuple(word.encode() for word in rule.any) for rule in rules]
        self._not = [tuple(word.encode() for word in rule.not_) for rule in rules]
        # a line that only says more of another finding means nothing without it
        self.beside = {
            number: tuple(f"npd.{of}" for of in rule.of.split())
            for number, rule in enumerate(rules)
            if rule.role in ("frame", "last") or (rule.role == "follows" and rule.severity is Severity.INFO)
        }
        self._match = [Form(rule.match) if rule.match else None for rule in rules]
        self._device = [Form(rule.device) if rule.device else None for rule in rules]
        # whose findings are of the node, whatever the message names
        self.of_node = [
            rule.role == "finding" and not rule.device and "(?P<device>" not in rule.match for rule in rules
        ]
        # what is looked for at the beginning of a message stands elsewhere in its line, behind the stamp
        anywhere = [rule.match.removeprefix("^") for rule in rules]
        self._in_line = [Form(form) if form and not ENDS.search(form) else None for form in anywhere]

    @classmethod
    def read(cls, own: str = "") -> "Rules":
        """Read the rules that come with the package, the user's own file of the same form before them.

        raises RulesError: not TOML, an unknown key or word, an expression RE2 cannot run
        """
        if not own:
            return _of_package()
        try:
            texts = [(own, Path(own).read_text(encoding="utf-8")), *_shipped()]
        except (OSError, UnicodeDecodeError) as error:
            raise RulesError(f"{own}: {error}") from error
        return cls.of(texts)

    @classmethod
    def of(cls, texts: Iterable[tuple[str, str]]) -> "Rules":
        """The rules of some files, (name, text) each; the first of an id counts."""
        known: dict[str, Rule] = {}
        for name, text in texts:
            for rule in _parsed(name, text):
                known.setdefault(rule.id, rule)
        return cls(tuple(known.values()))

    def may_fit(self, number: int, line: bytes) -> bool:
        """Whether a whole line, its stamp included, can hold a message that the rule fits; cheaper than to take it apart."""
        form = self._in_line[number]
        # a byte that is no text fits nothing here, and as the sign it is read as it fits a dot
        return form is None or not line.isascii() or form.fits(line)

    def fitting(self, data: bytes, numbers: Sequence[int]) -> list[tuple[Rule, dict[str, str]]]:
        """Those of some rules that fit a message, and what each names in it: its device, its process."""
        found = []
        for number in numbers if len(numbers) == 1 else sorted(numbers):
            named = self._fits(number, data)
            if named is not None:
                found.append((self.rules[number], named))
        return found

    def fits(self, number: int, data: bytes) -> bool:
        """Whether a rule fits a message, whatever it names in it."""
        words, form = self._any[number], self._match[number]
        if (words and not _holds(data, words)) or _holds(data, self._not[number]):
            return False
        return form is None or form.fits(data)

    def without_words(self) -> tuple[Rule, ...]:
        """Rules that have to be tried on every line, because no text is in all that they match."""
        return tuple(rule for rule, words in zip(self.rules, self.words, strict=True) if not words)

    def _fits(self, number: int, data: bytes) -> dict[str, str] | None:
        words, form, about = self._any[number], self._match[number], self._device[number]
        if (words and not _holds(data, words)) or _holds(data, self._not[number]):
            return None
        named: dict[str, str] | None = {}
        if form is not None:
            named = form.read(data) if form.named else {} if form.fits(data) else None
        if named is not None and about is not None and "device" not in named:
            named |= about.read(data) or {}
        return named


def _holds(data: bytes, words: tuple[bytes, ...]) -> bool:
    for word in words:  # noqa: SIM110 - a third of the time of `any` over a generator, at every hit
        if word in data:
            return True
    return False


# The files that come with the package, each about one layer of the node.
SHIPPED = ("kernel.toml", "hardware.toml", "storage.toml", "network.toml", "services.toml")


def _shipped() -> list[tuple[str, str]]:
    folder = resources.files("detectors.npd")
    return [(name, (folder / name).read_text(encoding="utf-8")) for name in SHIPPED]


@cache
def _of_package() -> Rules:
    return Rules.of(_shipped())


def _parsed(name: str, text: str) -> tuple[Rule, ...]:
    try:
        rules = msgspec.convert(tomllib.loads(text), _File).rule
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise RulesError(f"{name}: {error}") from error
    for rule in rules:
        if not rule.id or not (rule.any or rule.match) or not all(rule.any):
            raise RulesError(f"{name}: rule {rule.id!r}: needs an id, and words in `any` or an expression in `match`")
        for form in (rule.match, rule.device):
            try:
                compiled(form)
            except ExpressionError as error:
                raise RulesError(f"{name}: rule {rule.id!r}: {error}") from error
    return rules

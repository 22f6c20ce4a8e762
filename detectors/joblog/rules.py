"""The rules of job logs: data in, and the one that fits a line out."""

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec
import re2

from detectors.has import xid
from holdfast.faults import Action, Fault, Severity, Symptom

Role = Literal["root", "victim", "cascade", "teardown", "noise"]
Domain = Literal["hardware", "network", "storage", "software", "user", "scheduler", "unknown"]

# Deeper first within a role; between roles the more telling first, so that a line which fits several is the strongest of them.
_RANK: dict[str, int] = {"root": 4, "victim": 3, "cascade": 2, "teardown": 1, "noise": 5}


class RulesError(ValueError):
    """A rules file that is not one; the message names the file and the rule."""


class Meaning(msgspec.Struct, frozen=True, kw_only=True):
    """What a line or an exception says. weak: a root only where nothing else is; ambiguous: a machine or the software."""

    id: str = ""
    role: Role
    domain: Domain
    fault: Fault
    action: Action
    depth: int
    blame: Literal["", "node", "rank", "peer", "memory"] = ""
    cause: str = ""
    symptom: Symptom = Symptom.CRASH
    weak: bool = False
    ambiguous: bool = False


class _Rule(Meaning, frozen=True, kw_only=True, forbid_unknown_fields=True):
    any: tuple[str, ...]
    match: str = ""
    not_: tuple[str, ...] = msgspec.field(default=(), name="not")


class _Exception(Meaning, frozen=True, kw_only=True, forbid_unknown_fields=True):
    names: tuple[str, ...]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: tuple[_Rule, ...] = ()
    exception: tuple[_Exception, ...] = ()


# A Python error that no rule knows is the code's that raised it.
OWN_ERROR = Meaning(id="python.error", role="root", domain="user", fault=Fault.USER_CODE, action=Action.STOP, depth=47)


class Rules:
    """All rules, the user's own first."""

    def __init__(self, shipped: tuple[_File, ...], own: tuple[_File, ...] = ()) -> None:
        files = (*shipped, *own)
        rows = [rule for file in files for rule in file.rule]
        self.words = tuple(dict.fromkeys(word for rule in rows for word in rule.any))
        number = {word: n for n, word in enumerate(self.words)}
        self._by_word: dict[int, list[_Rule]] = {}
        self._own = {rule.id for file in own for rule in file.rule}
        self._match = {rule.id: re2.compile(rule.match) for rule in rows if rule.match}
        for rule in rows:
            for word in rule.any:
                self._by_word.setdefault(number[word], []).append(rule)
        self._exceptions = {name: row for file in files for row in file.exception for name in row.names}

    @classmethod
    def read(cls, own: str = "") -> "Rules":
        """Read the rules that come with the package, and the user's own file of the same form.

        raises RulesError: not TOML, an unknown key or word, an expression RE2 cannot run
        """
        if not own:
            return _rules()
        try:
            text = Path(own).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RulesError(f"{own}: {error}") from error
        return cls(_shipped(), (_parsed(own, text),))

    def of_words(self, text: str, words: set[int]) -> Meaning | None:
        """The strongest rule that fits a line; words: numbers of those found in it."""
        fitting = {rule.id: rule for word in words for rule in self._by_word.get(word, ()) if self._fits(rule, text)}
        if not fitting:
            return None
        best = max(fitting.values(), key=lambda rule: (rule.id in self._own, _RANK[rule.role], rule.depth, rule.id))
        return of_device(text, best) if best.id == "kernel.xid" else best

    def of_text(self, text: str) -> Meaning | None:
        """The same for a line that was not scanned."""
        return self.of_words(text, {n for n, word in enumerate(self.words) if word in text})

    def of_exception(self, kind: str, text: str) -> Meaning:
        """What an exception says: by its text where a rule knows it, else by its class, else the code's own error."""
        said = self.of_text(text)
        if said is not None and said.role != "noise":
            return said
        name = kind.rsplit(".", 1)[-1]
        row = self._exceptions.get(name, OWN_ERROR)
        if (
            name in ("OSError", "IOError", "TimeoutError", "BlockingIOError")
            and "[Errno" not in text
            and "/" not in text
        ):
            row = OWN_ERROR
        return msgspec.structs.replace(row, id=row.id or f"python.{name}")

    def _fits(self, rule: _Rule, text: str) -> bool:
        if any(word in text for word in rule.not_):
            return False
        form = self._match.get(rule.id)
        return form is None or form.search(text) is not None


@cache
def _rules() -> Rules:
    """The one object of the shipped rules, which nobody changes: its expressions take long to compile."""
    return Rules(_shipped())


@cache
def _shipped() -> tuple[_File, ...]:
    folder = resources.files("detectors.joblog") / "rulebook"
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".toml"))
    return tuple(_parsed(name, (folder / name).read_text(encoding="utf-8")) for name in names)


def of_device(text: str, otherwise: Meaning) -> Meaning:
    """What a device's own error says, by the catalogue; `otherwise` where the line is of another form.

    An application's fault, and a channel that ended with it, are noise: the application tells them better.
    """
    said = xid.read(text)
    if said is None:
        return otherwise
    id, own = f"kernel.{said.check}", said.fault in (Fault.USER_CODE, Fault.SOFTWARE, Fault.NONE)
    if own and said.severity is not Severity.FATAL:
        return msgspec.structs.replace(otherwise, id=id, role="noise", domain="software", fault=said.fault, depth=20)
    depth = {Severity.FATAL: 96, Severity.ERROR: 95}.get(said.severity, 82)
    action = said.action if said.action in (Action.REPLACE, Action.RESTART) else Action.REPLACE
    return msgspec.structs.replace(otherwise, id=id, fault=said.fault, action=action, depth=depth, weak=depth < 95)


def _parsed(name: str, text: str) -> _File:
    try:
        file = msgspec.convert(tomllib.loads(text), _File)
        for rule in file.rule:
            if not rule.id or not rule.any or not all(rule.any):
                raise RulesError(f"{name}: rule {rule.id!r}: needs an id and words in `any`")
            if rule.match:
                re2.compile(rule.match)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, re2.error) as error:
        raise RulesError(f"{name}: {error}") from error
    return file

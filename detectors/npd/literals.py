"""Texts that any match of an expression must hold, so that one pass over a block finds the lines worth a look.

The way of Google's `FilteredRE2` and of Cox, "Regular Expression Matching with a Trigram Index" (2012): every part of an
expression either matches one of a few exact strings, or needs one of a few strings somewhere in what it matches.
"""

import re
from typing import NamedTuple

# Shorter than this a text is in every second line.
LEAST = 3
_MOST_CHOICES = 24
_DEEPEST = 40
_ZERO_WIDTH = frozenset("bBAzZG")
_CLASSES = frozenset("dDsSwWpPCX")
_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_FLAGS = re.compile(r"\?([imsUu]*)(?:-[imsUu]+)?([:)])")
_NAME = re.compile(r"\?P?<\w+>")

Choice = frozenset[str]


class Part(NamedTuple):
    """exact: all it can match, None if that is much; needs: one of these is in each match, None if nobody knows."""

    exact: Choice | None
    needs: Choice | None


_NOTHING = Part(frozenset([""]), None)
_ANYTHING = Part(None, None)


def required(expression: str) -> Choice | None:
    """Texts one of which every match of an RE2 expression holds; None where there are none of use."""
    try:
        part = _Reader(expression).whole()
    except (IndexError, ValueError):
        return None  # what is not understood is looked for in every line
    found = _best(part)
    return found if found and min(map(len, found)) >= LEAST else None


def _best(part: Part) -> Choice | None:
    known = [choice for choice in (part.exact, part.needs) if choice and all(choice)]
    return max(known, key=lambda choice: (min(map(len, choice)), -len(choice))) if known else None


class _Reader:
    """Reads an expression once, from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.folds, self.depth = text, 0, False, 0

    def whole(self) -> Part:
        part = self.choices()
        if self.at < len(self.text):
            raise ValueError("a parenthesis too many")
        return part

    def choices(self) -> Part:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError("too deep")
        folds, parts = self.folds, [self.row()]
        while self.at < len(self.text) and self.text[self.at] == "|":
            self.at += 1
            parts.append(self.row())
        self.folds = folds  # flags end with their group
        self.depth -= 1
        return parts[0] if len(parts) == 1 else _either(parts)

    def row(self) -> Part:
        parts = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            parts.append(self.repeated(self.one()))
        return _joined(parts)

    def repeated(self, part: Part) -> Part:
        while self.at < len(self.text) and self.text[self.at] in "*+?{":
            sign = self.text[self.at]
            if sign == "{":
                found = _REPEAT.match(self.text, self.at)
                if found is None:
                    return part
                self.at = found.end()
                least = int(found.group(1))
                if found.group(0) == "{1}":
                    continue
            else:
                self.at += 1
                least = 1 if sign == "+" else 0
            if sign == "?" and part.exact is not None and len(part.exact) < _MOST_CHOICES:
                part = Part(part.exact | {""}, None)
            else:
                part = Part(None, _best(part)) if least else _ANYTHING
            if self.at < len(self.text) and self.text[self.at] == "?":
                self.at += 1  # as few as can be: the same texts
        return part

    def one(self) -> Part:
        sign = self.text[self.at]
        self.at += 1
        if sign == "(":
            return self.group()
        if sign == "[":
            return self.set()
        if sign == "\\":
            return self.escape()
        if sign in "^$":
            return _NOTHING
        return _ANYTHING if sign == "." else self.letter(sign)

    def letter(self, sign: str) -> Part:
        if self.folds and sign.lower() != sign.upper():
            return _ANYTHING
        return Part(frozenset([sign]), None)

    def group(self) -> Part:
        outer = self.folds
        if (name := _NAME.match(self.text, self.at)) is not None:
            self.at = name.end()
        elif (flags := _FLAGS.match(self.text, self.at)) is not None:
            self.at = flags.end()
            self.folds = self.folds or "i" in flags.group(1)
            if flags.group(2) == ")":
                return _NOTHING  # for the rest of the group around it
        elif self.text.startswith("?", self.at):
            raise ValueError("a group of an unknown kind")
        part = self.choices()
        if self.text[self.at] != ")":
            raise ValueError("a parenthesis too few")
        self.at += 1
        self.folds = outer
        return part

    def set(self) -> Part:
        start = self.at
        self.at += self.text.startswith("^", self.at)
        self.at += 1  # a bracket that comes first is a letter
        while self.text[self.at] != "]":
            if self.text.startswith("[:", self.at):
                self.at = self.text.index(":]", self.at) + 1
            self.at += 2 if self.text[self.at] == "\\" else 1
        inner = self.text[start : self.at]
        self.at += 1
        plain = len(inner) <= 4 and not set(inner) & set("\\^-[") and not self.folds
        return Part(frozenset(inner), None) if plain else _ANYTHING

    def escape(self) -> Part:
        sign = self.text[self.at]
        self.at += 1
        if sign in _ZERO_WIDTH:
            return _NOTHING
        if sign == "Q":
            end = self.text.find("\\E", self.at)
            quoted = self.text[self.at : end if end >= 0 else len(self.text)]
            self.at = end + 2 if end >= 0 else len(self.text)
            return Part(
                None, _best(_joined([self.letter(letter) for letter in quoted]))
            )  # a sign of repetition is its last letter's
        if sign in _CLASSES or sign.isdigit() or sign == "x":
            self.skip_code(sign)
            return _ANYTHING
        return self.letter(_CONTROL.get(sign, sign))

    def skip_code(self, sign: str) -> None:
        """Past what follows a class of characters or a code: `\\p{Greek}`, `\\x{10FFFF}`, `\\x7F`, `\\pN`, `\\123`."""
        if sign in "pPx" and self.text.startswith("{", self.at):
            self.at = self.text.index("}", self.at) + 1
        elif sign == "x":
            self.at += 2
        elif sign in "pP":
            self.at += 1
        elif sign.isdigit():
            while self.at < len(self.text) and self.text[self.at].isdigit():
                self.at += 1


def _either(parts: list[Part]) -> Part:
    exact = [part.exact for part in parts]
    if None not in exact:
        together = frozenset().union(*(choice for choice in exact if choice is not None))
        if len(together) <= _MOST_CHOICES:
            return Part(together, None)
    needs = [_best(part) for part in parts]
    if None in needs:
        return _ANYTHING
    both = frozenset().union(*(choice for choice in needs if choice is not None))
    return Part(None, both) if len(both) <= _MOST_CHOICES * 4 else _ANYTHING


def _joined(parts: list[Part]) -> Part:
    """What stands one after the other: exact texts grow together until something inexact cuts them."""
    whole, run, best = True, frozenset([""]), Part(None, None)
    for part in parts:
        if part.exact is not None and len(run) * len(part.exact) <= _MOST_CHOICES:
            run = frozenset(left + right for left in run for right in part.exact)
            continue
        whole = False
        best = Part(None, _better(best.needs, run, _best(part)))
        run = part.exact if part.exact is not None and len(part.exact) <= _MOST_CHOICES else frozenset([""])
    return Part(run, None) if whole else Part(None, _better(best.needs, run))


def _better(*choices: Choice | None) -> Choice | None:
    known = [choice for choice in choices if choice and all(choice)]
    return max(known, key=lambda choice: (min(map(len, choice)), -len(choice))) if known else None

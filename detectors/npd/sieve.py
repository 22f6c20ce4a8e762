"""Finds the few lines of a block that a rule may fit: by literal texts in one pass, or by whole expressions with `[fast]`."""

import json
from collections.abc import Mapping, Sequence, Set
from functools import cache
from typing import Protocol

import numpy as np

from detectors.npd.prefilter import Machine, hyperscan_of
from detectors.scan import scan_of, starts_of

Candidates = Mapping[int, Set[int]]

# A journal's record whose message is an array of bytes holds no word as it is written.
_BYTES = ('"MESSAGE":[', '"MESSAGE" : [', '"MESSAGE": [')


class Sieve(Protocol):
    """What finds candidates.

    everywhere: numbers that are candidates in every line, not told one by one
    whole: whether a candidate is told by its whole expression, so that a look at the line before it is taken apart is vain
    """

    everywhere: frozenset[int]
    whole: bool

    def lines(self, block: bytes) -> tuple[np.ndarray, Candidates]:
        """Line starts of a block (int64, one more than there are lines), and line -> numbers that may fit it."""
        ...

    def within(self, text: str) -> Set[int]:
        """Numbers that may fit a text that was taken out of its line."""
        ...


class Literals:
    """By words: `words[n]` are those one of which a line for number n holds, none: every line."""

    whole = False

    def __init__(self, words: Sequence[Sequence[str]]) -> None:
        self.everywhere = frozenset(number for number, own in enumerate(words) if not own)
        owners: dict[str, set[int]] = {}
        for number, own in enumerate(words):
            for word in own:
                for form in {word, json.dumps(word)[1:-1]}:  # as a journal's record writes it
                    owners.setdefault(form, set()).add(number)
        for word in _BYTES:
            owners[word] = set(range(len(words)))
        self._scan = scan_of(tuple(owners))
        self._owners = tuple(frozenset(owners[word]) for word in self._scan.words)

    def lines(self, block: bytes) -> tuple[np.ndarray, Candidates]:
        starts, hits = self._scan.lines(block)
        return starts, {row: self._of(words) for row, words in hits.items()}

    def within(self, text: str) -> Set[int]:
        _, hits = self._scan.lines(text.encode("utf-8", "replace"))
        return set().union(*(self._of(words) for words in hits.values()))

    def _of(self, words: Set[int]) -> Set[int]:
        if len(words) == 1:
            (word,) = words
            return self._owners[word]
        return set().union(*(self._owners[word] for word in words))


class Expressions:
    """By Hyperscan, in two passes: the lines that hold a word, then those of them that a whole expression may fit.

    Blocks that hold records of a journal go the way of words, since a record writes a message in its own way.
    """

    whole = True

    def __init__(self, words: Sequence[Sequence[str]], expressions: Sequence[str]) -> None:
        self._words = Literals(words)
        self.everywhere = self._words.everywhere
        self._first = hyperscan_of(words, [""] * len(words))
        self._second = hyperscan_of(words, expressions)
        self._most = len(words)

    def lines(self, block: bytes) -> tuple[np.ndarray, Candidates]:
        starts = starts_of(block)
        if block and (np.frombuffer(block, dtype=np.uint8)[starts[:-1]] == ord("{")).any():
            return self._words.lines(block)
        rows, numbers = _matches(self._first, block, starts)
        held = np.unique(rows * self._most + numbers)  # line and number of a word in one figure, each once
        rows = np.unique(rows)
        some = b"".join([block[a:b] for a, b in zip(starts[rows].tolist(), starts[rows + 1].tolist(), strict=True)])
        at, numbers = _matches(self._second, some, starts_of(some))
        fits = np.intersect1d(held, rows[at] * self._most + numbers)
        hits: dict[int, set[int]] = {}
        for row, number in zip((fits // self._most).tolist(), (fits % self._most).tolist(), strict=True):
            hits.setdefault(row, set()).add(number)
        return starts, hits

    def within(self, text: str) -> Set[int]:
        return self._words.within(text)


def _matches(machine: Machine, block: bytes, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Line and number of each match in a block, int64 both."""
    numbers: list[int] = []
    ends: list[int] = []

    def on_match(number: int, first: int, end: int, flags: int, context: object) -> None:
        numbers.append(number)
        ends.append(end)

    if block:
        machine.scan(block, match_event_handler=on_match)
    rows = np.searchsorted(starts, np.array(ends, dtype=np.int64) - 1, side="right") - 1
    return rows, np.array(numbers, dtype=np.int64)


def sieve_of(words: Sequence[Sequence[str]], expressions: Sequence[str], *, fast: bool) -> Sieve:
    """The sieve of these words and expressions; it is only read, so all that ask for the same share one."""
    frozen = tuple(tuple(own) for own in words)
    return _fast(frozen, tuple(expressions)) if fast else _plain(frozen)


@cache
def _plain(words: tuple[tuple[str, ...], ...]) -> Literals:
    return Literals(words)


@cache
def _fast(words: tuple[tuple[str, ...], ...], expressions: tuple[str, ...]) -> Expressions:
    return Expressions(words, expressions)

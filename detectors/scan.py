"""Finds the few lines of a block that hold one of many words, in one pass over the joined bytes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import BinaryIO

import numpy as np
from ahocorasick_rs import BytesAhoCorasick, Implementation


def starts_of(block: bytes) -> np.ndarray:
    """Where each line of the block starts, and its end: int64, one more than there are lines."""
    ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == 10) + 1
    return np.concatenate([[0], ends, [len(block)]] if not ends.size or ends[-1] != len(block) else [[0], ends])


class Scan:
    """A block scanner. words: literal texts, case and all."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(dict.fromkeys(words))
        self._machine = BytesAhoCorasick([word.encode() for word in self.words], implementation=Implementation.DFA)

    def rows_of(self, block: bytes) -> tuple[np.ndarray, list[int]]:
        """Line starts of the block, and the lines that hold any of the words, in order."""
        starts, hits = starts_of(block), self._machine.find_matches_as_indexes(block)
        at = np.fromiter((hit[1] for hit in hits), dtype=np.int64, count=len(hits))
        return starts, np.unique(np.searchsorted(starts, at, side="right") - 1).tolist()

    def lines(self, block: bytes) -> tuple[np.ndarray, dict[int, set[int]]]:
        """Line starts of the block (int64, one more than there are lines), and line -> numbers of its words."""
        starts = starts_of(block)
        hits = self._machine.find_matches_as_indexes(block, overlapping=True)
        found: dict[int, set[int]] = {}
        if hits:
            at = np.fromiter((hit[1] for hit in hits), dtype=np.int64, count=len(hits))
            rows = np.searchsorted(starts, at, side="right") - 1
            for row, hit in zip(rows.tolist(), hits, strict=True):
                found.setdefault(row, set()).add(hit[0])
        return starts, found


@cache
def scan_of(words: tuple[str, ...]) -> Scan:
    """The one scanner of these words: its automaton takes long to build and is only read, so all readings share it."""
    return Scan(words)


def rows(found: Iterable[int], total: int, goes_on: Callable[[], bool]) -> Iterator[int]:
    """The rows to look at, in order: those found, and whatever follows one for as long as `goes_on` says so.

    found: rows that hold a word; total: rows of the block
    """
    due = iter(sorted(found))
    following, row = next(due, total), -1
    while True:
        row = row + 1 if goes_on() else max(row + 1, following)
        if row >= total:
            return
        while following <= row:
            following = next(due, total)
        yield row


def text_of(block: bytes, starts: np.ndarray, row: int, most: int = 1 << 20) -> str:
    """One line as text, without its end; at most so many bytes of it."""
    return block[starts[row] : min(starts[row + 1], starts[row] + most)].decode("utf-8", "replace").rstrip("\r\n")


def blocks(file: BinaryIO, size: int = 1 << 22) -> Iterator[tuple[int, bytes]]:
    """Whole lines of an open binary file: (number of the first, block). A line longer than a block is cut."""
    rest, number = b"", 1
    while data := file.read(size):
        data = rest + data
        cut = data.rfind(b"\n") + 1 or (len(data) if len(data) > size else 0)
        rest = data[cut:]
        if cut:
            yield number, data[:cut]
            number += data.count(b"\n", 0, cut)
    if rest:
        yield number, rest

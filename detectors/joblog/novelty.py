"""Line templates, to show what a job never said while it was healthy, and what only one of its nodes says.

The tree is Drain's (He et al., ICWS 2017): lines of as many words, with the same first and last, are one template where
enough words are the same. Most lines differ from one before in digits alone and never get so far.
"""

import re
from collections.abc import Iterable, Sequence, Set

import msgspec

from detectors.scan import scan_of
from holdfast.verdict import Json

WILD = "<*>"
MOST_CHARACTERS = 2000
_DIGIT = re.compile(r"\d")
_SPLIT = re.compile(r"[\s=,;|]+")
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_TROUBLE = (
    "error", "err=", "warn", "fail", "fatal", "abort", "exception", "crash", "panic", "timeout", "timed out", "time out", "refus", "reset",
    "lost", "corrupt", "invalid", "denied", "retry", "retries", "unable", "cannot", "could not", "missing", "unexpected", "stall", "stuck",
    "hang", "hung", "slow", "degrad", "drop", "throttl", "down", "kill", "bad ",
)  # fmt: skip
_WORDS = tuple(form for word in _TROUBLE for form in (word, word.capitalize(), word.upper()))


class Templates:
    """Learns templates of lines; bounded.

    similar: share of equal words that makes two lines of equal length the same template
    most: templates kept; lines that would make more count as known
    """

    def __init__(self, *, similar: float = 0.5, most: int = 20_000, words: int = 40) -> None:
        self.similar, self.most, self.words = similar, most, words
        self._leaves: dict[tuple[int, str, str], list[int]] = {}
        self._templates: list[list[str]] = []
        self._exact: dict[bytes, int] = {}

    def memory(self) -> tuple[list[list[str]], dict[bytes, int]]:
        return self._templates, self._exact

    def recall(self, templates: list[list[str]], exact: dict[bytes, int]) -> None:
        self._templates, self._exact, self._leaves = templates, exact, {}
        for number, words in enumerate(templates):
            self._leaves.setdefault(_place(words), []).append(number)

    def __len__(self) -> int:
        return len(self._templates)

    def text(self, number: int) -> str:
        """A template as one line."""
        return " ".join(self._templates[number])

    def find(self, line: bytes, *, learn: bool = True) -> tuple[int, bool]:
        """The number of a line's template, -1 if there is none, and whether it is new."""
        exact = line.translate(_ZEROS)
        known = self._exact.get(exact)
        return (known, False) if known is not None else self._of_words(line, exact, learn)

    def learn(self, lines: Iterable[bytes]) -> None:
        """Take lines in."""
        exact = self._exact
        for line in lines:
            same = line.translate(_ZEROS)
            if same not in exact:
                self._of_words(line, same, True)

    def _of_words(self, line: bytes, exact: bytes, learn: bool) -> tuple[int, bool]:
        text = line[:MOST_CHARACTERS].decode("utf-8", "replace").strip()
        words = [WILD if _DIGIT.search(word) else word for word in _SPLIT.split(text, maxsplit=self.words)]
        place = _place(words)
        best, share = self._nearest(self._leaves.get(place, []), words)
        if best >= 0 and share >= self.similar:
            if learn:
                self._templates[best] = [a if a == b else WILD for a, b in zip(self._templates[best], words, strict=True)]
                self._note(exact, best)
            return best, False
        if not learn or len(self._templates) >= self.most:
            return -1, len(self._templates) < self.most
        self._templates.append(words)
        number = len(self._templates) - 1
        self._leaves.setdefault(place, []).append(number)
        self._note(exact, number)
        return number, True

    def _nearest(self, leaf: list[int], words: list[str]) -> tuple[int, float]:
        best, most = -1, -1.0
        for number in leaf[-64:]:
            same = sum(a in (b, WILD) for a, b in zip(self._templates[number], words, strict=True)) / len(words)
            if same > most:
                best, most = number, same
        return best, most

    def _note(self, exact: bytes, number: int) -> None:
        if len(self._exact) < 4 * self.most and len(exact) <= MOST_CHARACTERS:
            self._exact[exact] = number


def _place(words: list[str]) -> tuple[int, str, str]:
    return len(words), words[0], words[-1] if len(words) > 1 else ""


class Said(msgspec.Struct, frozen=True):
    """A line that stands out. writer: node, else file; telling: it has a word of trouble; count: lines like it."""

    file: str
    line: int
    text: str
    writer: str = ""
    telling: bool = False
    count: int = 1


class NoveltyMemory(msgspec.Struct):
    """A `Novelty` as it is kept."""

    templates: list[list[str]]
    exact: dict[bytes, int]
    left: int
    alone: dict[int, Said | None]
    writers: list[str]


class Novelty:
    """What is new in the last lines of a job, and what one writer says alone.

    most_lines: that are learned; what comes after is looked at only where it is late; templates: of lines, at most
    """

    def __init__(self, *, most_lines: int = 400_000, templates: int = 20_000) -> None:
        self.known = Templates(most=templates)
        self.left = most_lines
        self._scan = scan_of(_WORDS)
        self._alone: dict[int, Said | None] = {}  # template -> who said it, None: several
        self._writers: set[str] = set()

    @classmethod
    def recalled(cls, kept: NoveltyMemory, *, templates: int) -> "Novelty":
        """As it was when `memory` was asked; what is learned from now on is its own."""
        told = cls(most_lines=kept.left, templates=templates)
        told.known.recall([list(words) for words in kept.templates], dict(kept.exact))
        told._alone, told._writers = dict(kept.alone), set(kept.writers)
        return told

    def memory(self) -> NoveltyMemory:
        templates, exact = self.known.memory()
        return NoveltyMemory(templates, exact, self.left, self._alone, sorted(self._writers))

    @property
    def templates(self) -> int:
        """How many have been learned."""
        return len(self.known)

    def healthy(self, file: str, first: int, block: bytes, writer: str) -> None:
        """Learn whole lines of the job's healthy life. first: number of the first, from 1; writer: "" unknown."""
        if self.left <= 0:
            return
        lines = block.split(b"\n")[: self.left]
        self.left -= len(lines)
        self.known.learn(lines)
        self._note(file, first, lines, self._scan.lines(block)[1], writer)

    def late(self, file: str, first: int, block: bytes, writer: str, *, known: Set[int] = frozenset(), most: int = 6) -> list[Said]:
        """The last lines that are like none before, each template once: the first of them, and those with a word of trouble.

        known: numbers of lines that are understood
        """
        lines, telling = block.split(b"\n"), self._scan.lines(block)[1]
        found = [
            Said(file, first + n, _shown(line), writer, n in telling)
            for n, line in enumerate(lines)
            if line.strip() and self.known.find(line)[1] and first + n not in known
        ]
        self._note(file, first, lines, telling, writer)
        kept = {said.line: said for said in [*found[:most], *[said for said in found if said.telling][:most]]}
        return [kept[number] for number in sorted(kept)]

    def alone(self, *, least_writers: int = 3, most: int = 10) -> list[Said]:
        """Lines with a word of trouble that only one of at least so many writers has, the most frequent first."""
        found = [said for said in self._alone.values() if said is not None] if len(self._writers) >= least_writers else []
        return sorted(found, key=lambda said: (-said.count, said.file, said.line))[:most]

    def _note(self, file: str, first: int, lines: list[bytes], telling: Iterable[int], writer: str) -> None:
        if not writer:
            return
        self._writers.add(writer)
        for n in telling:
            number = self.known.find(lines[n])[0] if n < len(lines) else -1
            if number < 0:
                continue
            known = self._alone.get(number)
            if number not in self._alone:
                self._alone[number] = Said(file, first + n, _shown(lines[n]), writer, telling=True)
            elif known is not None:
                own = known.writer == writer
                self._alone[number] = msgspec.structs.replace(known, count=known.count + 1) if own else None


def standing_out(novel: Sequence[Said], alone: Sequence[Said]) -> dict[str, Json]:
    """Lines that no rule knows, as a verdict tells them."""
    found: dict[str, Json] = {}
    if novel:
        found["novel"] = [f"{said.file}:{said.line}: {said.text}" for said in novel]
    if alone:
        found["alone"] = [
            {"node": said.writer, "file": said.file, "line": said.line, "text": said.text, "count": said.count} for said in alone
        ]
    return found


def _shown(line: bytes) -> str:
    return line[:MOST_CHARACTERS].decode("utf-8", "replace").strip()[:500]

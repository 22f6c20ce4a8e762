"""Line templates (Drain: He et al., ICWS 2017, fixed-depth tree), to show what a job never said while it was healthy."""

import re

_NUMBER = re.compile(r"\d")
_SPLIT = re.compile(r"[\s=,;|]+")
WILD = "<*>"


class Templates:
    """Learns templates of lines; bounded.

    similar: share of equal words that makes two lines of equal length the same template
    most: templates kept; lines that would make more count as known
    """

    def __init__(self, *, similar: float = 0.5, most: int = 20_000, words: int = 40) -> None:
        self.similar, self.most, self.words = similar, most, words
        self._leaves: dict[tuple[int, str, str], list[int]] = {}
        self._templates: list[list[str]] = []
        self._exact: dict[tuple[str, ...], int] = {}

    def __len__(self) -> int:
        return len(self._templates)

    def text(self, number: int) -> str:
        """A template as one line."""
        return " ".join(self._templates[number])

    def find(self, line: str, *, learn: bool = True) -> tuple[int, bool]:
        """The number of a line's template, -1 if there is none, and whether it is new."""
        words = [WILD if _NUMBER.search(word) else word for word in _SPLIT.split(line.strip(), maxsplit=self.words)]
        exact = tuple(words)
        known = self._exact.get(exact)
        if known is not None:
            return known, False
        leaf = self._leaves.get((len(words), words[0], words[-1] if len(words) > 1 else ""), [])
        best, share = self._nearest(leaf, words)
        if best >= 0 and share >= self.similar:
            if learn:
                self._merge(best, words, exact)
            return best, False
        if not learn or len(self._templates) >= self.most:
            return -1, len(self._templates) < self.most
        self._templates.append(words)
        self._leaves.setdefault((len(words), words[0], words[-1] if len(words) > 1 else ""), []).append(
            len(self._templates) - 1
        )
        self._exact[exact] = len(self._templates) - 1
        return len(self._templates) - 1, True

    def _nearest(self, leaf: list[int], words: list[str]) -> tuple[int, float]:
        best, most = -1, -1.0
        for number in leaf[:64]:
            same = sum(a in (b, WILD) for a, b in zip(self._templates[number], words, strict=True)) / len(words)
            if same > most:
                best, most = number, same
        return best, most

    def _merge(self, number: int, words: list[str], exact: tuple[str, ...]) -> None:
        template = self._templates[number]
        self._templates[number] = [a if a == b else WILD for a, b in zip(template, words, strict=True)]
        if len(self._exact) < 4 * self.most:
            self._exact[exact] = number


def novel(healthy: list[str], late: list[tuple[int, str]], *, most: int = 10) -> list[tuple[int, str]]:
    """The lines of `late` (number, text) whose template no line of `healthy` has, each template once."""
    known = Templates()
    for line in healthy:
        known.find(line)
    found = []
    for number, text in late:
        if text.strip() and known.find(text)[1]:
            found.append((number, text))
    return found[-most:]

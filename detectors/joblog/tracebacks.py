"""Reads Python tracebacks line by line, chained and nested ones too, and finds the exception that was first."""

import re

import msgspec

MOST_LINES = 600

HEADER = "Traceback (most recent call last)"
_FRAME = re.compile(r'\s*(?:[│|] ?)?File "([^"]{1,1024})", line (\d{1,9})(?:, in (\S{1,256}))?')
_RICH_FRAME = re.compile(r"[│|] (\S{1,1024}\.py):(\d{1,9}) in (\S{1,256})")
EXCEPTION = re.compile(
    r"([A-Za-z_][\w]{0,127}(?:\.[A-Za-z_][\w]{0,127}){0,12})(?:\([\w.]{1,128}\))?(?::(?:\s(.*))?)?$", re.DOTALL
)
_CAUSE = ("The above exception was the direct cause", "During handling of the above exception")
_LIBRARY = re.compile(r"site-packages/|dist-packages/|/lib/python3|^<frozen|^<__array_function|/torch/|_bootstrap")

# These say only that a wait ended: what is raised while they are handled is the news.
_NO_NEWS = frozenset({"queue.Empty", "_queue.Empty", "Empty", "StopIteration", "StopAsyncIteration"})
# A multi-line message that carries the traceback of another process.
_CARRIES = re.compile(r"Caught \w+ in |Process \d+ terminated with the following error|RayTaskError|RemoteTraceback")


class Raised(msgspec.Struct):
    """One exception of a traceback. line: where its text stands; frames: (file, line, function), the innermost last."""

    kind: str
    message: str
    line: int
    frames: list[tuple[str, int, str]] = []
    carried: bool = False

    @property
    def text(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind

    @property
    def place(self) -> str:
        """`file.py:88`, the innermost frame that is not a library's."""
        own = [frame for frame in self.frames if not _LIBRARY.search(frame[0])] or self.frames
        return f"{own[-1][0].rsplit('/', 1)[-1]}:{own[-1][1]}" if own else ""


class Reader(msgspec.Struct):
    """One traceback as it comes in. `take` says whether the line belonged to it; `root` is asked for at the end.

    first: number of its first line; frames, inside, blank: where the reading stands
    """

    first: int
    raised: list[Raised] = []
    lines: list[tuple[int, str]] = []
    frames: list[tuple[str, int, str]] = []
    inside: bool = True
    blank: int = 0
    indent: bool = False
    ignored: bool = False

    @classmethod
    def at(cls, number: int, text: str, *, ignored: bool = False) -> "Reader":
        """A reader of the traceback that begins in this line. One behind a label is indented as a whole.

        ignored: the interpreter said that it goes on all the same
        """
        front = text.find(HEADER)
        return cls(number, indent=front > 0 and text[:front].rstrip().endswith(":"), ignored=ignored)

    def take(self, number: int, text: str) -> bool:
        """Take the next line of this writer; False: the traceback is over, and the line is not part of it."""
        if len(self.lines) >= MOST_LINES:
            return False
        if self.indent and self.inside and text[:1] == " " and EXCEPTION.match(text.strip()) and ":" in text and self.frames:
            text = text.strip()
        belongs = self._body(text) if self.inside else self._between(text)
        if not belongs:
            exception = EXCEPTION.match(text) if self.inside else None
            if exception is None or (":" not in text and not _looks_raised(exception.group(1))):
                return self.inside and bool(self._note_oddity(number, text))
            self._add(number, exception)
        self.lines.append((number, text[:2000]))
        return True

    def _note_oddity(self, number: int, text: str) -> bool:
        # source lines of a wrapped terminal and the like: a few are forgiven
        self.blank += 1
        return self.blank < 4 and not text.startswith("[")

    def _body(self, text: str) -> bool:
        frame = _FRAME.match(text) or _RICH_FRAME.match(text)
        if frame:
            self.frames.append((frame.group(1), int(frame.group(2)), frame.group(3) or ""))
            del self.frames[:-64]
        return not text or text[0] in ' \t│╭╰|"' or HEADER in text or text.startswith(_CAUSE)

    def _between(self, text: str) -> bool:
        """After an exception's line: its further lines, or the next of the chain."""
        if HEADER in text or text.startswith(_CAUSE):
            if HEADER in text:
                self.inside, self.frames = True, []
            elif self.raised:
                self.raised[-1].carried = False
            return True
        if self.raised and self.raised[-1].carried and _FRAME.match(text):
            self.inside, self.frames = True, []
            return self._body(text)
        if not text.strip() or text.startswith(('"""', "^")):
            self.blank += 1
            return self.blank <= 3
        return bool(self.raised) and self.raised[-1].carried and self.blank <= 2

    def _add(self, number: int, exception: re.Match[str]) -> None:
        message = exception.group(2) or ""
        carried = bool(_CARRIES.search(f"{exception.group(0)[:400]}"))
        self.raised.append(Raised(exception.group(1), message[:2000], number, self.frames, carried))
        self.frames, self.inside, self.blank = [], False, 0

    def root(self) -> Raised | None:
        """The exception that was first: of a chain its start, of one carried from another process the original."""
        if self.ignored:
            return None
        told = [r for r in self.raised if r.kind not in _NO_NEWS] or self.raised
        own = [r for r in told if not r.carried and not _CARRIES.search(r.text[:400])]
        return own[0] if own else (told[0] if told else None)


def _looks_raised(name: str) -> bool:
    last = name.rsplit(".", 1)[-1]
    return (
        last.endswith(("Error", "Exception", "Interrupt", "Exit", "Empty", "Failure", "Timeout", "Iteration", "OOM"))
        or "." in name
    )


_VOLATILE = (
    (re.compile(r"0x[0-9a-fA-F]+"), "<x>"),
    (re.compile(r"'[^']{0,200}/[^']{0,200}'|(?:/[\w.+-]{1,128}){2,32}"), "<path>"),
    (re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"), "<n>"),
)


def normalised(text: str) -> str:
    """A message without what changes from time to time: numbers, addresses, paths."""
    for form, instead in _VOLATILE:
        text = form.sub(instead, text)
    return text[:300]


def signature(raised: Raised) -> str:
    """`ValueError: bad sample <n> @ train.py:88`."""
    text = normalised(raised.text)
    return f"{text} @ {raised.place}" if raised.place else text

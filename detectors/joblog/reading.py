"""Reads a job's output in blocks, any interleaving of writers, and keeps the lines that mean something."""

import re
from bisect import bisect_right
from collections import deque

import msgspec
import numpy as np

from detectors.joblog.prefix import Bare, bare, rank_in
from detectors.joblog.rules import Meaning, Rules
from detectors.joblog.tracebacks import EXCEPTION, HEADER, Reader, normalised, signature
from detectors.scan import scan_of

MOST_MARKS = 4096
MOST_OPEN = 4096
_LOOK_BACK = 40

_BARE_ERRORS = ("Error: ", "Exception: ", "Error\n")
_STEPS = (
    b" iteration ",
    b"train_loss:",
    b"global_step=",
    b"{'loss': ",
    b'"current_steps"',
    b"consumed samples:",
    b"'loss': '",
)
_ENDS = (
    "[after training is done]",
    "Training completed",
    "training completed",
    "train_runtime",
    "Training finished",
    "Training complete",
)
_INFO = re.compile(r"NCCL INFO|\[INFO\]|\[DEBUG\]|\bINFO[: |]| INFO - |\bDEBUG\b")
_WARNING = re.compile(
    r"\[WARNING\]|\bWARNING[: |]| WARN(?:ING)? - |UserWarning|FutureWarning|DeprecationWarning|RuntimeWarning"
)
_LATE = 80


class Mark(msgspec.Struct):
    """A line that means something. at: Unix seconds, 0.0 unknown; rank: -1 unknown; count: lines alike of this writer."""

    meaning: Meaning
    file: str
    line: int
    text: str
    rank: int = -1
    local: int = -1
    node: str = ""
    at: float = 0.0
    signature: str = ""
    place: str = ""
    count: int = 1
    last_line: int = 0
    trace: tuple[tuple[int, str], ...] = ()


class Whose(msgspec.Struct, frozen=True):
    """Whose output a file is, by its name: -1 and "" where the name does not say."""

    rank: int = -1
    local: int = -1
    node: str = ""


_RANK_NAME = re.compile(r"rank[_=.-]?(\d{1,6})", re.IGNORECASE)
_LOCAL_NAME = re.compile(r"(?:^|/)(\d{1,3})/(?:stdout|stderr)\.log$")
_NODE_NAME = re.compile(
    r"(?:^|[/_.-])((?:node|host|worker|master|vm|gpu|compute|pod|cn|n)[-_]?\d[\w-]{0,60}?)(?=[/.]|_rank|$)",
    re.IGNORECASE,
)


def whose(name: str) -> Whose:
    """Rank and node from the last parts of a path."""
    tail = "/".join(name.split("/")[-3:])
    rank, local, node = _RANK_NAME.search(tail), _LOCAL_NAME.search(tail), _NODE_NAME.search(tail)
    return Whose(
        int(rank.group(1)) if rank else -1, int(local.group(1)) if local else -1, node.group(1) if node else ""
    )


class Memory(msgspec.Struct):
    """A reading as it is kept, what is open of it included: going on from it changes nothing."""

    marks: list[tuple[tuple[str, str, str, str], Mark]] = []
    opened: list[tuple[str, Reader, Bare, float]] = []
    ended: dict[str, int] = {}
    steps: dict[str, list[int]] = {}
    lines: int = 0
    ranks: list[int] = []
    nodes: list[str] = []


class Reading:
    """What has been understood of a job's output so far; bounded whatever comes."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        own = (HEADER, *_BARE_ERRORS, *_ENDS)
        self._scan = scan_of((*rules.words, *own))
        self._number = {word: n for n, word in enumerate(self._scan.words)}
        self._header = self._number[HEADER]
        self._known = len(rules.words)
        self._ends = {self._number[word] for word in _ENDS}
        self._open: dict[str, tuple[Reader, Bare, float]] = {}
        self._times: dict[int, float] = {}  # row of the present block -> the time it names
        self.marks: dict[tuple[str, str, str, str], Mark] = {}
        self.ended: dict[str, int] = {}
        self.steps: dict[str, deque[int]] = {}
        self.lines = 0
        self.ranks: set[int] = set()
        self.nodes: set[str] = set()

    def feed(self, file: str, first: int, block: bytes, owner: Whose | None = None) -> None:
        """Take lines of one file, in order. first: number of the block's first line, from 1."""
        owner = owner or Whose()
        starts, found = self._scan.lines(block)
        self._times = {}
        self._note_steps(file, first, block, starts)
        total = len(starts) - 1
        self.lines += total
        row, due = -1, iter(sorted(found))
        following = next(due, total)
        while True:
            row = row + 1 if self._open else max(row + 1, following)
            if row >= total:
                break
            while following <= row:
                following = next(due, total)
            text = block[starts[row] : starts[row + 1]].decode("utf-8", "replace").rstrip("\r\n")
            self._take(file, first + row, text, found.get(row, set()), owner, (block, starts, row))

    def close(self, file: str = "") -> None:
        """The output has ended: what is still open of a traceback counts."""
        for stream, (reader, line, at) in list(self._open.items()):
            if not file or stream.startswith(f"{file}\0"):
                del self._open[stream]
                self._finish(stream.split("\0")[0], reader, line, at)

    def memory(self) -> Memory:
        """What is remembered, to be kept elsewhere."""
        opened = [(stream, *open_) for stream, open_ in self._open.items()]
        steps = {file: list(last) for file, last in self.steps.items()}
        return Memory(list(self.marks.items()), opened, self.ended, steps, self.lines, sorted(self.ranks), sorted(self.nodes))

    def recall(self, memory: Memory) -> None:
        """Go on from what was kept."""
        self.marks, self.ended, self.lines = dict(memory.marks), memory.ended, memory.lines
        self._open = {stream: (reader, line, at) for stream, reader, line, at in memory.opened}
        self.steps = {file: deque(last, maxlen=4) for file, last in memory.steps.items()}
        self.ranks, self.nodes = set(memory.ranks), set(memory.nodes)

    def _take(
        self, file: str, number: int, text: str, words: set[int], owner: Whose, where: tuple[bytes, np.ndarray, int]
    ) -> None:
        line = _owned(bare(text), owner)
        stream = f"{file}\0{line.stream}"
        opened = self._open.get(stream)
        if opened is not None:
            if opened[0].take(number, line.text):
                return
            del self._open[stream]
            self._finish(file, *opened)
        if not words:
            return
        if words & self._ends:
            self.ended[file] = number
        if self._header in words and len(self._open) < MOST_OPEN:
            self._open[stream] = (Reader(number), line, line.at or self._time_before(where))
            return
        known = {word for word in words if word < self._known}
        meaning = self.rules.of_words(line.text, known) if known else None
        if meaning is None and len(known) < len(words):
            self._bare_exception(file, number, line, where)
        elif meaning is not None:
            self._mark(file, number, line, meaning, where)

    def _bare_exception(self, file: str, number: int, line: Bare, where: tuple[bytes, np.ndarray, int]) -> None:
        """An exception's line with no traceback before it: logged by a handler, or cut."""
        said = EXCEPTION.match(line.text)
        if said is None or not said.group(1).rsplit(".", 1)[-1].endswith(("Error", "Exception")):
            return
        meaning = self.rules.of_exception(said.group(1), line.text)
        self._mark(file, number, line, msgspec.structs.replace(meaning, depth=min(meaning.depth, 41)), where)

    def _mark(self, file: str, number: int, line: Bare, meaning: Meaning, where: tuple[bytes, np.ndarray, int]) -> None:
        if meaning.role == "root" and meaning.depth < _LATE:
            if _INFO.search(line.text):
                return
            if _WARNING.search(line.text):
                meaning = msgspec.structs.replace(meaning, weak=True, depth=min(meaning.depth, 15))
        at = line.at or (self._time_before(where) if meaning.role in ("root", "victim") else 0.0)
        said = f"{meaning.id}: {normalised(line.text)[:160]}"
        self._keep(Mark(meaning, file, number, line.text[:2000], line.rank, line.local, line.node, at, said))

    def _finish(self, file: str, reader: Reader, line: Bare, at: float) -> None:
        raised = reader.root()
        if raised is None:
            return
        meaning = self.rules.of_exception(raised.kind, raised.text)
        trace = tuple(reader.lines[-60:])
        self._keep(
            Mark(
                meaning, file, raised.line, raised.text, line.rank, line.local, line.node, at, signature(raised), raised.place,
                trace=trace,
            )
        )  # fmt: skip

    def _time_before(self, where: tuple[bytes, np.ndarray, int]) -> float:
        """The time of the nearest line above that names one, 0.0 if none of the last forty does."""
        block, starts, row = where
        for above in range(row, max(-1, row - _LOOK_BACK), -1):
            at = self._times.get(above)
            if at is None:
                text = block[starts[above] : starts[above] + 400].decode("utf-8", "replace").split("\n")[0]
                at = self._times[above] = bare(text).at
            if at:
                return at
        return 0.0

    def _keep(self, mark: Mark) -> None:
        if mark.rank < 0:
            mark.rank = rank_in(mark.text)
        if mark.rank >= 0:
            self.ranks.add(mark.rank)
        if mark.node:
            self.nodes.add(mark.node)
        mark.last_line = mark.line
        key = (mark.file, mark.meaning.id, f"{mark.rank}/{mark.local}/{mark.node}", mark.signature)
        old = self.marks.get(key)
        if old is not None:
            old.count += 1
            old.last_line = mark.line
            if mark.meaning.id == "nccl.watchdog_status" or not old.trace:
                old.trace = old.trace or mark.trace
        elif len(self.marks) < MOST_MARKS:
            self.marks[key] = mark

    def _note_steps(self, file: str, first: int, block: bytes, starts: np.ndarray) -> None:
        latest: list[int] = []
        for word in _STEPS:
            end = len(block)
            for _ in range(4):
                end = block.rfind(word, 0, end)
                if end < 0:
                    break
                latest.append(first + bisect_right(starts, end) - 1)
        if latest:
            self.steps.setdefault(file, deque(maxlen=4)).extend(sorted(set(latest))[-4:])


def _owned(line: Bare, owner: Whose) -> Bare:
    rank = line.rank if line.rank >= 0 else (line.label if line.label >= 0 else owner.rank)
    local = line.local if line.local >= 0 else owner.local
    return line._replace(rank=rank, local=local, node=line.node or owner.node)

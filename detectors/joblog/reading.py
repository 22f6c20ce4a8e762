"""Reads a job's output in blocks, any interleaving of writers, and keeps the lines that mean something."""

import re
from collections import deque
from typing import NamedTuple

import msgspec
import numpy as np

from detectors.joblog.marks import Mark, Memory, Step, Whose, owned
from detectors.joblog.places import WORDS as PLACES
from detectors.joblog.places import Places, node_in, task_in
from detectors.joblog.prefix import Bare, bare, rank_in
from detectors.joblog.rules import Meaning, Rules
from detectors.joblog.tracebacks import EXCEPTION, HEADER, Reader, normalised, signature
from detectors.scan import rows, scan_of, text_of

MOST_MARKS = 4096
MOST_OPEN = 4096
MOST_SEGMENTS = 256  # of a line that a progress bar has written over and over
MOST_WRITTEN = 1 << 18
_LOOK_BACK = 40
LAST_STEPS = 4
MOST_TRIES = 64

_BARE_ERRORS = ("Error: ", "Exception: ", "Error\n", "Error\r")
_STEPS = (b" iteration ", b"loss:", b"global_step=", b"loss': ", b'"current_steps"', b"consumed samples:", b'loss": ', b"loss=")
# what a traceback shows of the code has the words too, but no number behind them
_STEP = re.compile(r"(?:loss|iteration|global_step|current_steps)['\"]{0,2}[:= ]{0,4} {0,12}['\"]?(?:[-.\d]|nan|inf)")
_ENDS = (
    "[after training is done]", "Training completed", "training completed", "train_runtime", "Training finished", "Training complete",
    "Training done", "training finished", "`Trainer.fit` stopped: `max_", "Finished training", "finished training", "Training ended",
    "successfully finished training",
)  # fmt: skip
_INFO = re.compile(r"NCCL INFO|RCCL INFO|\[INFO\]|\[DEBUG\]|\[I\]|\bINFO[: |]| INFO - |\bDEBUG\b|\[DBG\]")
_WARNING = re.compile(
    r"\[WARNING\]|\bWARNING[: |]| WARN(?:ING)? - |UserWarning|FutureWarning|DeprecationWarning|RuntimeWarning|\bwarn(?:ing)?: "
)
_MAY_INFORM, _MAY_WARN = ("INFO", "DEBUG", "[I]", "[DBG]"), ("WARN", "Warning", "warn")
_LATE = 80
_SAME_CLOCK_S = 60.0
_REST = 8  # lines that the message of an exception may go on
_OF_LIBRARIES = frozenset(
    {"RuntimeError", "Exception", "XlaRuntimeError", "AcceleratorError", "JaxRuntimeError", "OSError", "InternalError"}
)


class _Where(NamedTuple):
    """A line's place: file, number, and its block for looking back."""

    file: str
    number: int
    block: bytes
    starts: np.ndarray
    row: int


class Reading:
    """What has been understood of a job's output so far; bounded whatever comes."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._scan = scan_of((*rules.words, HEADER, *PLACES, *_BARE_ERRORS, *_ENDS))
        number = {word: n for n, word in enumerate(self._scan.words)}
        self._header, self._known = number[HEADER], len(rules.words)
        self._ends = {number[word] for word in _ENDS}
        self._placing = {number[word] for word in PLACES}
        self._open: dict[str, tuple[Reader, Bare, float]] = {}
        self._times: dict[int, float] = {}  # row of the present block -> the time it names
        self.marks: dict[tuple[str, str, str, str], Mark] = {}
        self.ended: dict[str, int] = {}
        self.steps: dict[str, deque[Step]] = {}
        self.stepped: set[str] = set()  # files that told of a step in an earlier block
        self.lines = 0
        self.ranks: set[int] = set()
        self.nodes: set[str] = set()  # that said something that means something
        self.heard: set[str] = set()  # that said anything
        self.lengths: dict[str, int] = {}  # number of the last line of each file
        self.places = Places()
        self._heard_at = 0.0
        self._stepping: dict[str, tuple[bytes, ...]] = {}  # file -> words by which it told of steps
        self._unsaid: dict[str, Mark] = {}  # writer -> an exception whose message goes on in the next lines

    def feed(self, file: str, first: int, block: bytes, owner: Whose | None = None, *, heard_at: float = 0.0) -> None:
        """Take lines of one file, in order. first: number of the block's first line, from 1.

        heard_at: when they came in, Unix seconds: stands for times that lines do not say, or say by another clock
        """
        owner, self._heard_at = owner or Whose(), heard_at
        if owner.node:
            self.heard.add(owner.node)
        starts, found = self._scan.lines(block)
        self._times = {}
        first_step = self._note_steps(file, first, block, starts)
        self.lines += len(starts) - 1
        self.lengths[file] = first + len(starts) - 2
        for row in rows(found, len(starts) - 1, lambda: bool(self._open)):
            text = _shown(block, starts, row)
            where = _Where(file, first + row, block, starts, row)
            words = found.get(row, set())
            early = file not in self.stepped and row < first_step
            if "\r" in text:
                for part in text.split("\r")[-MOST_SEGMENTS:]:
                    self._take(where, part, {n for n in words if self._scan.words[n].rstrip() in part}, owner, early)
            else:
                self._take(where, text, words, owner, early)
        if first_step < len(starts) - 1:
            self.stepped.add(file)

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
        return Memory(
            list(self.marks.items()), opened, self.ended, steps, self.lines, sorted(self.ranks), sorted(self.nodes),
            sorted(self.stepped), self.lengths, self.places.of, sorted(self.heard),
        )  # fmt: skip

    def recall(self, memory: Memory) -> None:
        """Go on from what was kept."""
        self.marks, self.ended, self.lines = dict(memory.marks), memory.ended, memory.lines
        self._open = {stream: (reader, line, at) for stream, reader, line, at in memory.opened}
        self.steps = {file: deque(last, maxlen=LAST_STEPS) for file, last in memory.steps.items()}
        self.ranks, self.nodes, self.stepped = set(memory.ranks), set(memory.nodes), set(memory.stepped)
        self.lengths, self.places, self.heard = memory.lengths, Places(memory.places), set(memory.heard)

    def _take(self, where: _Where, text: str, words: set[int], owner: Whose, early: bool) -> None:
        if self._header in words:
            text = _unglued(text)
        line = owned(bare(text), owner)
        stream = f"{where.file}\0{line.stream}"
        opened = self._open.get(stream) if self._open else None
        if opened is not None:
            if opened[0].take(where.number, line.text):
                return
            del self._open[stream]
            self._finish(where.file, *opened, early=early, stream=stream)
        if not words:
            return
        if words & self._ends:
            self.ended[where.file] = where.number
        if words & self._placing:
            self.places.note(line.text, line.node)
        if self._header in words and len(self._open) < MOST_OPEN:
            begun = Reader.at(where.number, line.text, ignored=self._is_ignored(where))
            self._open[stream] = (begun, line, self._when(line.at) if line.at else self._time_before(where))
            return
        known = {word for word in words if word < self._known}
        meaning = self.rules.of_words(line.text, known) if known else None
        if meaning is None and len(known) < len(words):
            self._bare_exception(where, line, early)
        elif meaning is not None and not self._tells_more(stream, where, line, meaning):
            self._mark(where, line, meaning, early)

    def _tells_more(self, stream: str, where: _Where, line: Bare, meaning: Meaning) -> bool:
        """Whether a line is the rest of an exception's message, and says what the exception itself did not."""
        before = self._unsaid.get(stream)
        if before is None or line.at or line.level or where.number > before.line + _REST:
            self._unsaid.pop(stream, None)
            return False
        if meaning.role in ("teardown", "noise") or where.number < before.line:
            return False
        before.meaning = meaning
        del self._unsaid[stream]
        return True

    def _is_ignored(self, where: _Where) -> bool:
        """Whether the interpreter itself says that it goes on in spite of the traceback that begins here."""
        return where.row > 0 and "Exception ignored in" in text_of(where.block, where.starts, where.row - 1, 2000)

    def _bare_exception(self, where: _Where, line: Bare, early: bool) -> None:
        """An exception's line with no traceback before it: logged by a handler, or cut."""
        said = EXCEPTION.match(line.text)
        if said is None or not said.group(1).rsplit(".", 1)[-1].endswith(("Error", "Exception")):
            return
        meaning = self.rules.of_exception(said.group(1), line.text)
        self._mark(where, line, msgspec.structs.replace(meaning, depth=min(meaning.depth, 41)), early)

    def _mark(self, where: _Where, line: Bare, meaning: Meaning, early: bool) -> None:
        if meaning.role == "root" and meaning.depth < _LATE:
            if line.level == "I" or _is_said(line.text, _MAY_INFORM, _INFO):
                return
            if line.level == "W" or _is_said(line.text, _MAY_WARN, _WARNING):
                meaning = msgspec.structs.replace(meaning, weak=True, depth=min(meaning.depth, 15))
        said = f"{meaning.id}: {normalised(line.text[:240])[:160]}"
        mark = Mark(
            meaning, where.file, where.number, line.text[:2000], line.rank, line.local, line.node,
            self._when(line.at) if line.at else 0.0, said, early=early,
        )  # fmt: skip
        if not self._seen(mark):
            if not mark.at and (meaning.role in ("root", "victim") or self._heard_at):
                mark.at = self._time_before(where)
            self._keep(mark)

    def _finish(
        self, file: str, reader: Reader, line: Bare, at: float, *, early: bool = False, stream: str = ""
    ) -> None:
        raised = reader.root()
        if raised is None:
            return
        meaning = self.rules.of_exception(raised.kind, raised.text)
        mark = Mark(
            meaning, file, raised.line, raised.text, line.rank, line.local, line.node, at, signature(raised), raised.place,
            trace=tuple(reader.lines[-60:]), early=early or file not in self.stepped,
        )  # fmt: skip
        if not self._seen(mark):
            self._keep(mark)
            if stream and meaning.id.startswith("python.") and raised.kind.rsplit(".", 1)[-1] in _OF_LIBRARIES:
                self._unsaid = {stream: mark}

    def _time_before(self, where: _Where) -> float:
        """The time of the nearest line above that names one, when it came in if none of the last forty does."""
        for above in range(where.row, max(-1, where.row - _LOOK_BACK), -1):
            at = self._times.get(above)
            if at is None:
                at = self._times[above] = bare(text_of(where.block, where.starts, above, 400)).at
            if at:
                return self._when(at)
        return self._heard_at

    def _when(self, at: float) -> float:
        """A time that a line says, or when the line came in, where that is a different one."""
        return at if not self._heard_at or abs(at - self._heard_at) < _SAME_CLOCK_S else self._heard_at

    def _seen(self, mark: Mark) -> bool:
        """Whether this writer has said the same before; counted then."""
        if mark.rank < 0:
            task = task_in(mark.text)
            mark.rank = task if task >= 0 else rank_in(mark.text)
        old = self.marks.get(_key(mark))
        if old is None:
            return False
        old.count += 1
        old.last_line = mark.line
        old.trace = old.trace or mark.trace
        if mark.meaning.role == "noise":
            old.text = mark.text  # how far it has come
        return True

    def _keep(self, mark: Mark) -> None:
        mark.node = mark.node or node_in(mark.text)
        if mark.rank >= 0:
            self.ranks.add(mark.rank)
        if mark.node:
            self.nodes.add(mark.node)
            self.places.seen(mark.rank, mark.node)
        mark.last_line = mark.line
        if len(self.marks) < MOST_MARKS:
            self.marks[_key(mark)] = mark

    def _note_steps(self, file: str, first: int, block: bytes, starts: np.ndarray) -> int:
        """Note the last step lines of a block; return the row of its first, as many as there are if it has none."""
        latest: dict[int, float] = {}
        begin = total = len(starts) - 1
        # of large blocks what told of steps in the one before is looked for first: it is mostly there again
        words = self._stepping.get(file, _STEPS) if len(block) >= MOST_WRITTEN else _STEPS
        told: list[bytes] = []
        for word in (*words, *(() if words is _STEPS else _STEPS)):
            if told and words is not _STEPS:
                break
            end, front, before = len(block), 0, len(latest)
            for _ in range(LAST_STEPS):
                end = block.rfind(word, 0, end)
                if end < 0:
                    break
                self._note_step(block, starts, end, latest)
            for _ in range(MOST_TRIES if end >= 0 and begin == total and file not in self.stepped else 0):
                front = block.find(word, front, end)
                begin = min(begin, self._note_step(block, starts, front, latest)) if front >= 0 else begin
                if front < 0 or begin < total:
                    break
                front += len(word)
            if len(latest) > before:
                told.append(word)
        if told:
            self._stepping[file] = tuple(told)
        last = sorted(latest)[-LAST_STEPS:]
        if last:
            kept = self.steps.setdefault(file, deque(maxlen=LAST_STEPS))
            kept.extend(Step(first + row, latest[row]) for row in last)
        return min(begin, last[0]) if last else total

    def _note_step(self, block: bytes, starts: np.ndarray, at: int, latest: dict[int, float]) -> int:
        """The row of a word, noted with its time if it is a step line's; as many as there are if it is not."""
        row = int(np.searchsorted(starts, at, side="right")) - 1
        text = text_of(block, starts, row, 4096)
        if _STEP.search(text) is None:
            return len(starts) - 1
        latest[row] = self._when(bare(text[:400]).at)
        return row


def _is_said(text: str, words: tuple[str, ...], form: re.Pattern[str]) -> bool:
    """Whether a line fits an expression that needs one of the words."""
    return any(word in text for word in words) and form.search(text) is not None


def _shown(block: bytes, starts: np.ndarray, row: int) -> str:
    """A line as text; of one that a progress bar has written over for hours, what it wrote last."""
    begin, end = int(starts[row]), int(starts[row + 1])
    if end - begin > MOST_WRITTEN and b"\r" in block[begin:end]:
        return block[end - MOST_WRITTEN : end].decode("utf-8", "replace").rstrip("\r\n")
    return text_of(block, starts, row)


def _unglued(text: str) -> str:
    """A traceback's first line without the progress bar that it was written behind."""
    at = text.find(HEADER)
    front = text.rfind("[rank", 0, at)
    return text[front:] if front > 0 else text[at:] if "it/s" in text[:at] or "s/it" in text[:at] else text


def _key(mark: Mark) -> tuple[str, str, str, str]:
    return (mark.file, mark.meaning.id, f"{mark.rank}/{mark.local}", mark.signature)

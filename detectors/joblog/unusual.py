"""What a running job says that it never said while it stepped: learned as the lines come, told when no rule knows why it ended."""

from collections import deque
from collections.abc import Mapping, Set

import msgspec

from detectors.joblog.novelty import Novelty, NoveltyMemory, Said

# Lines count as healthy when a step has ended so long after them: what a rank says as it dies comes before others' last step is told.
_MARGIN_S = 5.0
# The first of what was said since are kept; the rest of a flood tells nothing that is new.
_MOST_BYTES, _MOST_BLOCKS = 256 << 10, 4096
_MOST_TEMPLATES = 2000
MOST_NOVEL, MOST_ALONE = 8, 10


class Block(msgspec.Struct, frozen=True):
    """Whole lines as they came. first: number of the first; writer: the node, else the file"""

    at: float
    file: str
    first: int
    lines: bytes
    writer: str


class UnusualMemory(msgspec.Struct):
    """An `Unusual` as it is kept."""

    novelty: NoveltyMemory
    recent: list[Block]
    stepped_at: float


class Unusual:
    """The healthy lines of one job as templates, and its lines since its last step; both bounded."""

    def __init__(self) -> None:
        self._novelty = Novelty(most_lines=1 << 62, templates=_MOST_TEMPLATES)
        self._recent: deque[Block] = deque()
        self._bytes = 0
        self._stepped_at = 0.0

    def feed(self, block: Block) -> None:
        """Take lines in, in the order in which they come."""
        if len(block.lines) > _MOST_BYTES:
            block = msgspec.structs.replace(block, lines=block.lines[:_MOST_BYTES].rpartition(b"\n")[0])
        full = self._bytes >= _MOST_BYTES or len(self._recent) >= _MOST_BLOCKS
        if full and self._stepped_at:
            return
        self._recent.append(block)
        self._bytes += len(block.lines)
        if full:  # a job that tells no steps: what is old went well enough
            self._learn_first()

    def stepped(self, at: float) -> None:
        """A step has ended: what was said well before it is of the job's healthy life."""
        self._stepped_at = max(self._stepped_at, at)
        while self._recent and self._recent[0].at <= self._stepped_at - _MARGIN_S:
            self._learn_first()

    def _learn_first(self) -> None:
        block = self._recent.popleft()
        self._bytes -= len(block.lines)
        self._novelty.healthy(block.file, block.first, block.lines, block.writer)

    def restart(self) -> None:
        """A new attempt has begun: what the last one said in the end was no healthy life."""
        self._recent.clear()
        self._bytes, self._stepped_at = 0, 0.0

    def stand_out(self, known: Mapping[str, Set[int]]) -> tuple[list[Said], list[Said]]:
        """The lines that are like none before, and those that one writer alone has; none where no healthy life is known.

        known: file -> numbers of lines that are understood
        """
        if not self._novelty.templates:
            return [], []
        told = Novelty.recalled(self._novelty.memory(), templates=_MOST_TEMPLATES)  # it is not learned what a dying job says
        novel: list[Said] = []
        for block in self._recent:
            novel += told.late(block.file, block.first, block.lines, block.writer, known=known.get(block.file, frozenset()))
        novel.sort(key=lambda said: not said.telling)  # those with a word of trouble first, else as they came
        alone = [said for said in told.alone(most=MOST_ALONE) if said.line not in known.get(said.file, ())]
        return novel[:MOST_NOVEL], alone

    def memory(self) -> UnusualMemory:
        return UnusualMemory(self._novelty.memory(), list(self._recent), self._stepped_at)

    def recall(self, kept: UnusualMemory) -> None:
        self._novelty = Novelty.recalled(kept.novelty, templates=_MOST_TEMPLATES)
        self._recent, self._stepped_at = deque(kept.recent), kept.stepped_at
        self._bytes = sum(len(block.lines) for block in kept.recent)

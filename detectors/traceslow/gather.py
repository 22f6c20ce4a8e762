"""Puts the step reports of a job's nodes together, step by step, whatever the order they come in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np

from detectors.traceslow.phases import WIDTH, parts_of
from holdfast.events import Steps
from holdfast.wire import inputs_of_bytes, inputs_to_bytes

MOST_RANKS = 131_072
# Steps of a job that are waited for at once, and steps in one batch that are looked at.
MOST_OPEN = 32
# A rank that was silent in so many steps is not waited for.
_SILENT = 3
_MOST_PENDING = 65_536
# Batches lie unlooked at for so long at most, unless they may complete a step.
_LOOK_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Board:
    """One step of a job. parts: see `phases.Parts.of`, shape (WIDTH, ranks), NaN: not told; ended_at: by the last rank"""

    step: int
    parts: np.ndarray
    ended_at: float
    heard_at: float


@dataclass
class Open:
    """A step some ranks of which have been heard. rows: (ranks, parts) as they came"""

    first_at: float
    rows: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    ended_at: float = 0.0
    count: int = 0


class OpenMemory(msgspec.Struct):
    """An open step as it is kept."""

    step: int
    first_at: float
    ended_at: float
    rows: list[tuple[bytes, bytes]]


class Kept(msgspec.Struct):
    """A `Gather` as it is kept."""

    pending: bytes
    open: list[OpenMemory]
    heard: bytes
    node: bytes
    nodes: list[str]
    world: int
    judged: int
    judged_ended_at: float
    at: float
    turn: int


class Gather:
    """The steps of one job that are not complete yet. grace_s: how long a step waits for ranks that were heard lately.

    node: for each rank the place of its node in `nodes`, -1: not told; world: ranks as the job tells, 0: not told
    """

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self.world, self.judged, self.at = 0, -1, 0.0
        self.nodes: list[str] = []
        self.node = np.zeros(0, dtype=np.int64)
        self.moved: list[int] = []
        self._pending: list[Steps] = []
        self._rows = 0
        self._open: dict[int, Open] = {}
        self._heard = np.zeros(0, dtype=np.int64)  # the turn in which each rank was last heard, from 1
        self._turn, self._ended_at = 0, 0.0
        self._lately = -1  # how many have been heard lately, -1: not counted yet
        self._places: dict[str, int] = {}
        self._met: tuple[tuple[str, int], np.ndarray] = (("", -1), self.node)  # the batch last met: of whom nothing is new

    @property
    def ranks(self) -> int:
        return len(self.node)

    def place(self, ranks: Mapping[str, object]) -> None:
        """Where ranks are by the job's own word: node -> [first, last]; what a node itself tells goes before."""
        self._met = (("", -1), self.node)
        for node, span in list(ranks.items())[:MOST_RANKS]:
            if not (isinstance(span, list | tuple) and len(span) == 2 and all(isinstance(n, int) for n in span)):
                continue
            first, last = max(0, span[0]), min(span[1], MOST_RANKS - 1)
            if node and first <= last:
                self._meet(np.arange(first, last + 1), np.full(last + 1 - first, self._place(str(node))))

    def take(self, seen: Steps) -> None:
        """Lay a batch aside; nothing is looked at before all ranks of a step may be there."""
        if len(seen.ranks) and len(self._pending) < _MOST_PENDING:
            self._pending.append(seen)
            self._rows += len(seen.ranks)
            self.at = max(self.at, seen.at)

    def ready(self, now: float) -> Iterator[Board]:
        """The steps, in their order, that are complete or have waited long enough. now: Unix seconds"""
        self.at = max(self.at, now)
        if self._rows and (self._rows + self._waiting() >= self._expected() or self.at > self._pending[0].at + _LOOK_S):
            self._absorb()
        while self._open:
            step = min(self._open)
            one = self._open[step]
            complete = bool(self._turn or self.world) and one.count >= self._expected()
            if not complete and self.at < one.first_at + self.grace_s and len(self._open) <= MOST_OPEN:
                return
            yield self._close(step, self._open.pop(step))

    def restart(self) -> None:
        """A new attempt counts its steps from wherever it begins."""
        self._pending.clear()
        self._open.clear()
        self._rows, self.judged, self._ended_at, self._turn, self._lately = 0, -1, 0.0, 0, -1
        self._heard[:] = 0

    def _waiting(self) -> int:
        """Rows of the first open step."""
        return self._open[min(self._open)].count if self._open else 0

    def _expected(self) -> int:
        """How many ranks are waited for: those heard lately, all of the job before anything is known."""
        if self._turn < _SILENT and self.world:
            return self.world
        if self._lately < 0:
            self._lately = max(1, int((self._heard > max(0, self._turn - _SILENT)).sum()))
        return self._lately

    def _absorb(self) -> None:
        """Sort what was laid aside by step. Batches with the same signals are worked on as one."""
        alike: dict[tuple[str, ...], list[Steps]] = {}
        for seen in self._pending:
            alike.setdefault(seen.signals, []).append(seen)
        self._pending, self._rows = [], 0
        for signals, batches in alike.items():
            ranks, steps = _joined([b.ranks for b in batches]), _joined([b.steps for b in batches])
            ended_at, values = _joined([b.ended_at for b in batches]), _joined([b.values for b in batches])
            nodes = np.repeat([self._place(b.node) for b in batches], [len(b.ranks) for b in batches])
            key = (batches[0].node if len(batches) == 1 else "", len(ranks))
            if not (len(batches) == 1 and key == self._met[0] and np.array_equal(ranks, self._met[1]) and np.isfinite(ended_at).all()):
                good = (ranks >= 0) & (ranks < MOST_RANKS) & np.isfinite(ended_at)
                if not good.all():
                    ranks, steps, ended_at, values, nodes = (c[good] for c in (ranks, steps, ended_at, values, nodes))
                if len(ranks):
                    self._meet(ranks, nodes)
                self._met = (key, ranks) if len(batches) == 1 and good.all() else (("", -1), ranks)
            if len(ranks):
                self._sort(ranks, steps, ended_at, parts_of(signals).of(values), batches[0].at)

    def _place(self, node: str) -> int:
        if node not in self._places:
            if not node or len(self.nodes) >= MOST_RANKS:
                return -1
            self._places[node] = len(self.nodes)
            self.nodes.append(node)
        return self._places[node]

    def _meet(self, ranks: np.ndarray, nodes: np.ndarray) -> None:
        most = int(ranks.max()) + 1
        if most > self.ranks:
            more = most - self.ranks
            self.node = np.concatenate([self.node, np.full(more, -1)])
            self._heard = np.concatenate([self._heard, np.zeros(more, dtype=np.int64)])
        before = self.node[ranks]
        if (before == nodes).all():
            return
        changed = (before >= 0) & (nodes >= 0) & (before != nodes)
        if changed.any():
            self.moved.extend(np.unique(ranks[changed]).tolist())
        self.node[ranks] = np.where(nodes >= 0, nodes, before)

    def _sort(self, ranks: np.ndarray, steps: np.ndarray, ended_at: np.ndarray, parts: np.ndarray, at: float) -> None:
        if steps[0] == steps[-1] and steps.min() == steps.max():
            self._put(int(steps[0]), ranks, float(ended_at.max()), parts, at)
            return
        for step in np.unique(steps)[-4 * MOST_OPEN :].tolist():
            rows = steps == step
            self._put(step, ranks[rows], float(ended_at[rows].max()), parts[:, rows], at)

    def _put(self, step: int, ranks: np.ndarray, ended_at: float, parts: np.ndarray, at: float) -> None:
        if step <= self.judged:
            if ended_at <= self._ended_at:
                self._heard[ranks], self._lately = self._turn, -1  # too late, its step has been judged; the next one waits for it
                return
            self.judged = step - 1  # it was done again, from a checkpoint
        one = self._open.setdefault(step, Open(first_at=at))
        one.rows.append((ranks, parts))
        one.count += len(ranks)
        one.ended_at = max(one.ended_at, ended_at)

    def _close(self, step: int, one: Open) -> Board:
        self._turn += 1
        self._lately = -1
        ranks, parts = one.rows[0]
        if len(one.rows) > 1 or len(ranks) != self.ranks or not np.array_equal(ranks, np.arange(self.ranks)):
            whole = np.full((WIDTH, self.ranks), np.nan, dtype=np.float32)
            for ranks, parts in one.rows:
                whole[:, ranks] = parts
                self._heard[ranks] = self._turn
            parts = whole
        else:
            self._heard[:] = self._turn
        self.judged, self._ended_at = step, one.ended_at
        return Board(step=step, parts=parts, ended_at=one.ended_at, heard_at=self.at)

    def memory(self) -> Kept:
        opened = [
            OpenMemory(step, one.first_at, one.ended_at, [(r.astype(np.int64).tobytes(), p.tobytes()) for r, p in one.rows])
            for step, one in self._open.items()
        ]
        return Kept(
            pending=inputs_to_bytes([*self._pending]), open=opened, heard=self._heard.tobytes(), node=self.node.tobytes(),
            nodes=self.nodes, world=self.world, judged=self.judged, judged_ended_at=self._ended_at, at=self.at, turn=self._turn,
        )  # fmt: skip

    def remember(self, kept: Kept) -> None:
        self._pending = [seen for seen in inputs_of_bytes(kept.pending) if isinstance(seen, Steps)]
        self._rows = sum(len(seen.ranks) for seen in self._pending)
        self._open = {}
        for one in kept.open:
            rows = [(np.frombuffer(r, dtype=np.int64), np.frombuffer(p, dtype=np.float32).reshape(WIDTH, -1)) for r, p in one.rows]
            count = sum(len(r) for r, _ in rows)
            self._open[one.step] = Open(first_at=one.first_at, rows=rows, ended_at=one.ended_at, count=count)
        self._heard = np.frombuffer(kept.heard, dtype=np.int64).copy()
        self.node = np.frombuffer(kept.node, dtype=np.int64).copy()
        self.nodes, self._places = kept.nodes, {name: n for n, name in enumerate(kept.nodes)}
        self.world, self.judged, self._ended_at = kept.world, kept.judged, kept.judged_ended_at
        self.at, self._turn, self._lately = kept.at, kept.turn, -1


def _joined(columns: list[np.ndarray]) -> np.ndarray:
    return columns[0] if len(columns) == 1 else np.concatenate(columns)

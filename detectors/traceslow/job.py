"""One job watched online: each complete step is compared among ranks of the same role, and against the job's own past."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from detectors.traceslow.accuse import Accused, Places, are_many, links, may_be_stage, slow_for_long, workers
from detectors.traceslow.claims import Claim, claim_of, withdrawn
from detectors.traceslow.gather import Board, Gather, Kept
from detectors.traceslow.jobpace import JobPace
from detectors.traceslow.machine import Machines, Reason
from detectors.traceslow.own import is_evener_per_token, middle, own_time, per_token
from detectors.traceslow.peers import Peers, seen_roles, told_roles
from detectors.traceslow.phases import DATA, PAUSE, STEP, TRANSFER, WAIT, WIDTH, WORK
from detectors.traceslow.sides import PARTS, Side, SideMemory
from detectors.traceslow.telling import Recent, Telling
from detectors.traceslow.watch import Late, Memory, Watch
from holdfast.events import Finding, Steps
from holdfast.topology import Kind
from holdfast.verdict import Json

_RECENT = 5
_MANY = "many"
# Every so many steps it is looked whether work per token is more even than work.
_LOOKED = 16
_SHIFTS = {"work": WORK, "data": DATA, "transfer": TRANSFER, "wait": WAIT, "pause": PAUSE}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """share: least excess; act_share: from which somebody is to be replaced; steps, lasting_s, grace_s: see `Traceslow`"""

    share: float
    act_share: float
    steps: int
    lasting_s: float
    grace_s: float


class JobMemory(msgspec.Struct):
    """A `Job` as it is kept. role: int64 as bytes, None: one role; recent: float32, parts of shape (WIDTH, ranks) and own times"""

    gather: Kept
    own: Memory
    sides: dict[str, SideMemory]
    pace: JobPace
    claims: dict[str, Claim]
    shift: Finding | None
    facts: dict[str, Json]
    role: bytes | None
    recent: list[tuple[bytes, bytes]]
    attempt: int
    said: int
    turns: int
    per_token: bool
    began: float


class Job:
    """What is known of one job. claims: by target; shift: the claim that all of it became slower"""

    def __init__(self, name: str, limits: Limits, *, attempt: int = 0, said: int = 0) -> None:
        self.name, self.limits, self.attempt, self.said = name, limits, attempt, said
        self.gather = Gather(limits.grace_s)
        self.claims: dict[str, Claim] = {}
        self.shift: Finding | None = None
        self.facts: dict[str, Json] = {}
        self._begin()

    def _begin(self) -> None:
        self._own = self._watch(0)
        self._sides: dict[str, Side] = {}
        self._pace = JobPace()
        self._role: np.ndarray | None = None
        self._peers = Peers(np.zeros(0, dtype=np.int64))
        self._recent: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=_RECENT)
        self._turns, self._per_token, self._began = 0, False, 0.0

    def _watch(self, ranks: int) -> Watch:
        limits = self.limits
        return Watch(ranks, share=limits.share, steps=limits.steps, lasting_s=limits.lasting_s)

    def told(self, facts: Mapping[str, Json]) -> None:
        """What whoever started the job knows of it: `world_size`, `layout`, and `ranks` (node -> [first, last])."""
        if isinstance(placed := facts.get("ranks"), Mapping):
            self.gather.place(placed)
        kept = {key: facts[key] for key in ("world_size", "layout") if key in facts}
        if kept and kept != self.facts:
            self.facts = kept
            world = kept.get("world_size")
            self.gather.world = world if isinstance(world, int) and 0 < world <= 131_072 else 0
            self._role = None
            self._peers = Peers(np.zeros(0, dtype=np.int64))

    def restart(self, attempt: int, at: float, why: str) -> Iterator[Finding]:
        """A new attempt begins, or the job is over: nothing is claimed, and what was usual may be another."""
        yield from self._withdraw_all(at, why)
        self.attempt = max(attempt, self.attempt)
        self.gather.restart()
        self._begin()

    def _withdraw_all(self, at: float, why: str) -> Iterator[Finding]:
        for claim in self.claims.values():
            yield withdrawn(claim, at, why)
        self.claims.clear()
        yield from self._withdraw_shift(at)

    def take(self, seen: Steps, machines: Machines) -> Iterator[Finding]:
        self.gather.take(seen)
        yield from self.wait(seen.at, machines)

    def wait(self, now: float, machines: Machines) -> Iterator[Finding]:
        """Judge what is complete, or has waited long enough."""
        for board in self.gather.ready(now):
            yield from self._on_board(board, machines)

    # --- a step

    def _on_board(self, board: Board, machines: Machines) -> Iterator[Finding]:
        self._grow(board.parts.shape[1])
        yield from self._moved(board.heard_at)
        began, self._began = self._began or board.ended_at, board.ended_at
        self._turns += 1
        if self._turns == 1:
            return  # the first step of an attempt compiles, connects and fills caches
        own = own_time(board.parts)
        if self._turns % _LOOKED == 2:
            self._per_token = is_evener_per_token(board.parts)
        if self._per_token:
            own = per_token(own, board.parts)
        usual_s = middle(own)
        if not usual_s > 0.0:
            return
        self._recent.append((board.parts, own))
        self._own.judge(own, self._peers, usual_s=usual_s, began=began, claimed=self._held("own"))
        for name, seconds in PARTS.items():
            if name not in self._sides:
                self._sides[name] = Side(self._watch(0))
            self._sides[name].judge(seconds(board.parts, own), self._peers, usual_s=usual_s, began=began, claimed=self._held(name))
        yield from self._follow(board, machines)
        yield from self._accuse(board, machines)
        yield from self._judge_pace(board)

    def _grow(self, ranks: int) -> None:
        if ranks > self._own.ranks:
            self._own.grow(ranks)
            self._recent.clear()
            self._role = None
        if len(self._peers.role) != ranks:
            role = self._role if self._role is not None else told_roles(self.facts, ranks)
            self._peers = Peers(role if role is not None else np.zeros(ranks, dtype=np.int64))

    def _moved(self, at: float) -> Iterator[Finding]:
        """Ranks that have come to another node are others."""
        moved, self.gather.moved = self.gather.moved, []
        known = [rank for rank in moved if rank < self._own.ranks]
        if not known:
            return
        for watch in (self._own, *(side.watch for side in self._sides.values())):
            watch.forget(np.array([rank for rank in known if rank < watch.ranks], dtype=np.int64))
        for key, claim in list(self.claims.items()):
            if set(claim.ranks) & set(known):
                yield withdrawn(self.claims.pop(key), at, "moved")

    def _held(self, *parts: str) -> list[int]:
        """Ranks of whom something is claimed in these parts."""
        return [rank for claim in self.claims.values() if claim.part in parts for rank in claim.ranks]

    # --- claims

    def _follow(self, board: Board, machines: Machines) -> Iterator[Finding]:
        for key, claim in list(self.claims.items()):
            watch = self._sides[claim.part].watch if claim.part in self._sides else self._own
            known = watch.excess[claim.ranks]
            if not np.isfinite(known).any():
                continue
            claim.follow(float(np.nanmean(known)))
            if claim.over:
                watch.forget(np.array(claim.ranks))
                yield withdrawn(self.claims.pop(key), board.heard_at, "recovered")
            elif claim.grown(self.limits.act_share):
                yield withdrawn(self.claims.pop(key), board.heard_at, "grown")

    def _accuse(self, board: Board, machines: Machines) -> Iterator[Finding]:
        places = Places(self.gather.node, self.gather.nodes)
        late = self._fresh(self._own.late(board.ended_at), places)
        if late and (are_many(late, places) or self._is_stage(late, places)):
            yield from self._many(late, board, places)
            return
        found = workers(late, self._own, places, frozenset(self._held("own"))) if late else self._slow_for_long(places)
        yield from self._claim(found, board, places, machines, part="own")
        for part in ("data", "host"):
            side = self._sides[part]
            late = self._fresh(side.watch.late(board.ended_at), places) if side.active else []
            if late and not are_many(late, places):
                found = workers(late, side.watch, places, frozenset(self._held(part)))
                yield from self._claim(found, board, places, machines, part=part)
        if self._sides["transfer"].active:
            watch = self._sides["transfer"].watch
            late = self._fresh(watch.late(board.ended_at), places)
            if late and watch.suspects().sum() <= 2 * len(late) and not self._is_explained(late[0].excess):
                yield from self._claim(links(late, places), board, places, machines, part="transfer")

    def _is_explained(self, excess: float) -> bool:
        """Whether somebody works longer by about as much: who waits for a slow rank, waits in its transfers."""
        who = np.flatnonzero(self._own.suspects())
        return bool(len(who)) and float(self._own.mean_excess(who).max()) > 0.5 * excess

    def _slow_for_long(self, places: Places) -> list[Accused]:
        found = self._own.slow_for_long(self.gather.node)
        fresh = {one.rank for one in self._fresh([one for _, one in found], places)}
        found = [row for row in found if row[1].rank in fresh]
        return [] if are_many([one for _, one in found], places) else slow_for_long(found, places)

    def _fresh(self, late: list[Late], places: Places) -> list[Late]:
        """Those of whom nothing is claimed yet, nor of their node."""
        if not late:
            return late
        held = {rank for claim in self.claims.values() for rank in claim.ranks}
        nodes = {claim.finding.target.id for claim in self.claims.values() if claim.finding.target.kind is Kind.NODE}
        return [one for one in late if one.rank not in held and places.of(one.rank) not in nodes]

    def _claim(
        self, found: list[Accused], board: Board, places: Places, machines: Machines, *, part: str
    ) -> Iterator[Finding]:
        if not found:
            return
        recent = self._mean_of_recent()
        total = sum(one.excess for one in found) + sum(claim.level for claim in self.claims.values())
        blamed = [rank for one in found for rank in one.ranks] + self._held("own", *PARTS)
        came_back = _comes_back(recent, blamed) if part != "transfer" else 1.0
        yield from self._withdraw_shift(board.heard_at)
        for one in found:
            for key in [key for key, claim in self.claims.items() if claim.part == part and set(claim.ranks) < set(one.ranks)]:
                yield withdrawn(self.claims.pop(key), board.heard_at, "all of its node")
            self.said += 1
            finding = self._telling(board).culprit(
                one, recent, places, part=part, share=round(came_back * one.excess / total, 4), among=self._own.ranks,
                reason=self._why(one, places, machines, part=part, at=board.heard_at),
            )  # fmt: skip
            self.claims[str(finding.target)] = claim_of(finding, one, part=part)
            yield finding

    def _why(self, one: Accused, places: Places, machines: Machines, *, part: str, at: float) -> Reason | None:
        """What the sensors of its node say. A rank's device is the one at its place among the ranks of the node."""
        node = places.of(one.ranks[0])
        if not node:
            return None
        place = None
        if one.kind is Kind.RANK:
            place = int(np.flatnonzero(places.mates(one.ranks[0]) == one.ranks[0])[0])
        cause = {"transfer": "slow_link", "data": "data_loading"}.get(part, part)
        return machines.why(node, places.names, cause=cause, place=place, at=at)

    def _is_stage(self, late: list[Late], places: Places) -> bool:
        told = self._role is not None or told_roles(self.facts, self._own.ranks) is not None
        return not told and may_be_stage(late, places) and seen_roles(self._own.suspects()) is not None

    def _many(self, late: list[Late], board: Board, places: Places) -> Iterator[Finding]:
        """Many ranks are late together: stages that nobody told of, when it was so from the beginning; else what they share."""
        slow = self._own.suspects()
        stage = seen_roles(slow) if self._role is None and all(one.always for one in late) else None
        self._own.forget(np.flatnonzero(slow))
        if stage is not None:
            self._role, self._peers = stage, Peers(stage)
            self._own.forget(np.arange(self._own.ranks))
            if len({places.of(one.rank) for one in late}) > 1:
                return
        if _MANY in self.claims:
            return
        self.said += 1
        finding = self._telling(board).many(late, self._own.ranks, is_stage=stage is not None)
        level = float(np.median([one.excess for one in late]))
        ranks = [one.rank for one in late] if stage is None else []  # as a stage of its own nothing stands out of it any more
        self.claims[_MANY] = Claim(finding=finding, ranks=ranks, level=level, part="own", recent=level)
        yield finding

    def _telling(self, board: Board) -> Telling:
        return Telling(job=self.name, at=board.heard_at, step=board.step, said=self.said, act_share=self.limits.act_share)

    def _mean_of_recent(self) -> Recent:
        whole = np.stack([np.concatenate([parts, own[None]]) for parts, own in self._recent]).astype(np.float64)
        known = np.isfinite(whole)
        count = known.sum(axis=0)
        mean = np.where(count > 0, np.where(known, whole, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
        return Recent(parts=mean[:WIDTH], own_s=mean[WIDTH])

    # --- the job as a whole

    def _judge_pace(self, board: Board) -> Iterator[Finding]:
        seconds = middle(board.parts[STEP])
        parts = {name: value for name, row in _SHIFTS.items() if np.isfinite(value := middle(board.parts[row]))}
        shift = self._pace.take(board.step, seconds, parts)
        if self.shift is not None and self._pace.healed():
            yield from self._withdraw_shift(board.heard_at)
        if shift is None or self.claims or self._own.suspects().any():
            return  # a rank that is slow explains it
        yield from self._withdraw_shift(board.heard_at)
        self.said += 1
        self.shift = self._telling(board).shift(shift)
        yield self.shift

    def _withdraw_shift(self, at: float) -> Iterator[Finding]:
        if self.shift is not None:
            claim, self.shift = self.shift, None
            yield msgspec.structs.replace(claim, at=at, cleared=True, evidence=())

    # --- memory

    def memory(self) -> JobMemory:
        return JobMemory(
            gather=self.gather.memory(), own=self._own.memory(), sides={name: side.memory() for name, side in self._sides.items()},
            pace=self._pace, claims=self.claims, shift=self.shift, facts=self.facts, attempt=self.attempt, said=self.said,
            role=None if self._role is None else self._role.astype(np.int64).tobytes(),
            recent=[(parts.tobytes(), own.astype(np.float32).tobytes()) for parts, own in self._recent],
            turns=self._turns, per_token=self._per_token, began=self._began,
        )  # fmt: skip

    def remember(self, kept: JobMemory) -> None:
        self.gather.remember(kept.gather)
        self._own.remember(kept.own)
        for name, side in kept.sides.items():
            self._sides[name] = Side(self._watch(side.watch.ranks))
            self._sides[name].remember(side)
        self._pace, self.claims, self.shift, self.facts = kept.pace, kept.claims, kept.shift, kept.facts
        self.attempt, self.said = kept.attempt, kept.said
        self._role = None if kept.role is None else np.frombuffer(kept.role, dtype=np.int64)
        recent = [(np.frombuffer(p, dtype=np.float32).reshape(WIDTH, -1), np.frombuffer(o, dtype=np.float32)) for p, o in kept.recent]
        self._recent = deque(recent, maxlen=_RECENT)
        self._turns, self._per_token, self._began = kept.turns, kept.per_token, kept.began


def _comes_back(recent: Recent, blamed: list[int]) -> float:
    """The part of the lost time that would come back without these ranks: the job then waits for the next slowest."""
    own = recent.own_s
    usual, worst = middle(own), float(np.nanmax(own[blamed])) if np.isfinite(own[blamed]).any() else float("nan")
    rest = np.delete(own, blamed)
    after = float(np.nanmax(rest)) if np.isfinite(rest).any() else usual
    return float(np.clip((worst - after) / (worst - usual), 0.0, 1.0)) if worst > usual else 0.0



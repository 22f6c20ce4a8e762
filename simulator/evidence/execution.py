"""Who waits for whom: every rank runs its program, an operation ends when all its members' devices have come to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from simulator.evidence.acts import Act, Op
from simulator.evidence.groups import PIPELINE, Layout
from simulator.evidence.stall import HOST as OF_HOST
from simulator.evidence.stall import Kind, Stall

_LAUNCH_S = 0.0001
_COLLECTIVE_S = 0.0008
_AT_ONCE = frozenset({Op.LOAD, Op.SAVE, Op.SETTLE})
_NEVER = float("nan")
_SPAN = 1 << 20  # operations of one group, or of one pair, in a step: far more than there are


@dataclass(slots=True)
class Meeting:
    """An operation that members come to.

    missing: how many have not; at: when the last so far came; odd: they do not fit; waiting: (rank, act, part) that it holds
    """

    missing: int
    at: float = 0.0
    odd: bool = False
    waiting: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Line:
    """One rank as it goes through its program. at: the act where its stream stands; entered: acts that the host has launched.

    issued, ended: seconds from the step's beginning by act, NaN for never; open: operations beside the stream, act -> parts not ended
    parts: of the act where the stream stands, those that have ended, and when
    """

    acts: tuple[Act, ...]
    stall: Stall | None
    pace: float
    at: int = 0
    now: float = 0.0
    left: int = 0
    entered: int = 0
    host_at: int = 0
    issued: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    open: dict[int, int] = field(default_factory=dict)
    met: dict[int, int] = field(default_factory=dict)
    parts: dict[int, float] = field(default_factory=dict)

    def done(self, act: int) -> bool:
        return self.ended[act] == self.ended[act]

    @property
    def fired(self) -> bool:
        """Whether the rank has come to where it stalls."""
        return self.stall is not None and self.at >= self.stall.at


class Execution:
    """One step of all ranks. programs: by rank; stalls: by rank; paces: how much longer each rank computes than its model says.

    depth: how many acts a host runs ahead of its device. The work is linear in the acts of all ranks.
    """

    def __init__(
        self,
        layout: Layout,
        programs: Sequence[tuple[Act, ...]],
        stalls: Mapping[int, Stall],
        paces: Sequence[float],
        *,
        depth: int,
    ) -> None:
        self.layout, self.depth = layout, depth
        self.meetings: dict[int, Meeting] = {}
        self.lines = [Line(acts, stalls.get(r), paces[r]) for r, acts in enumerate(programs)]
        self._groups = _numbers(layout)
        self._pipes = [group.ranks if (group := layout.group(r, PIPELINE)) else (r,) for r in range(layout.world)]
        self._ready: list[int] = list(range(layout.world))
        for line in self.lines:
            line.issued = [_NEVER] * len(line.acts)
            line.ended = [_NEVER] * len(line.acts)
        while self._ready:
            self._go(self._ready.pop())
        for line in self.lines:
            self._run_ahead(line)

    # --- devices

    def _go(self, rank: int) -> None:
        """Run a rank's stream until it has to wait."""
        line = self.lines[rank]
        stall = line.stall
        stop = stall.at if stall and (stall.kind in OF_HOST or stall.kind is Kind.DEVICE_BEFORE) else -1
        inside = stall.at if stall and stall.kind is Kind.DEVICE_IN else -1
        acts = line.acts
        while (at := line.at) < len(acts) and at != stop:
            act = acts[at]
            line.now += _LAUNCH_S + act.work_s * line.pace
            line.issued[at] = line.now
            if act.op is Op.SETTLE:
                if line.open:
                    return
            elif act.group:
                parts = self._come(rank, line, act, at, held=at == inside)
                if act.beside:
                    if parts:
                        line.open[at] = parts
                        line.at += 1
                        continue
                elif parts:
                    line.left = parts
                    return
            if at == inside:
                return
            line.ended[at] = line.now
            line.at += 1

    def _come(self, rank: int, line: Line, act: Act, at: int, *, held: bool) -> int:
        """Come to an operation; returns how many of its parts have not ended."""
        waits = 0
        line.parts.clear()
        for part, (key, size) in enumerate(self._keys(rank, line, act)):
            meeting = self.meetings.get(key)
            if meeting is None:
                meeting = self.meetings[key] = Meeting(size)
            meeting.missing -= 1
            meeting.odd = meeting.odd or (act.odd and not act.parts)
            if line.now > meeting.at:
                meeting.at = line.now
            if meeting.missing or meeting.odd:
                meeting.waiting.append((rank, at, part))
                waits += 1
            else:
                end = meeting.at + _COLLECTIVE_S
                line.parts[part] = end
                for other, its, which in meeting.waiting:
                    self._end(other, its, which, end)
                meeting.waiting.clear()
                line.now = max(line.now, end) if not act.beside else line.now
                if act.beside:
                    line.ended[at] = end
            if held:
                # the others go on; this one's device does not come back
                meeting.waiting = [w for w in meeting.waiting if w[0] != rank]
                waits += not meeting.missing
        return waits

    def _keys(self, rank: int, line: Line, act: Act) -> list[tuple[int, int]]:
        if not act.parts:
            group, size = self._groups[rank][act.group]
            number = line.met[group] = line.met.get(group, -1) + 1
            return [(group * _SPAN + number, size)]
        keys, pipe, world = [], self._pipes[rank], self.layout.world
        for part in act.parts:
            peer = pipe[part.peer]
            pair = -1 - (rank * world + peer if part.sends else peer * world + rank)
            side = pair * 2 + part.sends  # each end counts for itself
            number = line.met[side] = line.met.get(side, -1) + 1
            keys.append((pair * _SPAN + number, 2))
        return keys

    def _end(self, rank: int, at: int, part: int, end: float) -> None:
        line = self.lines[rank]
        stall = line.stall
        if stall is not None and stall.kind is Kind.DEVICE_IN and stall.at == at:
            return
        if at in line.open:
            line.open[at] -= 1
            if line.open[at]:
                return
            del line.open[at]
            line.ended[at] = end
            if line.open or line.at >= len(line.acts) or line.acts[line.at].op is not Op.SETTLE or line.at == at:
                return
            if line.issued[line.at] != line.issued[line.at]:
                return
        elif line.at == at:
            line.left -= 1
            line.parts[part] = end
            if line.left:
                line.now = max(line.now, end)
                return
        line.now = max(line.now, end)
        line.ended[line.at] = line.now
        line.at += 1
        self._ready.append(rank)

    # --- hosts

    def _run_ahead(self, line: Line) -> None:
        """How far a host has launched acts that its device has not come to yet."""
        stall = line.stall
        stop = stall.at if stall and stall.kind in OF_HOST else len(line.acts)
        at, most = line.at, line.at + self.depth
        while at < min(stop, len(line.acts)):
            # what needs no device is done at once; a launch finds no room in the end
            if line.acts[at].op is Op.SYNCHRONIZE or (at >= most and line.acts[at].op not in _AT_ONCE):
                break
            at += 1
        line.entered = line.host_at = at

    # --- what came of it

    def waited_for(self, rank: int) -> bool:
        """Whether a peer stands in an operation that this rank has yet to come to, or has finished the one that its device does not."""
        line = self.lines[rank]
        if line.stall is not None and line.stall.kind is Kind.DEVICE_IN:
            return self._is_behind(rank, line)
        before = dict(line.met)
        ahead = [key for act in line.acts[line.at :] if act.talks for key, _ in self._keys(rank, line, act)]
        line.met = before
        return any((m := self.meetings.get(key)) is not None and bool(m.waiting) for key in ahead)

    def _is_behind(self, rank: int, line: Line) -> bool:
        group, _ = self._groups[rank][line.acts[line.at].group]
        meeting = self.meetings.get(group * _SPAN + line.met.get(group, -1))
        return line.issued[line.at] == line.issued[line.at] and meeting is not None and not meeting.missing


def _numbers(layout: Layout) -> list[dict[str, tuple[int, int]]]:
    """Of each rank: description of a group -> its number and size."""
    return [{g.desc: (int(g.name), g.size) for g in groups} for groups in layout.own]


def paces(rng: np.random.Generator, ranks: int) -> list[float]:
    """How ranks differ by nature: half a percent."""
    return [float(p) for p in np.clip(rng.normal(1.0, 0.005, ranks), 0.98, 1.03)]

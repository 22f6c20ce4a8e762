"""What a rank's flight recorder holds: the records of its last steps, numbered on from its first, in columns."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simulator.chance import stream
from simulator.evidence.course import Course
from simulator.evidence.records import Plan, Row
from simulator.evidence.scene import Backend

_POLL_NS = 100_000_000  # how often the watchdog looks
PENDING, BARE, STARTED, DONE = range(4)
STATES = ("scheduled", "scheduled", "started", "completed")


@dataclass
class Ring:
    """A rank's records, oldest first, in columns of one length. row: index into rows; state: see `STATES`; times in ns."""

    rows: list[Row]
    row: np.ndarray
    state: np.ndarray
    columns: dict[str, np.ndarray]
    status: dict[str, tuple[int, int, int]]


def ring(course: Course, rank: int) -> Ring:
    """What a rank's recorder holds when the evidence is taken."""
    recording = course.scene.recording
    portions: list[dict[str, np.ndarray]] = []
    status = Status(recording.timing)
    rows: dict[Row, int] = {}
    known: dict[Plan, np.ndarray] = {}
    room = recording.ring
    phase = int(stream(course.scene.seed, "poll", course.scene.node(rank), rank).integers(_POLL_NS))
    for plan, step in _newest_first(course, rank):
        portion = _portion(course, rank, plan, step=step, phase=phase)
        now = step == course.scene.step
        keep = portion["act"] < course.line(rank).entered if now else np.ones(plan.size, dtype=bool)
        status.take(plan, portion, keep)
        if recording.backend is Backend.GLOO:
            keep = keep & ~plan.p2ps  # it records no transfers
        kept = np.flatnonzero(keep)[-room:] if room else np.zeros(0, dtype=int)
        room -= len(kept)
        if plan not in known:
            known[plan] = np.asarray([rows.setdefault(row, len(rows)) for row in plan.rows], dtype=np.int64)[plan.row]
        portion["row"] = known[plan]
        portions.append({name: column[kept] for name, column in portion.items()})
        if not room and step < course.scene.step:
            break
    status.rest(course.before(course.stages[rank], step)[1])
    joined = {name: np.concatenate([portion[name] for portion in reversed(portions)]) for name in portions[0]}
    found = Ring(list(rows), joined.pop("row"), joined.pop("state"), joined, status.told())
    return _only_active(found) if recording.only_active and recording.backend is Backend.NCCL else found


def _newest_first(course: Course, rank: int) -> Iterator[tuple[Plan, int]]:
    """The plan of each step, and which it is; -1 is the start."""
    stage, step = course.stages[rank], course.scene.step
    yield course.plan_now(rank), step
    for past in range(step - 1, -1, -1):
        yield course.plan(stage, saving=course.saves(past)), past
    yield course.starting, -1


def _numbers(course: Course, stage: int, plan: Plan, step: int) -> dict[str, np.ndarray]:
    """The numbers that a step's records have: the same on all ranks of a stage that run the same program."""
    known = course.numbered.get((stage, step))
    if known is not None and len(known["op"]) == plan.size and step < course.scene.step:
        return known
    base, before = course.before(stage, step)
    none = np.zeros(3, dtype=np.int64)
    offsets = np.asarray([before.get(desc, none) for desc in plan.groups], dtype=np.int64).reshape(-1, 3)[plan.group]
    numbers = {
        "record_id": base + np.arange(plan.size), "collective": plan.collective + offsets[:, 0], "p2p": plan.p2p + offsets[:, 1],
        "op": plan.op + offsets[:, 2],
    }  # fmt: skip
    return course.numbered.setdefault((stage, step), numbers) if step < course.scene.step else numbers


def _portion(course: Course, rank: int, plan: Plan, *, step: int, phase: int) -> dict[str, np.ndarray]:
    """The columns of one step's records. phase: of the watchdog's looks, in ns"""
    scene = course.scene
    now = step == scene.step
    if step < 0:
        launched, ended = np.arange(8) * 0.1 - 60.0, np.arange(8) * 0.1 - 59.95
    else:
        launched, ended = course.times(rank, now=now)
    began_ns = int((course.began(max(step, 0)) + scene.skew(rank)) * 1e9)
    # parts of one joint launch, and what the host launches on end, differ by microseconds
    created = began_ns + (launched[plan.act] * 1e9).astype(np.int64) + np.arange(plan.size) * 1000
    end = ended[plan.act]
    done = ~np.isnan(end)
    if now:
        _single_transfers(course, rank, plan, end)
        done = ~np.isnan(end)
    ended_ns = began_ns + (np.nan_to_num(end) * 1e9).astype(np.int64)
    completed = np.where(done, (ended_ns - phase) // _POLL_NS * _POLL_NS + _POLL_NS + phase, 0)
    issued = ~np.isnan(np.asarray(course.line(rank).issued)[plan.act]) if now else done
    state = np.where(plan.bare, BARE, np.where(done, DONE, np.where(issued & scene.recording.timing, STARTED, PENDING)))
    return {
        **_numbers(course, course.stages[rank], plan, step), "created": created, "completed": completed,
        "started": np.maximum(created, completed - _POLL_NS), "duration": (ended_ns - created) / 1e6, "state": state, "act": plan.act,
        "row": plan.row,
    }  # fmt: skip


def _single_transfers(course: Course, rank: int, plan: Plan, end: np.ndarray) -> None:
    """Of transfers launched one by one each ends by itself, though the stream waits for all of them."""
    line = course.line(rank)
    if course.scene.model.batched_transfers or line.at >= len(line.acts) or not line.acts[line.at].parts:
        return
    for n in np.flatnonzero(plan.act == line.at).tolist():
        end[n] = line.parts.get(int(plan.part[n]), np.nan)


class Status:
    """What the process counts of each group: the numbers of the last call enqueued, started and completed, of whatever kind."""

    def __init__(self, timing: bool) -> None:
        self._found: tuple[dict[str, int], dict[str, int], dict[str, int]] = ({}, {}, {})
        self._timing = timing

    def take(self, plan: Plan, portion: dict[str, np.ndarray], kept: np.ndarray) -> None:
        """Look at a step, the newest first: what is known stays. kept: whether each record was made"""
        states, made = portion["state"], kept & ~plan.bare
        for found, fits in zip(self._found, (made, made & (states > PENDING), made & (states == DONE)), strict=True):
            for desc, n in plan.last_of(fits).items():
                name = "p2p" if plan.rows[plan.row[n]].p2p else "collective"
                found.setdefault(desc, int(portion[name][n]))

    def rest(self, numbers: dict[str, np.ndarray]) -> None:
        """Groups that were last called before what was looked at."""
        for found in self._found:
            for desc, (collective, p2p, _) in numbers.items():
                if collective or p2p:
                    found.setdefault(desc, int(collective or p2p))

    def told(self) -> dict[str, tuple[int, int, int]]:
        enqueued, started, completed = self._found
        return {
            desc: (number, started.get(desc, -1) if self._timing else -1, completed.get(desc, -1))
            for desc, number in enqueued.items()
        }


def _only_active(whole: Ring) -> Ring:
    """Without what the recorder knows to have ended. Parts of joint launches stay: their end it never learns."""
    keep = whole.state != DONE
    return Ring(
        whole.rows, whole.row[keep], whole.state[keep], {n: c[keep] for n, c in whole.columns.items()}, whole.status
    )

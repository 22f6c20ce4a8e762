"""One look at all targets of a kind: each against its like in the job and against the others of its node, and who is odd."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detectors.models.places import Places
from detectors.models.scored import Out
from detectors.models.table import Table
from detectors.peers import LEAST, Compared, blocks, compare
from holdfast.topology import Kind, Target

# What of a node does the same work as the others of its kind there.
ALIKE = frozenset({Kind.DEVICE, Kind.NIC})
COMPARED = ALIKE | {Kind.NODE, Kind.PART}
# Where more of a group is off than this share, it does not do one work, and nobody of it is the odd one.
_FEW_OF_ROLE, _FEW_OF_NODE = 0.2, 0.25
_MOST_OF_NODE = 0.5


class Look(NamedTuple):
    """z: robust z-score of each row and signal that every comparison there is agrees on, 0 where they do not, NaN: not compared

    odd: bool, beyond the limit on a side that is a trouble; far: against the like elsewhere, 0 where many of them are odd
    across, within: the two comparisons as they are; slots: label of each row's like
    """

    z: np.ndarray
    far: np.ndarray
    odd: np.ndarray
    across: Compared
    within: Compared
    slots: np.ndarray


def labels(keys: Sequence[object]) -> np.ndarray:
    """A number for each key, the same for equal ones; -1 for None."""
    numbers: dict[object, int] = {}
    return np.array([-1 if key is None else numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def groups(table: Table, places: Places, unsettled: frozenset[str]) -> tuple[np.ndarray, np.ndarray]:
    """Labels of each row's like: (in the same slot of nodes in the same role of the job, on the same node).

    Where too few nodes share a slot, all devices of the role are each other's like. Jobs that have just changed are in neither.
    """
    slots: list[tuple[str, ...] | None] = []
    roles: list[tuple[str, ...] | None] = []
    nodes: list[str | None] = []
    for target, read in zip(table.targets, table.jobs, strict=True):
        job = places.job_of(target.node, read)
        calm = job not in unsettled
        role = (job, places.role(job, target.node)) if job and calm and target.node else None
        roles.append(role if target.kind in ALIKE else None)
        slot = "" if target.kind is Kind.NODE else target.id
        slots.append((*role, slot) if role is not None else None)
        nodes.append(target.node if calm and target.node and target.kind in ALIKE else None)
    own, whole = labels(slots), labels(roles)
    sizes = np.bincount(own[own >= 0], minlength=1)
    alone = (own >= 0) & (whole >= 0) & (sizes[np.maximum(own, 0)] < LEAST)
    return np.where(alone, whole + len(sizes), own), labels(nodes)


def look(table: Table, places: Places, *, fresh_after: float, settled_before: float, limit: float) -> Look:
    """Compare everything. fresh_after: readings from before are none; limit: so many robust standard deviations are odd"""
    floor, ratio, side = table.sides()
    unsettled = places.unsettled(settled_before)
    key = table.version, len(table), places.version, unsettled
    if table.grouped is None or table.grouped[0] != key:
        slots, nodes = groups(table, places, unsettled)
        table.grouped = key, slots, blocks(slots), blocks(nodes)
    _, slots, like, beside = table.grouped
    values = np.where(table.at >= fresh_after, table.values, np.nan)
    across = compare(values, like, floor=floor, ratio=ratio)
    within = compare(values, beside, floor=floor, ratio=ratio)
    far, near = _few(across.z, like, side, limit, _FEW_OF_ROLE), _few(within.z, beside, side, limit, _FEW_OF_NODE)
    agree = np.sign(far) == np.sign(near)
    lesser = np.where(np.abs(far) < np.abs(near), far, near)
    z = np.where(np.isnan(far), near, np.where(np.isnan(near), far, np.where(agree, lesser, 0.0)))
    return Look(z, far, _beyond(z, side, limit), across, within, slots)


def _beyond(z: np.ndarray, side: np.ndarray, limit: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.asarray(((z >= limit) & (side >= 0)) | ((z <= -limit) & (side <= 0)))


def _few(z: np.ndarray, members: list[np.ndarray], side: np.ndarray, limit: float, share: float) -> np.ndarray:
    """The scores, 0 for a signal of a group of which more than a few are odd: its members are no peers in it."""
    odd = _beyond(z, side, limit)
    calm = z.copy()
    for rows in members:
        count = odd[rows].sum(axis=1)
        many = count > np.maximum(1, np.floor(share * rows.shape[1]))
        if many.any():
            calm[rows] = np.where(many[:, None, :] & np.isfinite(z[rows]), 0.0, calm[rows])
    return calm


def outs(table: Table, places: Places, seen: Look) -> list[Out]:
    """Each odd signal of a target."""
    cells = zip(*(index.tolist() for index in np.nonzero(seen.odd)), strict=True)
    return [_told(table, places, seen, row, column) for row, column in cells]


def told(table: Table, places: Places, seen: Look, row: int) -> list[Out]:
    """Each signal of a target that is compared, odd or not."""
    return [_told(table, places, seen, row, column) for column in np.flatnonzero(np.isfinite(seen.z[row])).tolist()]


def _told(table: Table, places: Places, seen: Look, row: int, column: int) -> Out:
    by_role = bool(np.isfinite(seen.across.z[row, column]))
    target = table.targets[row]
    by = seen.across if by_role else seen.within
    return _out(table, places, target, row, column, seen.z[row, column], by, _words(by_role, target.kind))


def of_nodes(table: Table, places: Places, seen: Look, limit: float) -> list[Out]:
    """Nodes at least half of whose devices stand out from their like elsewhere, on the same side: the node is odd, no device of it."""
    side = table.sides()[2]
    odd = _beyond(seen.far, side, limit)
    if not odd.any() or table.targets[0].kind not in ALIKE:
        return []
    found = []
    by_node: dict[str, list[int]] = {}
    for row in np.flatnonzero(odd.any(axis=1)).tolist():
        by_node.setdefault(table.targets[row].node, []).append(row)
    for node, rows in by_node.items():
        whole = [n for n, target in enumerate(table.targets) if target.node == node]
        for column in np.flatnonzero(odd[rows].sum(axis=0) >= max(LEAST, _MOST_OF_NODE * len(whole))).tolist():
            if abs(float(np.median(seen.far[whole, column]))) >= limit:
                row = next(n for n in rows if odd[n, column])
                target = Target(Kind.NODE, node, node=node)
                words = "like devices of other nodes in its role"
                found.append(_out(table, places, target, row, column, seen.across.z[row, column], seen.across, words))
    return found


def shared(table: Table, places: Places, seen: Look, limit: float) -> list[Out]:
    """Counters that grow at the same slot of half of a job's nodes and at no other slot of them: what these ports have in common."""
    side = table.sides()[2]
    counts = np.array([one.is_counter for one in table.columns])
    odd = _beyond(seen.within.z, side, limit) & counts
    found = []
    for label in np.unique(seen.slots[odd.any(axis=1) & (seen.slots >= 0)]).tolist():
        rows = np.flatnonzero(seen.slots == label)
        if len(rows) < LEAST:
            continue
        ids = {table.targets[row].id for row in rows.tolist()}
        for column in np.flatnonzero(2 * odd[rows].sum(axis=0) >= len(rows)).tolist():
            if len(ids) == 1:
                row = int(rows[np.argmax(odd[rows, column])])
                like = table.targets[row]
                job = places.job_of(like.node, table.jobs[row])
                target = Target(like.kind, like.id, job=job)
                words = f"at this place of {int(odd[rows, column].sum())} of {len(rows)} nodes, each against the others of its node, which"
                found.append(_out(table, places, target, row, column, seen.within.z[row, column], seen.within, words))
    return found


def _words(by_role: bool, kind: Kind) -> str:
    if kind is Kind.NODE:
        return "nodes in its role of the job"
    return "its like on nodes in the same role of the job" if by_role else "the others of its node"


def _out(table: Table, places: Places, target: Target, row: int, column: int, z: float, by: Compared, words: str) -> Out:
    job = places.job_of(table.targets[row].node, table.jobs[row])
    return Out(
        target, job, table.columns[column].name, float(table.values[row, column]), float(by.middle[row, column]), float(z),
        int(by.known[row, column]) - 1, words,
    )  # fmt: skip

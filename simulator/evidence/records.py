"""Acts -> the recorder's records: what each act leaves, and how a process numbers them within its groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulator.evidence.acts import Act, Sizes
from simulator.evidence.groups import PIPELINE


@dataclass(frozen=True)
class Row:
    """What all records of one call have in common. bare: part of a joint launch, whose end the recorder never learns."""

    group: str
    name: str
    inputs: Sizes
    outputs: Sizes
    dtype: str
    p2p: bool
    bare: bool
    place: str
    layer: int


class Plan:
    """The records of a program, in columns of one length; numbers count from the program's own beginning, first 1.

    rows: the different calls; row, act, part of the act, group: index of each record's
    collective, p2p, op: the group's counters after it, as ProcessGroupNCCL counts: collectives and transfers apart, a joint
    launch once, every single call by op
    batched: transfers are launched jointly; placed: calls from different places of the program are told apart
    """

    def __init__(self, acts: Sequence[Act], stage: int, *, batched: bool, placed: bool = False) -> None:
        found: dict[Row, int] = {}
        counters: dict[str, list[int]] = {}
        columns: list[tuple[int, ...]] = []
        for number, act in enumerate(acts):
            if not act.talks:
                continue
            counter = counters.setdefault(act.group, [0, 0, 0])
            joint = batched and bool(act.parts)
            counter[1] += joint
            for part, row in enumerate(_rows(act, stage, joint=joint, placed=placed)):
                counter[0] += not row.p2p
                counter[1] += row.p2p and not joint
                counter[2] += not (joint and not row.bare)
                known = found.setdefault(row, len(found))
                columns.append((known, number, part, list(counters).index(act.group), *counter))
        self.rows, self.groups = list(found), list(counters)
        table = np.asarray(columns, dtype=np.int64).reshape(-1, 7)
        self.row, self.act, self.part, self.group, self.collective, self.p2p, self.op = table.T
        self.totals = {desc: tuple(counter) for desc, counter in counters.items()}

    @property
    def size(self) -> int:
        return len(self.row)

    @cached_property
    def bare(self) -> np.ndarray:
        return np.asarray([row.bare for row in self.rows], dtype=bool)[self.row]

    @cached_property
    def p2ps(self) -> np.ndarray:
        return np.asarray([row.p2p for row in self.rows], dtype=bool)[self.row]

    def last_of(self, fits: np.ndarray) -> dict[str, int]:
        """The last record of each group among those that fit."""
        found = np.full(len(self.groups), -1)
        found[self.group[fits]] = np.flatnonzero(fits)  # the last assignment of a place stays
        return {desc: int(n) for desc, n in zip(self.groups, found, strict=True) if n >= 0}


def _rows(act: Act, stage: int, *, joint: bool, placed: bool) -> list[Row]:
    place = act.place if placed else ""
    if not act.parts:
        return [Row(act.group, act.op.value, act.inputs, act.outputs, act.dtype, False, False, place, act.layer)]
    rows = []
    for part in act.parts:
        name = f"send {stage}->{part.peer}" if part.sends else f"recv {stage}<-{part.peer}"
        rows.append(Row(PIPELINE, name, act.inputs, act.outputs, act.dtype, True, joint, place, 0))
    if joint:
        rows.append(Row(PIPELINE, "coalesced", act.inputs, act.outputs, act.dtype, True, False, place, 0))
    return rows

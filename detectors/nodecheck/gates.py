"""Which checks can have anything to say of a batch: most batches are healthy, and are passed over in a few vector operations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.nodecheck.checks import Checks

OPS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal}


@dataclass(frozen=True)
class Gates:
    """The checks that a batch's signals allow, by what must hold first.

    ids: check ids in the order of the table, with their rows
    always: rows that nothing cheap rules out; constant: per operator (columns, numbers, rows); moving: (column, row) of counters
    low, high: what each column can be
    """

    ids: list[tuple[str, list[int]]]
    always: frozenset[int]
    constant: tuple[tuple[np.ufunc, np.ndarray, np.ndarray, np.ndarray], ...]
    moving: tuple[np.ndarray, np.ndarray]
    low: np.ndarray
    high: np.ndarray

    def open(self, values: np.ndarray, by: np.ndarray | None) -> set[int]:
        """Rows of which the first condition holds for some target. by: differences to the batch before, None without one."""
        rows = set(self.always)
        for op, columns, numbers, who in self.constant:
            hit = op(values[:, columns], numbers).any(axis=0)
            if hit.any():
                rows.update(who[hit].tolist())
        columns, who = self.moving
        if len(columns):
            moved = (by[:, columns] != 0.0).any(axis=0) if by is not None else np.ones(len(columns), dtype=bool)
            rows.update(who[moved].tolist())
        return rows


def gates_of(checks: Checks, fits: Sequence[int], signals: Sequence[str]) -> Gates:
    """Sort the rows that fit a batch of these signals by their gates."""
    column = {signal: n for n, signal in enumerate(signals)}
    always: set[int] = set()
    constant: dict[str, list[tuple[int, float, int]]] = {}
    moving: list[tuple[int, int]] = []
    for row in fits:
        check = checks.rows[row]
        gate = next((c for c in checks.conditions[row] if c.op != "missing" and not c.other and c.signal in column), None)
        if check.grows or check.falls:
            moving.append((column[check.grows or check.falls], row))
        elif gate is not None:
            constant.setdefault(gate.op, []).append((column[gate.signal], gate.number, row))
        else:
            always.add(row)
    here = set(fits)
    ranges = [checks.ranges.get(signal, (-np.inf, np.inf)) for signal in signals]
    return Gates(
        ids=[(id, rows) for id, every in checks.by_id.items() if (rows := [n for n in every if n in here])],
        always=frozenset(always),
        constant=tuple((OPS[op], *_columns(found)) for op, found in constant.items()),
        moving=(np.array([c for c, _ in moving], dtype=np.int64), np.array([r for _, r in moving], dtype=np.int64)),
        low=np.array([low for low, _ in ranges]), high=np.array([high for _, high in ranges]),
    )  # fmt: skip


def _columns(found: list[tuple[int, float, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    columns, numbers, rows = zip(*found, strict=True)
    return np.array(columns, dtype=np.int64), np.array(numbers), np.array(rows, dtype=np.int64)

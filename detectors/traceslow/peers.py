"""Who does the same work in a job: the roles of ranks, told by its layout or seen in its times, and medians over them."""

from collections.abc import Mapping

import numpy as np

from detectors.peers import LEAST
from holdfast.verdict import Json

# Dimensions of a job's grid, the one whose neighbours have neighbouring ranks first: what Megatron-LM documents as default.
_ORDER = "tp-cp-ep-dp-pp"
_MOST_STAGES = 64
# So much of a stage is slow where the stage is, and so little of another.
_MOSTLY, _HARDLY = 0.8, 0.1


class Peers:
    """Medians over ranks of one role. role: int64, shape (ranks,)"""

    def __init__(self, role: np.ndarray) -> None:
        _, self.role = np.unique(role, return_inverse=True)
        self._sizes = np.bincount(self.role, minlength=1)
        self._order = np.argsort(self.role, kind="stable")
        starts = np.cumsum(self._sizes) - self._sizes
        self._column = np.empty(len(role), dtype=np.int64)
        self._column[self._order] = np.arange(len(role)) - np.repeat(starts, self._sizes)
        self._even = bool((self._sizes == self._sizes[0]).all())

    @property
    def roles(self) -> int:
        return len(self._sizes)

    def medians(self, values: np.ndarray) -> np.ndarray:
        """For each rank the median of its role, NaN where fewer than four are known; values: shape (ranks,)."""
        known = np.isfinite(values)
        if self._even and bool(known.all()):
            width = int(self._sizes[0])
            if width < LEAST:
                return np.full(len(values), np.nan)
            if self.roles == 1:
                return np.full(len(values), _middle(values.reshape(1, -1))[0])
            return np.asarray(_middle(values[self._order].reshape(-1, width))[self.role])
        table = np.full((self.roles, int(self._sizes.max(initial=1))), np.inf)
        table[self.role[known], self._column[known]] = values[known]
        table.sort(axis=1)
        count = np.bincount(self.role[known], minlength=self.roles)
        every = np.arange(self.roles)
        with np.errstate(invalid="ignore"):
            found = 0.5 * (table[every, np.maximum(count - 1, 0) // 2] + table[every, np.minimum(count // 2, table.shape[1] - 1)])
        return np.asarray(np.where(count >= LEAST, found, np.nan)[self.role])


def _middle(table: np.ndarray) -> np.ndarray:
    """The median of each row, all of it known; to look for both values in the middle at once takes four times as long."""
    high = table.shape[1] // 2
    ordered = np.partition(table, high, axis=1)
    low = ordered[:, :high].max(axis=1) if table.shape[1] % 2 == 0 else ordered[:, high]
    return np.asarray(0.5 * (low + ordered[:, high]))


def told_roles(facts: Mapping[str, Json], ranks: int) -> np.ndarray | None:
    """Roles by the `layout` that whoever started the job told: its sizes by dimension, and `order` ("tp-cp-ep-dp-pp").

    Ranks of one stage and tensor position are peers, all of a stage where the data dimension is under four. None: not told,
    or it does not fit the number of ranks.
    """
    layout = facts.get("layout")
    if not isinstance(layout, Mapping):
        return None
    order = str(layout.get("order") or _ORDER).lower().split("-")[:8]
    sizes = {name: size for name in order if isinstance(size := layout.get(name, 1), int) and 0 < size <= ranks}
    if "pp" not in sizes or len(set(order)) != len(order) or len(sizes) < len(order):
        return None
    rest = 1
    for name in order:
        if name != "dp":
            rest *= sizes[name]
    if ranks % rest:
        return None
    if "dp" in order:
        sizes["dp"] = ranks // rest
    elif rest != ranks:
        return None
    place = np.arange(ranks)
    at: dict[str, np.ndarray] = {}
    for name in order:
        at[name] = place % sizes[name]
        place = place // sizes[name]
    tensor = at.get("tp", np.zeros(ranks, dtype=np.int64)) if sizes.get("dp", 1) >= LEAST else 0
    return np.asarray(at["pp"] * sizes.get("tp", 1) + tensor)


def seen_roles(slow: np.ndarray) -> np.ndarray | None:
    """Roles by which ranks are slow together since the beginning: whole stages, as blocks of ranks or every n-th; None: no such.

    slow: bool, shape (ranks,). The fewest stages that fit are believed; a stage of fewer than four has no peers.
    """
    ranks = len(slow)
    number = np.arange(ranks)
    for stages in range(2, min(_MOST_STAGES, ranks // LEAST) + 1):
        if ranks % stages:
            continue
        for stage in (number // (ranks // stages), number % stages):
            part = np.bincount(stage, weights=slow, minlength=stages) * stages / ranks
            if ((part >= _MOSTLY) | (part <= _HARDLY)).all() and 0 < (part >= _MOSTLY).sum() < stages:
                return stage
    return None

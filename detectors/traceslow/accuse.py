"""Who is to blame when ranks are late: one rank, a whole node, a link between two, or nobody, because a stage is heavy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.traceslow.watch import Late, Watch
from holdfast.topology import Kind

# So much of a node's ranks, slowed at least by so much of what the worst is, are the node.
_MOST_OF_NODE, _ALIKE = 0.75, 0.5
# More than this many ranks and this part of them are no stragglers: what they share is the suspect.
_FEW, _FEW_PART = 16, 0.05


@dataclass(frozen=True, kw_only=True)
class Accused:
    """Somebody to blame. id: as it is printed; excess: as a share of the peers' work; turned: it was not slow before"""

    kind: Kind
    id: str
    ranks: tuple[int, ...]
    excess: float
    since: float
    steps: int
    turned: bool


@dataclass(frozen=True)
class Places:
    """Which node holds which rank. node: for each rank a place in names, -1: not told"""

    node: np.ndarray
    names: Sequence[str]

    def of(self, rank: int) -> str:
        place = int(self.node[rank])
        return self.names[place] if place >= 0 else ""

    def mates(self, rank: int) -> np.ndarray:
        """All ranks of the node of a rank."""
        place = self.node[rank]
        return np.flatnonzero(self.node == place) if place >= 0 else np.array([rank])


def are_many(late: Sequence[Late], places: Places) -> bool:
    """Whether so many ranks on more than two nodes are late that no few machines explain it."""
    ranks = len(places.node)
    spread = len(late) > max(_FEW, int(_FEW_PART * ranks)) and len({places.of(one.rank) for one in late}) > 2
    return spread or len(late) > ranks // 2


def may_be_stage(late: Sequence[Late], places: Places) -> bool:
    """Whether those who are late always were, and are more than one node, or the first or last of few: so would a stage be."""
    nodes = {places.of(one.rank) for one in late}
    if not all(one.always for one in late) or "" in nodes:
        return False
    whole = sum(len(places.mates(one.rank)) for one in late[:1])
    ends = {places.of(0), places.of(len(places.node) - 1)}
    alone = len(nodes) == 1 and nodes <= ends and len(late) >= max(2, _MOST_OF_NODE * whole)
    return (len(nodes) > 1 and len(late) > whole) or (alone and len(places.names) <= _FEW)


def workers(late: Sequence[Late], watch: Watch, places: Places, claimed: frozenset[int]) -> list[Accused]:
    """Ranks, or nodes where most of a node is late by as much. late: the most first; claimed: of whom it has been said"""
    found: list[Accused] = []
    taken: set[int] = set()
    excess = {one.rank: one.excess for one in late}
    for one in late:
        if one.rank in taken:
            continue
        mates = places.mates(one.rank)
        usual = float(np.median([excess[rank] for rank in mates.tolist() if rank in excess]))
        with_it = np.isin(mates, list(claimed)) | (_slowed(watch, mates, slowly=one.slowly) > _ALIKE * usual)
        whole = 2 <= len(mates) < len(places.node) and with_it.sum() >= _MOST_OF_NODE * len(mates)
        found.append(_node(one, places) if whole else _rank(one))
        taken.update(found[-1].ranks)
    return found


def slow_for_long(found: Sequence[tuple[int, Late]], places: Places) -> list[Accused]:
    """The same of what only many steps show: (a node's place or -1, one of its ranks)."""
    return [_rank(one) if node < 0 else _node(one, places) for node, one in found]


def _rank(one: Late) -> Accused:
    return Accused(
        kind=Kind.RANK, id=str(one.rank), ranks=(one.rank,), excess=one.excess, since=one.since, steps=one.steps, turned=one.turned
    )  # fmt: skip


def _node(one: Late, places: Places) -> Accused:
    ranks = tuple(places.mates(one.rank).tolist())
    return Accused(
        kind=Kind.NODE, id=places.of(one.rank), ranks=ranks, excess=one.excess, since=one.since, steps=one.steps, turned=one.turned
    )  # fmt: skip


def _slowed(watch: Watch, ranks: np.ndarray, *, slowly: bool) -> np.ndarray:
    """Mean excess of ranks over the steps since they began to be late; 0 of those that are not."""
    if slowly:
        return np.asarray(watch.levels.long[ranks])
    return np.where(watch.evidence(ranks) > 0.2, watch.mean_excess(ranks), 0.0)


def links(late: Sequence[Late], places: Places) -> list[Accused]:
    """Two ranks whose transfers are long are a link, one is a rank at its end, one node's are the node; of others nobody is known."""
    ranks = sorted(one.rank for one in late)
    worst = late[0]
    say: Callable[..., Accused] = lambda kind, name: Accused(  # noqa: E731
        kind=kind, id=name, ranks=tuple(ranks), excess=worst.excess, since=worst.since, steps=worst.steps, turned=worst.turned
    )
    nodes = {places.of(rank) for rank in ranks}
    if len(ranks) == 1:
        return [say(Kind.RANK, str(ranks[0]))]
    if len(nodes) == 1 and "" not in nodes and len(ranks) > 2:
        return [say(Kind.NODE, nodes.pop())]
    return [say(Kind.LINK, "-".join(map(str, ranks)))] if len(ranks) == 2 else []

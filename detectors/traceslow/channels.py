"""Finds who communicates slowly: a link or a group whose transfers are long for long, while its peers' are not."""

from dataclasses import dataclass

import numpy as np

from detectors.traceslow.factors import Spell, lower_median, median_table, spells
from detectors.traceslow.graph import Meetings, is_p2p
from detectors.traceslow.trace import Operations

# Transfers vary more than computation; half as long again is what a healthy fabric shows too.
_MARGIN = 0.5
_MOST_CELLS = 8_000_000


@dataclass(frozen=True, kw_only=True)
class Channel:
    """Ranks (places) whose transfers are long. own_s: median of one of theirs, peers_s: of one of their peers', in the spell."""

    members: tuple[int, ...]
    operations: tuple[str, ...]
    spell: Spell
    own_s: float
    peers_s: float


def slow_channels(ops: Operations, met: Meetings, own_s: np.ndarray) -> tuple[list[Channel], np.ndarray]:
    """Channels with long transfers, the worst first, and for each operation how many times its usual length it has, shape (n,).

    Peers: links across the same two stages (all links, where there is one across each), groups doing the same operation.
    """
    longer = np.ones(len(own_s))
    meets = np.flatnonzero(met.channel >= 0)
    if not len(meets):
        return [], longer
    family = _families(ops, met, meets)
    found = []
    for one in np.unique(family).tolist():
        rows = meets[family == one]
        numbers, column = np.unique(met.channel[rows], return_inverse=True)
        if len(numbers) < 2 or len(numbers) * len(ops.steps) > _MOST_CELLS:
            continue  # nobody to compare with, or groups that no two steps have in common
        table = median_table(ops.step[rows], column, own_s[rows], (len(ops.steps), len(numbers)))
        level = np.maximum(lower_median(table, axis=1), 1e-9)[:, None]
        for spell in spells(table / level - 1.0, margin=_MARGIN):
            inside = slice(spell.first, spell.last + 1)
            own, peers = float(np.nanmedian(table[inside, spell.who])), float(np.nanmedian(level[inside]))
            hit = rows[(column == spell.who) & (ops.step[rows] >= spell.first) & (ops.step[rows] <= spell.last)]
            longer[hit] = max(1.0, own / peers)
            names = tuple(ops.names[code] for code in np.unique(ops.op[hit]).tolist())
            members = tuple(np.unique(ops.rank[hit]).tolist())
            found.append(Channel(members=members, operations=names, spell=spell, own_s=own, peers_s=peers))
    return sorted(found, key=lambda c: c.peers_s - c.own_s), longer


def _families(ops: Operations, met: Meetings, meets: np.ndarray) -> np.ndarray:
    """Which channels do the same: for each meeting operation a number."""
    p2p = np.array([is_p2p(name) for name in ops.names])[ops.op[meets]]
    lowest = np.full(int(met.channel.max()) + 1, np.iinfo(np.int64).max)
    highest = np.full(len(lowest), -1)
    stage = ops.pp[ops.rank[meets]]
    np.minimum.at(lowest, met.channel[meets], stage)
    np.maximum.at(highest, met.channel[meets], stage)
    boundary = lowest[met.channel[meets]] * (int(ops.pp.max()) + 2) + highest[met.channel[meets]]
    links = np.unique(np.stack([boundary, met.channel[meets]], axis=1)[p2p], axis=0)
    alone = len(links) == len(np.unique(links[:, 0]))
    return np.where(p2p, -1 - (0 if alone else boundary), ops.op[meets])

"""Judges a validation probe: matrix multiplications of every device, and transfers between pairs of nodes.

What is ordered when a rank is slow and nobody knows why: each device multiplies matrices for some seconds, and nodes exchange
data in pairs, in rounds in which every node has one partner (`rounds`), so that no two transfers share an adapter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.peers import LEAST, robust_z

# A device that reaches less than this part of its peers' rate is slow; without peers, of what is expected of it.
_SLOW, _EXPECTED = 0.95, 0.8
# A pair that reaches less than this part of the usual bandwidth is bad; a node, when so much of its pairs is.
_THIN, _MOSTLY = 0.8, 0.7
_Z = 6.0


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A device, a node or a pair of nodes ("n1-n2") that failed the probe. share: of the usual rate, 0..1"""

    kind: str
    id: str
    share: float
    text: str


@dataclass(frozen=True, kw_only=True)
class ProbeVerdict:
    """suspects: the slowest first; all_slow: nobody stands out, but all are far under what is expected; missing: what was not told"""

    suspects: tuple[Suspect, ...]
    all_slow: bool = False
    missing: tuple[str, ...] = ()


def rounds(nodes: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Pairs of nodes in rounds: each node meets each other once, and has one partner in a round (the circle method).

    Source: the schedule of round-robin tournaments, Kirkman 1847. Of an odd number one node rests in each round.
    """
    ring: list[str | None] = [*dict.fromkeys(nodes)]
    if len(ring) % 2:
        ring.append(None)
    found = []
    for _ in range(max(0, len(ring) - 1)):
        pairs = zip(ring[: len(ring) // 2], reversed(ring[len(ring) // 2 :]), strict=True)
        found.append([(one, other) for one, other in pairs if one is not None and other is not None])
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return found


def judge_multiplications(rates: Mapping[str, float], *, expected: float = 0.0) -> ProbeVerdict:
    """Who computes slowly. rates: device -> TFLOP/s reached, NaN or 0 of one that gave no answer; expected: TFLOP/s, 0: not known

    With fewer than four devices nobody is compared: then only what is expected tells.
    """
    names = sorted(rates)
    values = np.array([rates[name] for name in names], dtype=np.float64)
    silent = [name for name, value in zip(names, values.tolist(), strict=True) if not value > 0.0]
    values = np.where(values > 0.0, values, np.nan)
    usual = float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0
    known = int(np.isfinite(values).sum())
    against = usual if known >= LEAST else expected
    suspects = [Suspect(kind="device", id=name, share=0.0, text=f"{name} gave no answer to the multiplication") for name in silent]
    if against > 0.0:
        with np.errstate(invalid="ignore"):
            slow = values < (_SLOW if known >= LEAST else _EXPECTED) * against
            if known >= LEAST:
                slow &= robust_z(values, floor=0.005) < -_Z
        for n in np.flatnonzero(slow).tolist():
            text = f"{names[n]} multiplies at {values[n]:.0f} TFLOP/s, {'its peers' if known >= LEAST else 'expected'} {against:.0f}"
            suspects.append(Suspect(kind="device", id=names[n], share=round(float(values[n] / against), 4), text=text))
    return ProbeVerdict(
        suspects=tuple(sorted(suspects, key=lambda one: (one.share, one.id))),
        all_slow=bool(expected > 0.0 and 0.0 < usual < _EXPECTED * expected),
        missing=() if known >= LEAST or expected > 0.0 else ("four devices to compare, or the rate that is expected of one",),
    )


def judge_pairs(bandwidths: Mapping[tuple[str, str], float], *, expected: float = 0.0) -> ProbeVerdict:
    """Which node the bad pairs have in common, or which pairs are bad by themselves.

    bandwidths: (node, node) -> GB/s, in any direction, NaN or 0 of a pair that did not get through; expected: GB/s, 0: not known
    A node is blamed when most of its pairs are bad and its partners' other pairs are not; what then is left are links.
    """
    nodes = sorted({node for pair in bandwidths for node in pair})
    place = {node: n for n, node in enumerate(nodes)}
    table = np.full((len(nodes), len(nodes)), np.nan)
    for (one, other), value in bandwidths.items():
        if one != other:
            a, b = place[one], place[other]
            found = value if value > 0.0 else 0.0
            table[a, b] = table[b, a] = found if np.isnan(table[a, b]) else min(found, float(table[a, b]))
    known = np.isfinite(table)
    if known.sum() // 2 < 3:
        return ProbeVerdict(suspects=(), missing=("pairs of at least three nodes",))
    usual = float(np.quantile(table[known], 0.75))  # a bad node spoils many pairs, hardly a quarter of the good ones
    bad = known & (table < _THIN * max(usual, 1e-12))
    suspects: list[Suspect] = []
    while bad.any():
        part = bad.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        worst = int(np.argmax(part))
        if part[worst] < _MOSTLY or bad[worst].sum() < 2:
            break
        share = float(np.median(table[worst][bad[worst]]) / usual)
        count = f"{int(bad[worst].sum())} of {int(known[worst].sum())}"
        text = f"{count} pairs of {nodes[worst]} reach {share:.0%} of the usual {usual:.1f} GB/s"
        suspects.append(Suspect(kind="node", id=nodes[worst], share=round(share, 4), text=text))
        bad[worst], bad[:, worst], known[worst], known[:, worst] = False, False, False, False
    for a, b in zip(*np.nonzero(np.triu(bad)), strict=True):
        share = float(table[a, b] / usual)
        text = f"between {nodes[a]} and {nodes[b]} {table[a, b]:.1f} GB/s are reached, usually {usual:.1f}"
        suspects.append(Suspect(kind="link", id=f"{nodes[a]}-{nodes[b]}", share=round(share, 4), text=text))
    return ProbeVerdict(
        suspects=tuple(sorted(suspects, key=lambda one: (one.kind != "node", one.share, one.id))),
        all_slow=bool(expected > 0.0 and usual < _EXPECTED * expected),
    )

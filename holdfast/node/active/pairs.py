"""Pairwise network tests: who meets whom in which round, and who is to blame when pairs are slow."""

from collections.abc import Iterator, Mapping, Sequence

from collectors.node.notes import Notes, Place
from holdfast.topology import Kind

SLOW = 0.8
_LEAST_NODES = 4
_REACHED = 0.8


def rounds(nodes: Sequence[str]) -> Iterator[list[tuple[str, str]]]:
    """Every pair once, in rounds in which each node has one partner (the circle method of a round-robin tournament)."""
    circle: list[str | None] = [*nodes, *([None] if len(nodes) % 2 else [])]
    for _ in range(len(circle) - 1):
        half = len(circle) // 2
        pairs = zip(circle[:half], reversed(circle[half:]), strict=True)
        yield [(a, b) for a, b in pairs if a is not None and b is not None]
        circle = [circle[0], circle[-1], *circle[1:-1]]


def judge(rates: Mapping[tuple[str, str], float | None], notes: Notes) -> None:
    """Note for each node which share of its pairs is slow or failed, pairs with a node that is bad with all set aside.

    rates: pair -> any unit of speed, None where the test failed. A pair does not tell which of its two ends is slow; a node that is
    slow with nearly all its partners, who are well with each other, is.
    """
    nodes = sorted({node for pair in rates for node in pair})
    known = [rate for rate in rates.values() if rate is not None]
    if len(nodes) < _LEAST_NODES or not rates:
        return
    # what a fifth of all pairs reach: with two sick nodes of six most pairs have one of them
    usual = sorted(known)[int(_REACHED * (len(known) - 1))] if known else 0.0
    bad: set[str] = set()
    while True:
        shares = {node: _shares(node, rates, usual, bad) for node in nodes if node not in bad}
        worst = max(shares, key=lambda node: sum(shares[node]), default="")
        if not worst or sum(shares[worst]) < 0.5 or len(bad) * 2 >= len(nodes):
            break
        bad.add(worst)
        slow, failed = shares[worst]
        place = Place("pairs", 0, f"{worst}: {slow:.0%} of its pairs slow, {failed:.0%} failed; the usual rate is {usual:g}", worst)
        notes.add(Kind.PART, worst, "test.pairs_slow_ratio", slow + failed if slow else 0.0, place)
        notes.add(Kind.PART, worst, "test.pairs_failed_ratio", failed, place)


def _shares(node: str, rates: Mapping[tuple[str, str], float | None], usual: float, but: set[str]) -> tuple[float, float]:
    mine = [rate for pair, rate in rates.items() if node in pair and not but & set(pair)]
    if not mine:
        return 0.0, 0.0
    failed = sum(rate is None for rate in mine)
    slow = sum(rate is not None and rate < SLOW * usual for rate in mine)
    return slow / len(mine), failed / len(mine)

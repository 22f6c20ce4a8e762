"""Names the link, or the rank at the end of several, when transfers are what costs the time."""

from detectors.traceslow.channels import Channel
from detectors.traceslow.costs import MOST_ROWS, Costs
from holdfast.topology import Kind
from holdfast.verdict import Culprit


def links(costs: Costs, share: float) -> tuple[tuple[Culprit, ...], list[str]]:
    """Culprits and what was seen; none where only a group of three or more ranks is known to be slow.

    A rank in which all slow channels meet is to blame; else each pair. Channels that hardly count are left out.
    """
    worst = max((_lost(c) for c in costs.channels), default=0.0)
    slow = [channel for channel in costs.channels if _lost(channel) >= 0.1 * worst]
    texts = [_text(costs, channel) for channel in slow[:MOST_ROWS]]
    met = set.intersection(*(set(channel.members) for channel in slow)) if slow else set()
    ranks = costs.replay.ops.ranks
    confidence = round(min(0.95, 0.6 + 0.35 * share), 3)
    if len(met) == 1 and len(slow) > 1:
        one = Culprit(
            kind=Kind.RANK, id=str(ranks[met.pop()]), cause="slow_link", confidence=confidence, share=round(share, 4),
            evidence=tuple(texts[:4]),
        )  # fmt: skip
        return (one,), texts
    pairs: dict[tuple[int, ...], list[Channel]] = {}
    for channel in slow:
        if len(channel.members) == 2:
            pairs.setdefault(channel.members, []).append(channel)
    total = sum(_lost(channel) for channels in pairs.values() for channel in channels)
    named = tuple(
        Culprit(
            kind=Kind.LINK, id="-".join(str(ranks[who]) for who in pair), cause="slow_link", confidence=confidence,
            share=round(share * sum(map(_lost, channels)) / total, 4), evidence=tuple(_text(costs, channel) for channel in channels),
        )
        for pair, channels in list(pairs.items())[:MOST_ROWS]
    )  # fmt: skip
    return named, texts


def _lost(channel: Channel) -> float:
    return channel.own_s - channel.peers_s


def _text(costs: Costs, channel: Channel) -> str:
    ops, spell = costs.replay.ops, channel.spell
    who = ", ".join(str(ops.ranks[member]) for member in channel.members[:MOST_ROWS])
    return (
        f"between ranks {who} a transfer ({', '.join(channel.operations)}) takes {channel.own_s * 1e3:.1f} ms, among their peers "
        f"{channel.peers_s * 1e3:.1f} ms, in steps {ops.steps[spell.first]} to {ops.steps[spell.last]}"
    )

"""When and where faults strike: listed, each kind once, so many in all, or at published rates."""

import math
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources

import msgspec
import numpy as np

from simulator.chance import stream
from simulator.stories.kinds import kinds


class Class(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One class of faults: how often, and as which stories."""

    per_1000_node_days: float
    stories: tuple[str, ...]


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the published rates are applied.

    times: all of them so many times as often
    infant_share, infant_times, infant_hours: so many of the nodes are new, and break so many times as often at first, less with
        e-folds of that many hours; taken from "73 % of failing tasks fail in their first ten minutes" (Aegis, NSDI'25) only in shape
    lemon_share, lemon_days: so many of the nodes break again and again, about every so many days; RSC-1 found 40 among 2,000
        (Revisiting Reliability in Large-Scale ML Research Clusters, HPCA'25)
    """

    times: float = 1.0
    infant_share: float = 0.02
    infant_times: float = 10.0
    infant_hours: float = 6.0
    lemon_share: float = 0.012
    lemon_days: float = 7.0


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """A fault to come. kind: of story; node: the number of the machine it strikes, -1 by chance among the busy ones"""

    at_s: float
    kind: str
    node: int = -1


@cache
def classes() -> Mapping[str, Class]:
    """The table of rates."""
    text = (resources.files("simulator") / "rates.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text)["class"], dict[str, Class])


def each_once(names: tuple[str, ...], seed: int, *, begin_s: float, spacing_s: float) -> list[Arrival]:
    """Every kind once, in an order of the seed, about `spacing_s` apart."""
    order = stream(seed, "order").permutation(sorted(names))
    wait = stream(seed, "spacing").uniform(0.0, 0.25 * spacing_s, len(order))
    return [Arrival(at_s=begin_s + n * spacing_s + float(wait[n]), kind=str(kind)) for n, kind in enumerate(order)]


def so_many(count: int, seed: int, *, begin_s: float, until_s: float) -> list[Arrival]:
    """So many faults, their kinds as often as the rates say, at times spread evenly over the scenario by chance."""
    chance = stream(seed, "count")
    at = np.sort(chance.uniform(begin_s, max(begin_s, until_s), count))
    return [Arrival(at_s=float(at_s), kind=_kind(chance)) for at_s in at.tolist()]


def at_rates(rates: Rates, seed: int, *, nodes: int, begin_s: float, until_s: float) -> list[Arrival]:
    """Faults at the published rates: a Poisson process of every node's own, the new ones' hazard falling, the lemons' higher."""
    return sorted((one for n in range(nodes) for one in _of_node(rates, seed, n, begin_s, until_s)), key=lambda one: (one.at_s, one.node))


def _of_node(rates: Rates, seed: int, node: int, begin_s: float, until_s: float) -> Iterator[Arrival]:
    chance = stream(seed, "arrivals", node)
    is_new, is_lemon = chance.random() < rates.infant_share, chance.random() < rates.lemon_share
    usual = rates.times * sum(one.per_1000_node_days for one in classes().values()) / 1000.0 / 86_400.0
    more = 1.0 / (rates.lemon_days * 86_400.0) if is_lemon else 0.0
    peak = usual * (rates.infant_times if is_new else 1.0) + more
    at_s = begin_s
    while (at_s := at_s + chance.exponential(1.0 / peak)) < until_s:
        # by thinning: a candidate at the highest rate is kept with the share the rate has then
        young = 1.0 + (rates.infant_times - 1.0) * math.exp(-at_s / 3600.0 / rates.infant_hours) if is_new else 1.0
        if chance.random() < (usual * young + more) / peak:
            lemon = is_lemon and chance.random() < more / (usual * young + more)
            yield Arrival(at_s=at_s, kind=_LEMON[int(chance.integers(len(_LEMON)))] if lemon else _kind(chance), node=node)


# What lemons were found to have: GPUs, memory, PCIe and ports lead (RSC, table of root causes).
_LEMON = ("gpu_lost", "ecc", "pcie_fatal", "host_memory", "nic_down", "gsp_timeout")


def _kind(chance: np.random.Generator) -> str:
    table = classes()
    weights = np.array([one.per_1000_node_days for one in table.values()])
    chosen = list(table.values())[int(chance.choice(len(weights), p=weights / weights.sum()))]
    return chosen.stories[int(chance.integers(len(chosen.stories)))]


def unknown_kinds() -> list[str]:
    """Stories the table of rates names that there are not."""
    return sorted({name for one in classes().values() for name in one.stories} - set(kinds()))

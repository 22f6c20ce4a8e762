"""Why a machine is slow: what its sensors say against those of the job's other machines, from the latest pages of each node."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from holdfast.events import Samples
from holdfast.faults import Fault
from holdfast.topology import Kind, NodeId, Target
from holdfast.wire import inputs_of_bytes, inputs_to_bytes

MOST_PAGES = 32_768
# Nodes whose pages are compared with the suspect's.
_MOST_PEERS = 256
_FRESH_S = 300.0


@dataclass(frozen=True)
class Rule:
    """When a reading tells why. rises: the growth of a counter since the page before is judged, not the reading

    factor: times the peers' median, beyond which the reading is told: below it if under 1, above it otherwise
    least: how far from the median it is at least, in the signal's unit
    """

    cause: str
    fault: Fault
    kind: Kind
    signals: tuple[str, ...]
    factor: float
    least: float = 0.0
    rises: bool = False


# In the order in which they are believed. Throttling shows in clocks too, and is the deeper reason.
RULES = (
    Rule("throttle", Fault.GPU_THERMAL_POWER, Kind.DEVICE, ("gpu.thermal_violation_s_total", "gpu.power_violation_s_total"),
         2.0, 0.5, rises=True),
    Rule("throttle", Fault.GPU_THERMAL_POWER, Kind.DEVICE, ("gpu.throttled", "gpu.thermal_throttle"), 2.0, 0.5),
    Rule("clocks", Fault.GPU_THERMAL_POWER, Kind.DEVICE, ("gpu.sm_clock_hz", "gpu.clock_hz"), 0.95, 3e7),
    Rule("pcie", Fault.PCIE, Kind.DEVICE, ("gpu.pcie_width", "gpu.pcie_link_width", "gpu.pcie_gen", "gpu.pcie_link_gen",
                                            "gpu.pcie_speed_bps", "pcie.lanes", "pcie.generation"), 0.75),
    Rule("pcie", Fault.PCIE, Kind.DEVICE, ("gpu.pcie_replay_total",), 3.0, 20.0, rises=True),
    Rule("nic", Fault.NIC, Kind.NIC, ("nic.up", "nic.rate_bps"), 0.75),
    Rule("nic", Fault.NIC, Kind.NIC, ("nic.symbol_errors_total", "nic.link_downed_total", "nic.rx_errors_total"), 3.0, 0.5, rises=True),
    Rule("memory", Fault.HOST_RESOURCE, Kind.NODE, ("node.mem_available_bytes",), 0.2),
    Rule("memory", Fault.HOST_RESOURCE, Kind.NODE, ("node.mem_pressure_ratio", "node.memory_stall_ratio"), 3.0, 0.1),
    Rule("cpu", Fault.HOST_RESOURCE, Kind.NODE, ("node.load1", "node.cpu_pressure_ratio", "node.cpu_steal_ratio"), 2.5, 0.1),
)  # fmt: skip
_WANTED = frozenset(signal for rule in RULES for signal in rule.signals) | {"gpu.temp_c"}
# For a slow cause of the job, which reasons come first; the others follow.
_FIRST = {"data_loading": ("memory", "cpu", "nic"), "slow_link": ("nic", "pcie"), "host": ("cpu", "memory")}
_HOT_C, _HOTTER_C = 80.0, 8.0


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why: cause is throttle, clocks, pcie, nic, cpu or memory."""

    cause: str
    fault: Fault
    target: Target
    text: str


class Machines:
    """The two latest pages of each node and kind of page."""

    def __init__(self) -> None:
        self._pages: dict[tuple[str, str, str], tuple[Samples, ...]] = {}

    def take(self, seen: Samples) -> None:
        if not seen.targets or _WANTED.isdisjoint(seen.signals):
            return
        key = (seen.node, seen.source, seen.targets[0].kind.value)
        before = self._pages.pop(key, ())
        while len(self._pages) >= MOST_PAGES:
            del self._pages[next(iter(self._pages))]
        self._pages[key] = (*before[-1:], seen)

    def why(self, node: str, nodes: Iterable[str], *, cause: str, place: int | None, at: float) -> Reason | None:
        """What is odd about a node against its peers, None if nothing is.

        place: which of its devices the slow rank uses, in the order of their names, None for all; at: now, Unix seconds
        """
        pages = self._of(node, nodes, at)
        if node not in pages:
            return None
        first = _FIRST.get(cause, ())
        for rule in sorted(RULES, key=lambda rule: (first.index(rule.cause) if rule.cause in first else len(first))):
            for signal in rule.signals:
                reason = _judge(rule, signal, pages, node, place)
                if reason is not None:
                    return _hot(reason, pages, node) if rule.cause == "clocks" else reason
        return None

    def odd_nodes(self, nodes: Sequence[str], *, at: float) -> dict[str, Reason]:
        """The nodes of a job about which something is odd, at most of 256."""
        chosen = list(nodes)[:_MOST_PEERS]
        found = {node: self.why(node, chosen, cause="slow_link", place=None, at=at) for node in chosen}
        return {node: reason for node, reason in found.items() if reason is not None and reason.fault is not Fault.HOST_RESOURCE}

    def _of(self, node: str, nodes: Iterable[str], at: float) -> dict[str, list[tuple[Samples, ...]]]:
        wanted = dict.fromkeys([node, *list(nodes)[:_MOST_PEERS]])
        found: dict[str, list[tuple[Samples, ...]]] = {}
        for (name, _, _), kept in self._pages.items():
            if kept[-1].at < at - _FRESH_S:
                continue
            if name in wanted:
                found.setdefault(name, []).append(kept)
            elif not name:  # one table of many nodes
                for own, parts in _by_node(kept, wanted).items():
                    found.setdefault(own, []).append(parts)
        return found

    def memory(self) -> bytes:
        return inputs_to_bytes([page for kept in self._pages.values() for page in kept])

    def remember(self, memory: bytes) -> None:
        self._pages = {}
        for seen in inputs_of_bytes(memory):
            if isinstance(seen, Samples):
                self.take(seen)


def _by_node(kept: tuple[Samples, ...], wanted: Container[str]) -> dict[str, tuple[Samples, ...]]:
    """The latest pages of a table over many nodes, each node's rows for themselves."""
    found: dict[str, tuple[Samples, ...]] = {}
    for page in kept:
        rows: dict[str, list[int]] = {}
        for n, target in enumerate(page.targets):
            if target.node in wanted:
                rows.setdefault(target.node, []).append(n)
        for node, chosen in rows.items():
            part = msgspec.structs.replace(
                page, node=NodeId(node), targets=tuple(page.targets[n] for n in chosen), values=page.values[chosen]
            )
            found[node] = (*found.get(node, ()), part)
    return found


def _readings(kept: tuple[Samples, ...], rule: Rule, signal: str) -> list[tuple[Target, float]]:
    """What a node's page says of the targets of the rule's kind, in the order of their names."""
    page = kept[-1]
    if signal not in page.signals:
        return []
    column = page.values[:, page.signals.index(signal)]
    if rule.rises:
        if len(kept) < 2 or kept[0].targets != page.targets or signal not in kept[0].signals:
            return []
        column = column - kept[0].values[:, kept[0].signals.index(signal)]
    rows = [(t, float(v)) for t, v in zip(page.targets, column.tolist(), strict=True) if t.kind is rule.kind and np.isfinite(v)]
    return sorted(rows, key=lambda row: (len(row[0].id), row[0].id))


def _judge(
    rule: Rule, signal: str, pages: dict[str, list[tuple[Samples, ...]]], node: str, place: int | None
) -> Reason | None:
    own = [row for kept in pages[node] for row in _readings(kept, rule, signal)]
    others = [value for name, all_kept in pages.items() if name != node for kept in all_kept for _, value in _readings(kept, rule, signal)]
    peers = others if len(others) >= 2 else [value for _, value in own] if len(own) >= 4 else []
    if not own or not peers:
        return None
    usual = float(np.median(peers))
    chosen = own
    if place is not None and len(own) > 1:
        chosen = own[place : place + 1] or own
    low = rule.factor < 1.0
    target, value = (min if low else max)(chosen, key=lambda row: row[1])
    far = value < rule.factor * usual if low else value > rule.factor * max(usual, 0.0)
    if not far or abs(value - usual) < rule.least:
        return None
    grew = " more than at the page before" if rule.rises else ""
    text = f"{signal} of {target.kind} {target.id} on {node} is {value:.6g}{grew}, among its peers {usual:.6g}"
    return Reason(cause=rule.cause, fault=rule.fault, target=target, text=text)


def _hot(reason: Reason, pages: dict[str, list[tuple[Samples, ...]]], node: str) -> Reason:
    """Low clocks on a hot device are throttling."""
    rule = Rule("throttle", Fault.GPU_THERMAL_POWER, Kind.DEVICE, ("gpu.temp_c",), 1.0)
    rows = {name: [row for kept in all_kept for row in _readings(kept, rule, "gpu.temp_c")] for name, all_kept in pages.items()}
    own = [value for target, value in rows[node] if target == reason.target]
    peers = [value for found in rows.values() for target, value in found if target != reason.target]
    if not own or not peers or own[0] < _HOT_C or own[0] < float(np.median(peers)) + _HOTTER_C:
        return reason
    text = f"{reason.text}; it has {own[0]:.0f} C, its peers {float(np.median(peers)):.0f} C"
    return Reason(cause="throttle", fault=reason.fault, target=reason.target, text=text)

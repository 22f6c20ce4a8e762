"""The figures of the machines and of what is heard from them: nodes, devices, ports, sources."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from exporters.figures import Sheet
from holdfast.events import Beats, Change, Changes, Finding, Observation, Received, Samples
from holdfast.faults import Fault, Judgement
from holdfast.topology import Kind

MOST_NODES = 65_536
MOST_SOURCES = 65_536
MOST_CLAIMS = 4096
MOST_FAULTY = 100
LONGEST = 10
# A node or a source that was not heard for so long is silent; readings older than STALE_S are of a machine that is gone.
SILENT_S = 60.0
STALE_S = 300.0
# A source that was silent for so long was taken away on purpose, or somebody has been told often enough.
FORGET_S = 86_400.0
NODE_STATES = ("ready", "not_ready", "cordoned", "silent")

# Sources with a rhythm; that a log or a scheduler says nothing means that nothing happens.
_RHYTHM = (Samples, Beats, Received)
# What is a machine's own fault; a claim about a job's code names the node it ran on, and blames the code.
_MACHINE = frozenset({
    Fault.GPU_HW, Fault.GPU_MEM, Fault.GPU_THERMAL_POWER, Fault.NVLINK, Fault.PCIE, Fault.NIC, Fault.FABRIC, Fault.HOST,
    Fault.HOST_RESOURCE, Fault.STORAGE, Fault.PLATFORM, Fault.SDC,
})  # fmt: skip
# Targets that come and go with an attempt of their job.
_OF_ATTEMPT = frozenset({Kind.JOB, Kind.RANK, Kind.PROCESS, Kind.STAGE})
_DEVICE = {
    "gpu.temp_c": ("holdfast_device_temperature_celsius", ("min", "median", "max")),
    "gpu.power_w": ("holdfast_device_power_watts", ("min", "median", "max", "sum")),
    "gpu.util_ratio": ("holdfast_device_utilization_ratio", ("min", "median", "max")),
}
_PORT = "nic.up"
_SHOWN = frozenset({*_DEVICE, _PORT})
T = TypeVar("T")
_STATS: dict[str, Callable[[np.ndarray], float]] = {"min": np.min, "median": np.median, "max": np.max, "sum": np.sum}


@dataclass
class Readings:
    """The latest column of each signal of one node."""

    at: float
    columns: dict[str, np.ndarray] = field(default_factory=dict)


class Claim(NamedTuple):
    """A standing claim. job: whose attempt it is about, "" where it is about the machine and outlives the job."""

    node: str
    fault: str
    job: str


class Fleet:
    """All nodes and sources, each bounded: the one longest unheard is forgotten."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._nodes: dict[str, float] = {}
        self._sources: dict[str, tuple[float, str]] = {}
        self._readings: dict[str, Readings] = {}
        self._claims: dict[str, Claim] = {}

    # --- what comes in

    def on_observation(self, seen: Observation, latest_at: float) -> None:
        """Note who was heard. latest_at: the present, for a source whose clock is ahead."""
        if isinstance(seen, Samples) and seen.signals == ("source.up",) and not seen.values.any():
            self._sources.setdefault(seen.source, (latest_at, seen.job))  # its collector says that it is down
            return
        at = min(seen.at, latest_at)
        if seen.node:
            _keep(self._nodes, seen.node, at, MOST_NODES)
        if isinstance(seen, _RHYTHM):
            _keep(self._sources, seen.source, (at, seen.job), MOST_SOURCES)

    def on_samples(self, seen: Samples) -> None:
        if _SHOWN.isdisjoint(seen.signals):
            return
        place = seen.node or seen.source
        readings = self._readings.get(place) or Readings(seen.at)
        readings.at = seen.at
        for n, signal in enumerate(seen.signals):
            if signal in _SHOWN:
                readings.columns[signal] = seen.values[:, n]
        _keep(self._readings, place, readings, MOST_NODES)

    def on_changes(self, seen: Changes) -> None:
        for change in seen.changes:
            if change.target.kind is Kind.NODE:
                self._on_node(change)
            elif change.target.kind is Kind.JOB:
                self._on_job(change)

    def _on_job(self, change: Change) -> None:
        job = change.target.id
        if change.state != "failed":  # another attempt, or none: its processes are gone, and what was claimed of them
            self._claims = {name: claim for name, claim in self._claims.items() if claim.job != job}
        if change.state in ("finished", "stopped"):  # its agents end with it; one that goes on is heard again at once
            self._sources = {name: told for name, told in self._sources.items() if told[1] != job}

    def _on_node(self, change: Change) -> None:
        node = change.target.id
        if change.state == "deleted":
            self._states.pop(node, None)
            self._nodes.pop(node, None)
            self._readings.pop(node, None)
            self._claims = {name: claim for name, claim in self._claims.items() if claim.node != node}
        elif change.state in NODE_STATES[:3]:
            _keep(self._states, node, change.state, MOST_NODES)

    def on_finding(self, finding: Finding) -> None:
        name = f"{finding.check} {finding.target}"
        node = finding.target.node or (finding.target.id if finding.target.kind is Kind.NODE else "")
        if finding.cleared:
            self._claims.pop(name, None)
        elif node and finding.fault in _MACHINE and finding.judgement is Judgement.CULPRIT:
            job = finding.target.job if finding.target.kind in _OF_ATTEMPT else ""
            _keep(self._claims, name, Claim(node, finding.fault.value, job), MOST_CLAIMS)

    # --- what is shown

    def put(self, sheet: Sheet, now: float) -> None:
        """Note the figures as they stand."""
        self._put_nodes(sheet, now)
        self._put_sources(sheet, now)
        fresh = [readings.columns for readings in self._readings.values() if now - readings.at <= STALE_S]
        devices = sum(max((len(columns[name]) for name in _DEVICE if name in columns), default=0) for columns in fresh)
        sheet.put("holdfast_devices", devices)
        for signal, (figure, stats) in _DEVICE.items():
            values = _joined(fresh, signal)
            for stat in stats if values.size else ():
                sheet.put(figure, _STATS[stat](values), stat)
        up = _joined(fresh, _PORT)
        sheet.put("holdfast_nic_ports", int((up > 0).sum()), "up")
        sheet.put("holdfast_nic_ports", int((up <= 0).sum()), "down")

    def _put_nodes(self, sheet: Sheet, now: float) -> None:
        counts = dict.fromkeys(NODE_STATES, 0)
        self._nodes = {node: at for node, at in self._nodes.items() if now - at <= FORGET_S or node in self._states}
        for node in self._states.keys() | self._nodes.keys():
            state = self._states.get(node, "ready")
            silent = state == "ready" and now - self._nodes.get(node, now) > SILENT_S  # one never heard has no agent
            counts["silent" if silent else state] += 1
        for state, count in counts.items():
            sheet.put("holdfast_nodes", count, state)
        shown: dict[str, None] = {}
        for node, fault, _ in reversed(self._claims.values()):  # the newest claims, where there are too many
            if node in shown or len(shown) < MOST_FAULTY:
                shown[node] = None
                sheet.put("holdfast_node_faulty", 1.0, node, fault)

    def _put_sources(self, sheet: Sheet, now: float) -> None:
        self._sources = {name: told for name, told in self._sources.items() if now - told[0] <= FORGET_S}
        silent = sum(now - at > SILENT_S for at, _ in self._sources.values())
        sheet.put("holdfast_sources", len(self._sources) - silent, "heard")
        sheet.put("holdfast_sources", silent, "silent")
        longest = heapq.nsmallest(LONGEST, ((at, name) for name, (at, _) in self._sources.items()))
        for at, name in longest:
            sheet.put("holdfast_source_silence_seconds", max(0.0, now - at), name)


def _keep(kept: dict[str, T], name: str, value: T, most: int) -> None:
    """Put something last, and forget what was put longest ago where there are too many."""
    kept.pop(name, None)
    kept[name] = value
    if len(kept) > most:
        del kept[next(iter(kept))]


def _joined(fresh: list[dict[str, np.ndarray]], signal: str) -> np.ndarray:
    """A signal's readings of all machines, gaps left out."""
    columns = [columns[signal] for columns in fresh if signal in columns]
    values = np.concatenate(columns) if columns else np.empty(0)
    return np.asarray(values[np.isfinite(values)])

"""The service over a simulated cluster: the same line of stages, with simulated time instead of the clock."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from holdfast.api.ingest import Ingest
from holdfast.api.records import batch_of, observations_of
from holdfast.assembly import Parts, assemble
from holdfast.config import Config, JournalTable, Remedier
from holdfast.events import Finding, Observation, Order, Outcome, Said, Samples, Transition
from holdfast.incident import Incident, State
from holdfast.journal import Journal
from holdfast.ports import Collector, Detector, Warming
from holdfast.topology import JobId
from holdfast.wire import Heard, canonical
from simulator.backend import Simulated
from simulator.scenario import Scenario, make, stories
from simulator.score import REACH_S, score
from simulator.sweep import Columns, Sweep
from simulator.watch import Watch
from simulator.world import World

# The line is asked this often, in simulated seconds.
STEP_S = 1.0
# Incidents that the last stories caused are still followed for so long, in simulated seconds.
_TAIL_S = 900.0
# What a detector needs that declares nothing, and what is added to what the others declare, in simulated seconds.
_LEAD_S = 60.0


class Speed(StrEnum):
    """full: every batch is written; fast: only the stretches in which a story is active, from the detectors' warm-up before it."""

    FULL = "full"
    FAST = "fast"


class Agents:
    """The agents' batches, through the door that takes them from the network: decoded, and repeats dropped by their numbers."""

    durable = False

    def __init__(self, fetch: Callable[[], Iterable[bytes]]) -> None:
        self._fetch = fetch
        self.door = Ingest({}, orders_for=lambda job: (), released=lambda job: False, wake=lambda: None)

    def poll(self, now: float) -> Iterator[Observation]:
        """What the agents have sent since the last time."""
        for body in self._fetch():
            yield from self.door.fresh(observations_of(batch_of(body)))


class Written:
    """What was written as columns from the beginning: no text to be parsed, the same observations."""

    durable = False

    def __init__(self, fetch: Callable[[], Iterable[Observation]], readings: Callable[[], Iterable[Columns]]) -> None:
        from collectors.aliases import aliases

        self._fetch, self._readings = fetch, readings
        self._names = aliases()
        self._chosen: dict[tuple[str, ...], tuple[list[int], list[tuple[float, float | None]], tuple[str, ...]]] = {}

    def poll(self, now: float) -> Iterator[Observation]:
        """What there is since the last time."""
        yield from self._fetch()
        for one in self._readings():
            yield self.samples(one)

    def samples(self, one: Columns) -> Samples:
        """A table of readings in our signals: by the same aliases by which a page is read."""
        if one.table.names not in self._chosen:
            known = [(n, self._names[name]) for n, name in enumerate(one.table.names) if name in self._names]
            self._chosen[one.table.names] = (
                [n for n, _ in known], [(alias.factor, alias.equals) for _, alias in known], tuple(alias.signal for _, alias in known),
            )  # fmt: skip
        chosen, turns, signals = self._chosen[one.table.names]
        values = one.table.values[:, chosen]
        for n, (factor, equals) in enumerate(turns):
            values[:, n] = values[:, n] * factor if equals is None else values[:, n] == equals
        return Samples(at=one.at, source=one.source, job=JobId(one.job), targets=one.table.targets, signals=signals, values=values)


class Reading:
    """One sweep of the exporters for both collectors: the pages of some nodes, the columns of the others."""

    def __init__(self, world: World) -> None:
        self._sweep, self._columns = Sweep(world), list[Columns]()

    def pages(self, now: float) -> Iterator[tuple[str, str | None, str, str]]:
        """The pages; the columns are kept for whoever asks next."""
        pages, self._columns = self._sweep.now()
        yield from pages

    def columns(self) -> list[Columns]:
        """What the last sweep read without writing it."""
        read, self._columns = self._columns, []
        return read


def collectors_of(world: World) -> list[Collector]:
    """The collectors of a real cluster, each with its reader put in place of the outside; what explains comes first."""
    from collectors.kmsg import Kmsg
    from collectors.kubernetes import Kubernetes
    from collectors.logfiles import LogFiles
    from collectors.pages import Pages

    cluster, reading = world.cluster, Reading(world)
    return [
        Kmsg(read=cluster.fetch_kernel), LogFiles(read=cluster.fetch_logs), Kubernetes(read=cluster.fetch_watch),
        Agents(cluster.agents.fetch), Pages(read=reading.pages), Written(cluster.fetch_columns, reading.columns),
    ]  # fmt: skip


class Digest:
    """A journal that keeps only its hash, and the lines of orders: for simulations that nobody replays."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.orders: list[str] = []
        self.findings: list[Finding] = []

    def commit(self, now: float, inputs: Sequence[Heard], said: Sequence[Said]) -> None:
        """Take in what was decided."""
        for event in said:
            text = canonical(event)
            self._hash.update(text.encode() + b"\n")
            if isinstance(event, Order | Outcome):
                self.orders.append(text)
            elif isinstance(event, Finding):
                self.findings.append(event)

    def sha256(self) -> str:
        """The hash, as `Journal.sha256` computes it."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Nothing was opened."""


@dataclass
class Simulation:
    """A scenario under the whole service. `step` goes on by a second of simulated time, at the fast speed to the next that matters.

    detectors: these in place of the installed ones
    """

    scenario: Scenario
    journal: Journal | Digest
    config: Config = field(default_factory=Config)
    speed: Speed = Speed.FULL
    detectors: Mapping[str, Detector] | None = None
    world: World = field(init=False)
    parts: Parts = field(init=False)
    watch: Watch = field(init=False)
    now: float = field(init=False)
    incidents: dict[str, Incident] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.world = make(self.scenario)
        self.now = self.start = self.world.cluster.now
        self.parts = assemble(
            self.config, journal=self.journal, collectors=collectors_of(self.world),
            backends={"simulated": Simulated(self.world)}, detectors=self.detectors,
        )  # fmt: skip
        self.parts.pipeline.bus.strict = True  # a bug is a crash here, not a line in a log
        planned = stories(self.scenario, self.world)
        warming = [one for one in self.parts.pipeline.detectors.values() if isinstance(one, Warming)]
        self._warm = [(one.warmup_s, one.warmup_steps) for one in warming]
        self.watch = Watch.of(self.world, planned, warmup=self._warmup_s, rests=self.speed is Speed.FAST)

    def step(self) -> None:
        """One second: begin the stories that are due, let the world live, ask the line."""
        self.now = self._next()
        self.watch.begin(patient=self.scenario.plan != "rows")
        self.watch.turn([(one.job, one.ended) for one in self.incidents.values() if one.state is not State.RESOLVED])
        self.world.advance(self.now)
        for event in self.parts.pipeline.step(self.now):
            if isinstance(event, Transition):
                self.incidents[event.incident.id] = event.incident

    def _next(self) -> float:
        if self.world.watched or self.speed is Speed.FULL:
            return self.now + STEP_S
        return self.watch.next_at(self.start + self.scenario.lasting_s)

    def _warmup_s(self, step_s: float) -> float:
        """Seconds of telemetry after which every detector judges as if it had seen all, for a job of such steps."""
        return _LEAD_S + max((max(seconds, steps * step_s) for seconds, steps in self._warm), default=0.0)

    @property
    def over(self) -> bool:
        """Whether every story has begun and every incident has ended, or the scenario's time is up."""
        past_s = self.now - self.start
        if past_s >= self.scenario.lasting_s + _TAIL_S:
            return True
        if past_s < self.scenario.lasting_s:
            return False
        live = any(not incident.ended for incident in self.incidents.values())
        quiet = all(job.state == "running" and not job.held for job in self.world.jobs.values())
        return not self.watch.planned and not live and quiet

    def score(self, wall_s: float, *, reach_s: float = REACH_S) -> dict[str, Any]:
        """What was injected against what was found. reach_s: as in `simulator.score.match`"""
        self.world.settle()
        return score(
            self.world.struck, list(self.incidents.values()), seed=self.scenario.seed,
            simulated_s=self.now - self.start, wall_s=wall_s, devices=8 * len(self.world.cluster.nodes),
            node_hours=self.world.observed_node_s / 3600.0, journal_sha256=self.journal.sha256(), ettr=self._ettr(),
            evicted=self.world.evicted, reach_s=reach_s,
        ) | {"speed": self.speed.value}  # fmt: skip

    def _ettr(self) -> float:
        """Steps that count, at their healthy pace, over the time that went by; the mean over devices."""
        jobs = list(self.world.jobs.values())
        devices = sum(job.shape.world for job in jobs)
        past_s = max(self.now - self.start, 1e-9)
        useful = sum((job.step + 1) * job.shape.step_s * job.shape.world for job in jobs)
        return min(1.0, useful / past_s / max(devices, 1))


def settings(journal: Path | None = None, *, nodes: int = 64) -> Config:
    """The settings of a simulated cluster: everything that is installed runs, and the loop may act.

    nodes: the breaker opens where a tenth of them is out within an hour
    """
    table = JournalTable(path=str(journal), keep="all") if journal is not None else JournalTable()
    # time is simulated: who waits for another process would only wait; the model of joint deviations learns for hours, which are not
    # written at fast speed, and both speeds are to say the same
    inline: dict[str, dict[str, Any]] = {"tracehang": {"readers": 0}, "peer_comparison": {"joint": False}}
    return Config(journal=table, detectors=inline, remedier=Remedier(mode="auto", budget=100, breaker=max(10, nodes // 10)))

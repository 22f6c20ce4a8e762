"""Scenarios as TOML: the cluster, what runs on it, and what breaks when."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from simulator.arrivals import Arrival, Rates, at_rates, each_once, so_many
from simulator.chance import stream
from simulator.cluster import Cluster, Writing
from simulator.fabric import Fabric
from simulator.inference.spec import ServiceSpec, SpecError, check
from simulator.inference.trace import TraceError
from simulator.nodes import DEVICES
from simulator.physics.layout import Layout
from simulator.physics.plan import Plan
from simulator.physics.tables import PhysicsError
from simulator.planned import planned, shape_of
from simulator.stories.kinds import kinds
from simulator.stories.story import Story
from simulator.workload import Shape
from simulator.world import Repairs, World

START = 1_800_000_000.0

Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class ScenarioError(ValueError):
    """Not a scenario; the message names file and place."""


class JobRow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A training job; the keys of `workload.Shape`, and `copies` of it, numbered. priority: the highest is placed first.

    model, device: of `physics/models.toml` and `devices.toml`: then its steps, start-up and checkpoints are worked out, and `step_s`,
        `checkpoint_s` and `stages` mean nothing; ep, cp, chunks, global_batch, micro_batch, sequence: of `physics.layout.Layout`
    checkpoint: sync, async or memory
    """

    name: str
    nodes: Count
    copies: Count = 1
    priority: int = 0
    tp: Count = 8
    pp: Count = 1
    step_s: Annotated[float, msgspec.Meta(gt=0.0)] = 6.0
    checkpoint_every: Count = 20
    checkpoint_s: Seconds = 5.0
    sequence_sigma: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.0
    stages: tuple[float, ...] = ()
    gc_every: Annotated[int, msgspec.Meta(ge=0)] = 0
    gc_s: Seconds = 0.3
    model: str = ""
    device: str = "h100"
    ep: Count = 1
    cp: Count = 1
    chunks: Count = 1
    global_batch: Count = 512
    micro_batch: Count = 1
    sequence: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 4096
    checkpoint: Literal["sync", "async", "memory"] = "async"

    def names(self) -> list[str]:
        """The jobs' names."""
        return [self.name] if self.copies == 1 else [f"{self.name}-{n}" for n in range(self.copies)]


class ServiceRow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An inference service. spec: what it is made of, engine, load and all; without one the default of `serving.Service`"""

    name: str
    model: str
    nodes: Count = 1
    spec: ServiceSpec | None = None


class FaultRow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A fault at a moment. kind: a story's name; job and rank: where, "" and -1 by chance."""

    kind: str
    at_s: Seconds
    job: str = ""
    rank: int = -1


class Scenario(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A whole scenario.

    plan: "rows", only the faults listed; "each_kind", every story (of `kinds`, if any are named) once in an order of the seed,
        on the jobs in turn, `spacing_s` apart; "count", `faults` of them, as often as the published rates say; "rates", at those
    text_share: share of the nodes whose streams go through the real text formats and their parsers
    repair: how long nodes are out of service; fabric: how they stand
    """

    nodes: Count
    seed: int = 0
    lasting_s: Seconds = 3600.0
    plan: Literal["rows", "each_kind", "count", "rates"] = "rows"
    kinds: tuple[str, ...] = ()
    faults: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    begin_s: Seconds = 300.0
    spacing_s: Seconds = 240.0
    text_share: Share = 1.0
    rates: Rates = Rates()
    repair: Repairs = Repairs()
    fabric: Fabric = Fabric()
    job: tuple[JobRow, ...] = ()
    service: tuple[ServiceRow, ...] = ()
    fault: tuple[FaultRow, ...] = ()


def schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file."""
    return msgspec.json.schema(Scenario)


def read(path: str) -> Scenario:
    """Read a scenario file, or the one of that name that comes with the package ("demo").

    raises ScenarioError: unreadable, not TOML, an unknown key or kind, a job that does not fit
    """
    shipped = resources.files("simulator") / "scenarios" / f"{path}.toml"
    file = shipped if "/" not in path and "." not in path and shipped.is_file() else Path(path)
    try:
        scenario = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), Scenario)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ScenarioError(f"{path}: {error}") from error
    _check(scenario, path)
    return scenario


def _check(scenario: Scenario, path: str) -> None:
    known = kinds()
    names = [*(name for row in scenario.job for name in row.names()), *(row.name for row in scenario.service)]
    for name in names:
        if names.count(name) > 1:
            raise ScenarioError(f"{path}: there are two jobs or services {name!r}")
    for row in scenario.job:
        if row.model:
            try:
                _planned(row, scenario.fabric)
            except PhysicsError as error:
                raise ScenarioError(f"{path}: job {row.name!r}: {error}") from error
        if row.nodes * DEVICES % (row.tp * row.pp):
            raise ScenarioError(f"{path}: job {row.name!r}: {row.nodes * DEVICES} ranks are no multiple of tp x pp = {row.tp * row.pp}")
        if row.stages and len(row.stages) != row.pp:
            raise ScenarioError(f"{path}: job {row.name!r}: {len(row.stages)} stages are told of {row.pp}")
    for service in scenario.service:
        if service.spec is not None:
            try:
                check(service.spec, service.nodes)
            except (SpecError, TraceError) as error:
                raise ScenarioError(f"{path}: service {service.name!r}: {error}") from error
    for kind in (*(fault.kind for fault in scenario.fault), *scenario.kinds):
        if kind not in known:
            raise ScenarioError(f"{path}: fault {kind!r}: known are {', '.join(sorted(known))}")
    for fault in scenario.fault:
        if fault.job and fault.job not in names:
            raise ScenarioError(f"{path}: fault {fault.kind!r}: no job or service {fault.job!r}: there are {', '.join(names)}")
    if sum(row.nodes * row.copies for row in scenario.job) + sum(row.nodes for row in scenario.service) > scenario.nodes:
        raise ScenarioError(f"{path}: jobs and services want more than {scenario.nodes} nodes")


def make(scenario: Scenario) -> World:
    """The world at the scenario's beginning, its jobs placed."""
    cluster = Cluster(
        scenario.nodes, seed=scenario.seed, start=START, fabric=scenario.fabric, writing=Writing(text_share=scenario.text_share)
    )
    world = World(cluster, repairs=scenario.repair)
    for row in scenario.service:
        world.add_service(row.name, row.model, nodes=row.nodes, spec=row.spec)
    for job in scenario.job:
        made = _planned(job, scenario.fabric) if job.model else None
        if made is not None:
            shape = shape_of(made, checkpoint=job.checkpoint, **{key: getattr(job, key) for key in _SAID})
        else:
            shape = Shape(**{key: getattr(job, key) for key in _SHAPE})
        for name in job.names():
            world.add_job(name, shape, priority=job.priority, plan=made)
    return world


def _planned(row: JobRow, fabric: Fabric) -> Plan:
    """raises PhysicsError: it does not divide or fit, or there is no such model or device."""
    ranks = row.nodes * DEVICES
    layout = Layout(
        tp=row.tp, pp=row.pp, cp=row.cp, dp=ranks // (row.tp * row.pp * row.cp), ep=row.ep, chunks=row.chunks,
        global_batch=row.global_batch, micro_batch=row.micro_batch, sequence=row.sequence,
    )  # fmt: skip
    return planned(row.model, row.device, layout, pod_nodes=fabric.pod_nodes, spine_pods=fabric.spine_pods)


_SAID = ("checkpoint_every", "sequence_sigma", "gc_every", "gc_s")
_SHAPE = (*_SAID, "nodes", "tp", "pp", "step_s", "checkpoint_s", "stages")


def stories(scenario: Scenario, world: World) -> list[tuple[float, Story]]:
    """What breaks, and how many seconds after the beginning, in that order."""
    seed, begin_s, until_s = scenario.seed, scenario.begin_s, scenario.lasting_s
    rows = list(scenario.fault)
    drawn: list[Arrival] = []
    if scenario.plan == "each_kind":
        served = set(kinds()) if world.services else {name for name, kind in kinds().items() if not kind.serves}
        drawn = each_once(scenario.kinds or tuple(served), seed, begin_s=begin_s, spacing_s=scenario.spacing_s)
    elif scenario.plan == "count":
        drawn = so_many(scenario.faults, seed, begin_s=begin_s, until_s=until_s)
    elif scenario.plan == "rates":
        drawn = at_rates(scenario.rates, seed, nodes=scenario.nodes, begin_s=begin_s, until_s=until_s)
    found = [(row.at_s, _listed(scenario, world, row, n)) for n, row in enumerate(rows)]
    struck = ((one.at_s, _drawn(scenario, world, one, n)) for n, one in enumerate(drawn, len(rows)))
    found += [(at_s, story) for at_s, story in struck if story is not None]
    return sorted(found, key=lambda pair: pair[0])


def _listed(scenario: Scenario, world: World, row: FaultRow, n: int) -> Story:
    chance, kind = stream(scenario.seed, "where", n, row.kind), kinds()[row.kind]
    if kind.serves:
        job = row.job or str(chance.choice(sorted(world.services)))
        return kind.of(job, int(chance.integers(len(world.services[job].engines))))
    job = row.job or str(chance.choice(sorted(world.jobs)))
    size = world.jobs[job].shape.world
    return kind.of(job, row.rank if 0 <= row.rank < size else int(chance.integers(size)))


def _drawn(scenario: Scenario, world: World, one: Arrival, n: int) -> Story | None:
    """A fault drawn by chance: on the machine it strikes, or in any job, the larger ones more often. None: it strikes an idle machine."""
    chance, kind = stream(scenario.seed, "where", n, one.kind), kinds()[one.kind]
    if kind.serves:
        job = str(chance.choice(sorted(world.services)))
        return kind.of(job, int(chance.integers(len(world.services[job].engines))))
    names = [name for name in sorted(world.jobs) if not kind.staged or world.jobs[name].shape.pp > 1]
    if not names:
        return None
    if scenario.plan == "each_kind":  # in turn, so that a job has been mended before it is struck again
        name = names[n % len(names)]
        return kind.of(name, int(chance.integers(world.jobs[name].shape.world)))
    sizes = [world.jobs[name].shape.nodes for name in names]
    # a machine's number says only which share of the cluster it is: by then the job may be placed elsewhere
    number = one.node if one.node >= 0 else int(chance.integers(sum(sizes)))
    for name, size in zip(names, sizes, strict=True):
        if number < size:
            return kind.of(name, number * DEVICES + int(chance.integers(DEVICES)))
        number -= size
    return None

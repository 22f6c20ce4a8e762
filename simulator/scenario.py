"""Scenarios as TOML: the cluster, what runs on it, and what breaks when."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from simulator.chance import stream
from simulator.cluster import Cluster
from simulator.faults import ON_RANK, EngineStall, OnRank, Story
from simulator.training import Shape
from simulator.world import World

START = 1_800_000_000.0
_ALL: tuple[type[OnRank | EngineStall], ...] = (*ON_RANK, EngineStall)
KINDS = {story.name: story for story in _ALL}

Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class ScenarioError(ValueError):
    """Not a scenario; the message names file and place."""


class JobRow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A training job; the keys of `training.Shape`."""

    name: str
    nodes: Count
    tp: Count = 8
    pp: Count = 1
    step_s: float = 6.0


class ServiceRow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An inference service."""

    name: str
    model: str
    nodes: Count = 1


class FaultRow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A fault at a moment. kind: a story's name; job and rank: where, "" and -1 by chance."""

    kind: str
    at_s: float
    job: str = ""
    rank: int = -1


class Scenario(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """plan: "rows", only the faults listed; "each_kind", every story once in an order drawn by the seed, `spacing_s` apart."""

    nodes: Count
    seed: int = 0
    lasting_s: float = 3600.0
    plan: Literal["rows", "each_kind"] = "rows"
    begin_s: float = 300.0
    spacing_s: float = 240.0
    job: tuple[JobRow, ...] = ()
    service: tuple[ServiceRow, ...] = ()
    fault: tuple[FaultRow, ...] = ()


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
    for row in scenario.job:
        if row.nodes * 8 % (row.tp * row.pp):
            raise ScenarioError(f"{path}: job {row.name!r}: {row.nodes * 8} ranks are no multiple of tp x pp = {row.tp * row.pp}")
    for fault in scenario.fault:
        if fault.kind not in KINDS:
            raise ScenarioError(f"{path}: fault {fault.kind!r}: known are {', '.join(sorted(KINDS))}")
    if sum(row.nodes for row in scenario.job) + sum(row.nodes for row in scenario.service) > scenario.nodes:
        raise ScenarioError(f"{path}: jobs and services want more than {scenario.nodes} nodes")
    return scenario


def make(scenario: Scenario) -> World:
    """The world at the scenario's beginning, its jobs placed."""
    world = World(Cluster(scenario.nodes, seed=scenario.seed, start=START))
    for row in scenario.service:
        world.add_service(row.name, row.model, nodes=row.nodes)
    for job in scenario.job:
        world.add_job(job.name, Shape(nodes=job.nodes, tp=job.tp, pp=job.pp, step_s=job.step_s))
    return world


def stories(scenario: Scenario, world: World) -> list[tuple[float, Story]]:
    """What breaks, and how many seconds after the beginning, in that order."""
    rows = list(scenario.fault)
    if scenario.plan == "each_kind":
        order = stream(scenario.seed, "order").permutation(sorted(KINDS))
        wait = stream(scenario.seed, "spacing").uniform(0.0, 0.25 * scenario.spacing_s, len(order))
        for n, kind in enumerate(order):
            rows.append(FaultRow(kind=str(kind), at_s=scenario.begin_s + n * scenario.spacing_s + float(wait[n])))
    found = [(row.at_s, _story(scenario, world, row, n)) for n, row in enumerate(rows)]
    return sorted(found, key=lambda pair: pair[0])


def _story(scenario: Scenario, world: World, row: FaultRow, n: int) -> Story:
    chance = stream(scenario.seed, "where", n, row.kind)
    kind = KINDS[row.kind]
    if issubclass(kind, EngineStall):
        job = row.job or str(chance.choice(sorted(world.services)))
        return EngineStall(job=job, engine=int(chance.integers(len(world.services[job].engines))))
    job = row.job or str(chance.choice(sorted(world.jobs)))
    size = world.jobs[job].shape.world
    rank = row.rank if 0 <= row.rank < size else int(chance.integers(size))
    return kind(job=job, rank=rank)

"""One simulated run of faults, and what became of each: the rows of which the table of `bench.faults` is made."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from holdfast.config import Config
from holdfast.faults import Action, Judgement
from holdfast.incident import Incident
from holdfast.ports import Detector
from holdfast.simulation import Digest, Simulation, Speed, settings
from holdfast.topology import Kind
from simulator.scenario import Scenario
from simulator.score import REACH_S
from simulator.stories.story import Struck

OURS = "holdfast"
_SLACK_S = 2.0


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One story and what was said of it.

    truth, said: class of fault, `said` "" where nothing was said; explicit: something says so in words or numbers of its own
    machine: a machine is to blame and to be replaced; named: it was accused, and is the right one
    right: the verb was a right one; detect_s, recover_s: from the story's beginning, None never
    """

    kind: str
    truth: str
    explicit: bool
    machine: bool
    at_s: float
    said: str
    check: str
    located: bool
    named: bool
    right: bool
    verb: str
    detect_s: float | None
    recover_s: float | None

    @property
    def detected(self) -> bool:
        """Whether it was called by its name."""
        return self.said == self.truth


class FalseAlarm(msgspec.Struct, frozen=True, kw_only=True):
    """An incident that no story explains."""

    id: str
    check: str
    job: str
    fault: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario with one seed under one policy.

    accused, accused_wrongly: incidents that have a machine replaced, and those of them where nothing was wrong with it
    failed: the last line of what it died of; cpu_s: of the process, since others load the machine
    """

    scenario: str
    policy: str
    seed: int
    speed: str
    failed: str = ""
    node_hours: float = 0.0
    simulated_s: float = 0.0
    cpu_s: float = 0.0
    ettr: float = 0.0
    accused: int = 0
    accused_wrongly: int = 0
    cases: tuple[Case, ...] = ()
    false: tuple[FalseAlarm, ...] = ()
    journal_sha256: str = ""


def config(scenario: Scenario) -> Config:
    """The settings of a simulated cluster, its breaker out of the way: a set has in an hour the faults of months."""
    usual = settings(nodes=scenario.nodes)
    return msgspec.structs.replace(usual, remedier=msgspec.structs.replace(usual.remedier, breaker=100 * scenario.nodes))


def run(
    scenario: Scenario, *, name: str, speed: Speed = Speed.FULL, policy: str = OURS, detectors: Mapping[str, Detector] | None = None,
    reach_s: float = REACH_S,
) -> Run:  # fmt: skip
    """Run one scenario to its end and say what became of each of its stories.

    name: of the scenario; detectors: those of a policy other than ours; reach_s: as in `simulator.score.match`
    """
    begun = time.process_time()
    simulation = Simulation(scenario, Digest(), config(scenario), speed=speed, detectors=detectors)
    while not simulation.over:
        simulation.step()
    cpu_s = time.process_time() - begun
    score = simulation.score(0.0, reach_s=reach_s)
    struck, incidents = simulation.world.struck, simulation.incidents
    accusing = [incident for incident in incidents.values() if _accuses(incident)]
    right = [incident for incident in accusing if any(_explains(told, incident, reach_s) for told in struck)]
    rows = zip(struck, score["stories"], strict=True)
    return Run(
        scenario=name, policy=policy, seed=scenario.seed, speed=speed.value, node_hours=score["observed_node_hours"],
        simulated_s=score["simulated_s"], cpu_s=round(cpu_s, 1), ettr=score["ettr"], accused=len(accusing),
        accused_wrongly=len(accusing) - len(right),
        cases=tuple(_case(told, row, incidents, simulation.start, reach_s) for told, row in rows),
        false=tuple(FalseAlarm(**row) for row in score["unexplained"]), journal_sha256=score["journal_sha256"],
    )  # fmt: skip


def _case(told: Struck, row: dict[str, Any], incidents: Mapping[str, Incident], start: float, reach_s: float) -> Case:
    incident = incidents.get(row["incident"])
    return Case(
        kind=row["kind"], truth=row["truth"], explicit=told.story.truth.explicit, machine=_is_machine(told),
        at_s=round(row["at"] - start, 1), said=row["said"], check=incident.check if incident is not None else "", located=row["located"],
        named=incident is not None and _accuses(incident) and _explains(told, incident, reach_s), right=row["right"], verb=row["verb"],
        detect_s=row["detect_s"], recover_s=row["recover_s"],
    )  # fmt: skip


def _is_machine(told: Struck) -> bool:
    return told.story.truth.verb is Action.REPLACE and told.story.truth.blames is not None


def _accuses(incident: Incident) -> bool:
    return incident.verdict.verdict is Judgement.CULPRIT and Action.REPLACE.value in (incident.verb, incident.verdict.action)


def nodes_of(incident: Incident) -> set[str]:
    """The nodes an incident speaks of."""
    return _nodes((*incident.targets, *incident.verdict.culprits))


def _nodes(places: Sequence[Any]) -> set[str]:
    return {place.node for place in places if place.node} | {place.id for place in places if place.kind == Kind.NODE}


def _explains(told: Struck, incident: Incident, reach_s: float) -> bool:
    """Whether a story has made one of the accused machines such that to replace it is right."""
    truth = told.story.truth
    in_time = told.at - _SLACK_S <= incident.at <= told.at + reach_s
    return in_time and Action.REPLACE in (truth.verb, *truth.others) and bool(nodes_of(incident) & set(told.nodes))

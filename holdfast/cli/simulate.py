"""`holdfast simulate`: the whole service over a simulated cluster, as fast as it goes, and its score."""

import time
from typing import Any

import msgspec

from holdfast.cli.diagnose import unusable
from holdfast.cli.output import as_json, chosen
from holdfast.simulation import Digest, Simulation, Speed, settings
from simulator.scenario import Scenario, ScenarioError, read, schema


def load(scenario: str, seed: int | None) -> Scenario:
    """A scenario by file or name; ends the command with status 2 where it is none."""
    try:
        found = read(scenario)
    except ScenarioError as error:
        unusable(str(error))
    return found if seed is None else msgspec.structs.replace(found, seed=seed)


def simulate(scenario: str, *, seed: int | None, speed: str, format: str) -> int:
    """Run a scenario as fast as it goes and print its score."""
    told = load(scenario, seed)
    simulation = Simulation(told, Digest(), settings(nodes=told.nodes), speed=Speed(speed))
    begun = time.monotonic()
    while not simulation.over:
        simulation.step()
    answer = simulation.score(time.monotonic() - begun)
    print(as_json(answer) if chosen(format) == "json" else score_table(answer))
    return 0


def print_schema() -> int:
    """Print the JSON Schema of a scenario file."""
    print(as_json(schema()))
    return 0


def score_table(answer: dict[str, Any]) -> str:
    """A score for a person."""
    rows = [f"SIMULATED  seed {answer['seed']}: {answer['simulated_s']:.0f} s in {answer['wall_s']:.1f} s on {answer['devices']} devices"]
    rows.append(f"{'fault':22s} {'class':18s} {'detected':>9s} {'located':>8s} {'repaired':>9s}  verb")
    for one in answer["stories"]:
        found = f"{one['detect_s']:.0f} s" if one["said"] == one["truth"] and one["detect_s"] is not None else "missed"
        ended = f"{one['recover_s']:.0f} s" if one["recover_s"] is not None else "no"
        rows.append(f"{one['kind']:22s} {one['truth']:18s} {found:>9s} {'yes' if one['located'] else 'no':>8s} {ended:>9s}  {one['verb']}")
    rows.append(
        f"recall {answer['recall']}, precision {answer['precision']}, located {answer['located']}, recovered {answer['recovered']} "
        f"(n = {answer['n']}); {answer['false_alarms']} false alarms in {answer['observed_node_hours']} node hours; ETTR {answer['ettr']}"
    )
    return "\n".join(rows)

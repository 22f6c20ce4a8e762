"""`holdfast simulate` and `holdfast demo`: the whole service over a simulated cluster."""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from holdfast.cli.diagnose import unusable
from holdfast.cli.output import as_json, chosen, headline
from holdfast.events import Transition
from holdfast.incident import Incident
from holdfast.journal import Journal
from holdfast.simulation import Simulation, settings
from simulator.scenario import Scenario, ScenarioError, read

_LAG_SAID_S = 30.0


def load(scenario: str, seed: int | None) -> Scenario:
    """A scenario by file or name; ends the command with status 2 where it is none."""
    try:
        found = read(scenario)
    except ScenarioError as error:
        unusable(str(error))
    return found if seed is None else msgspec.structs.replace(found, seed=seed)


def simulate(scenario: str, seed: int | None, format: str) -> int:
    """Run a scenario as fast as it goes and print its score."""
    with tempfile.TemporaryDirectory(prefix="holdfast-simulate-") as folder:
        path = Path(folder) / "journal.sqlite"
        simulation = Simulation(load(scenario, seed), Journal(path, snapshots_kept=0), settings(path))
        begun = time.monotonic()
        while not simulation.over:
            simulation.step()
        answer = simulation.score(time.monotonic() - begun)
        simulation.journal.close()
    print(as_json(answer) if chosen(format) == "json" else _table(answer))
    return 0


def demo(*, once: bool, seed: int, report: str, speed: float) -> int:
    """Play the demo scenario at `speed` times real time (0: as fast as it goes) and tell of each incident.

    once: end with the scenario; 1 if a fault was missed, or something was called one that is none
    """
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as folder:
        path = Path(folder) / "journal.sqlite"
        scenario = load("demo", seed)
        simulation = Simulation(scenario, Journal(path, snapshots_kept=0), settings(path))
        simulation.parts.pipeline.exporters = (*simulation.parts.pipeline.exporters, Teller(simulation))
        print(f"SIMULATED: {scenario.nodes} nodes, {8 * scenario.nodes} devices, seed {seed}; all that follows is simulated", flush=True)
        begun = time.monotonic()
        _play(simulation, speed=speed, once=once)
        answer = simulation.score(time.monotonic() - begun)
        simulation.journal.close()
    if report:
        Path(report).write_bytes(msgspec.json.format(msgspec.json.encode(answer), indent=2) + b"\n")
    print(_table(answer))
    missed = [one for one in answer["stories"] if not (one["said"] == one["truth"] and one["located"] and one["recovered"])]
    return 1 if missed or answer["false_alarms"] else 0


def _play(simulation: Simulation, *, speed: float, once: bool) -> None:
    begun, said_at = time.monotonic(), 0.0
    try:
        while not (once and simulation.over):
            simulation.step()
            if speed <= 0:
                continue
            due = begun + (simulation.now - simulation.start) / speed
            lag_s = time.monotonic() - due
            if lag_s < 0:
                time.sleep(-lag_s)
            elif lag_s > 1.0 and time.monotonic() - said_at > _LAG_SAID_S:
                said_at = time.monotonic()
                print(f"  ... {lag_s:.1f} s behind {speed:.0f} times real time", flush=True)
    except KeyboardInterrupt:
        print(file=sys.stderr)


class Teller:
    """Prints one line whenever an incident is understood, acted upon or over."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self._told: dict[str, str] = {}

    def export(self, event: object) -> None:
        if not isinstance(event, Transition):
            return
        incident = event.incident
        now = f"{incident.state} {incident.verb or ''}"
        if self._told.get(incident.id) != now and incident.state not in ("open", "diagnosing"):
            self._told[incident.id] = now
            print(self._line(incident), flush=True)

    def _line(self, incident: Incident) -> str:
        past_s = self.simulation.now - self.simulation.start
        took = f"{self.simulation.now - incident.at:.0f} s"
        where = ", ".join(dict.fromkeys(str(target) for target in incident.targets[:2])) or incident.job
        clock, verb = f"{int(past_s // 60):3d}:{int(past_s % 60):02d}", incident.verb.value if incident.verb else "watch"
        return f"{clock}  {incident.id:4s} {incident.state.value:12s} {verb:9s} {took:>6s}  {headline(incident.verdict)}  [{where}]"


def _table(answer: dict[str, Any]) -> str:
    rows = [f"SIMULATED  seed {answer['seed']}: {answer['simulated_s']:.0f} s in {answer['wall_s']:.1f} s on {answer['devices']} devices"]
    rows.append(f"{'fault':18s} {'class':18s} {'detected':>9s} {'located':>8s} {'repaired':>9s}  verb")
    for one in answer["stories"]:
        found = f"{one['detect_s']:.0f} s" if one["said"] == one["truth"] and one["detect_s"] is not None else "missed"
        ended = f"{one['recover_s']:.0f} s" if one["recover_s"] is not None else "no"
        rows.append(f"{one['kind']:18s} {one['truth']:18s} {found:>9s} {'yes' if one['located'] else 'no':>8s} {ended:>9s}  {one['verb']}")
    rows.append(
        f"recall {answer['recall']}, precision {answer['precision']}, located {answer['located']}, recovered {answer['recovered']} "
        f"(n = {answer['n']}); {answer['false_alarms']} false alarms in {answer['observed_node_hours']} node hours; ETTR {answer['ettr']}"
    )
    return "\n".join(rows)

"""The demo in a terminal: a live table for a person who looks, plain lines, one for each piece of news, for everything else."""

import re
from collections import Counter
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from holdfast.cli.output import headline
from holdfast.demo import HOST, LEAST_SPEED, Demo
from holdfast.faults import Judgement, Symptom
from holdfast.incident import Incident, State

_ROWS_MOST = 12
_COLOURS = {State.RESOLVED: "green", State.NEEDS_HUMAN: "yellow", State.AWAITING_APPROVAL: "yellow"}
_FIGURE = re.compile(
    rb'^holdfast_job_(tokens_per_second|effective_training_time_ratio)\{job="([^"]*)"\} (\S+)$', re.MULTILINE
)


class Lines:
    """One line whenever an incident is understood, acted upon or over."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def begin(self, demo: Demo, *, url: str, act: Path) -> None:
        """Say what this is and where it is seen."""
        self.demo = demo
        print(f"SIMULATED: {_size(demo)}; all figures are simulated")
        print(f"page: {url}\nthe token to act with: {act}", flush=True)

    def show(self) -> None:
        """Print what is new."""
        for incident in self.demo.simulation.parts.board.incidents.values():
            now = f"{incident.state} {incident.verb or ''}"
            if self._told.get(incident.id) != now and incident.state not in (State.OPEN, State.DIAGNOSING):
                self._told[incident.id] = now
                print(self._line(incident), flush=True)

    def end(self) -> None:
        """Nothing is left open."""

    def _line(self, incident: Incident) -> str:
        now = self.demo.simulation.now
        past_s = now - self.demo.simulation.start
        took = f"{_end_of(incident, now) - incident.at:.0f} s"
        clock = f"{int(past_s // 60):3d}:{int(past_s % 60):02d}"
        state = incident.state.replace("_", " ")
        line = f"{clock}  {incident.id:4s} {state:17s} {_verb(incident):9s} {took:>6s}  {headline(incident.verdict)}  [{_where(incident)}]"
        return "".join(letter if letter.isprintable() else "?" for letter in line)


class Screen:
    """The same as a table that is kept up to date, with jobs, nodes and the speed of the simulation."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)

    def begin(self, demo: Demo, *, url: str, act: Path) -> None:
        """Print the address once, above the table; then show the table."""
        self.demo = demo
        self._console.print(Text.assemble("page: ", (url, "bold")), soft_wrap=True)
        self._console.print(Text(f"the token to act with: {act}"), soft_wrap=True)
        self._live.start()

    def show(self) -> None:
        """Draw it as it stands."""
        self._live.update(Group(self._head(), "", self._jobs(), "", self._incidents()), refresh=True)

    def end(self) -> None:
        """Leave the last picture standing."""
        self._live.stop()

    def _head(self) -> RenderableType:
        demo = self.demo
        past_s = int(demo.simulation.now - demo.simulation.start)
        nodes = Counter("silent" if n.silent and n.state == "ready" else n.state for n in demo.simulation.parts.board.nodes.values())
        states = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in sorted(nodes.items()))
        late_s = demo.pace.lag_s()
        behind = f", {late_s:.1f} s behind {LEAST_SPEED:.0f} times" if late_s >= 0.1 else ""
        ended = "; every fault has been met, Ctrl-C ends" if demo.simulation.over else ""
        return Group(
            Text.assemble((" SIMULATED ", "reverse yellow"), f" {_size(demo)}; all figures are simulated"),
            Text(
                f"{past_s // 3600}:{past_s % 3600 // 60:02d}:{past_s % 60:02d} of simulated time, "
                f"{demo.pace.measured():.0f} times real time{behind}{ended}"
            ),
            Text(f"nodes: {states or 'none heard yet'}; page on http://{HOST}:{demo.port}/"),
        )

    def _jobs(self) -> RenderableType:
        figures = {
            (name.decode(), job.decode("utf-8", "replace")): float(value)
            for name, job, value in _FIGURE.findall(self.demo.simulation.parts.metrics())
        }
        table = Table("job", "state", box=None, pad_edge=False)
        for column in ("step", "attempt", "tokens/s", "ETTR"):
            table.add_column(column, justify="right")
        for job in self.demo.simulation.parts.board.jobs.values():
            tokens, ratio = figures.get(("tokens_per_second", job.id)), figures.get(("effective_training_time_ratio", job.id))
            table.add_row(
                Text(job.id), Text("running" if job.state == "started" else job.state), str(job.step) if job.step >= 0 else "",
                str(job.attempt + 1), "" if tokens is None else f"{tokens:,.0f}", "" if ratio is None else f"{100 * ratio:.1f} %",
            )  # fmt: skip
        return table

    def _incidents(self) -> RenderableType:
        now = self.demo.simulation.now
        table = Table("state", "what", "where", "why", "action", box=None, pad_edge=False, expand=True)
        table.add_column("took", justify="right")
        for column in table.columns:
            column.no_wrap, column.overflow = True, "ellipsis"
        table.columns[3].ratio = 1
        known = list(self.demo.simulation.parts.board.incidents.values())
        for incident in reversed(known[-_ROWS_MOST:]):
            table.add_row(
                Text(incident.state.replace("_", " "), _COLOURS.get(incident.state, "red")), Text(_what(incident)),
                Text(_where(incident)), Text(_why(incident)), Text(_verb(incident)), f"{_end_of(incident, now) - incident.at:.0f} s",
            )  # fmt: skip
        earlier = len(known) - _ROWS_MOST
        return Group(table, Text(f"and {earlier} earlier ones", "dim")) if earlier > 0 else table


def _size(demo: Demo) -> str:
    nodes = len(demo.simulation.world.cluster.nodes)
    return f"{nodes} nodes, {8 * nodes} devices, seed {demo.simulation.scenario.seed}"


def _end_of(incident: Incident, now: float) -> float:
    return now if incident.ended_at is None else incident.ended_at


def _what(incident: Incident) -> str:
    verdict = incident.verdict
    seen = incident.perception if verdict.symptom is Symptom.NONE else verdict.symptom
    return f"{seen}: {verdict.fault}".replace("_", " ") if seen else verdict.fault.replace("_", " ")


def _where(incident: Incident) -> str:
    blamed = [f"{c.kind} {c.id}" + (f" on {c.node}" if c.node and c.node != c.id else "") for c in incident.verdict.culprits[:2]]
    named = blamed or [str(target) for target in incident.targets[:2]]
    return ", ".join(dict.fromkeys(named)) or incident.job


def _why(incident: Incident) -> str:
    verdict = incident.verdict
    if verdict.verdict is not Judgement.CULPRIT or not verdict.culprits:
        cause = {Judgement.NOBODY: "nobody to blame", Judgement.UNDECIDED: "undecided"}.get(verdict.verdict, "")
    else:
        cause = verdict.culprits[0].cause.replace("_", " ")
    return ": ".join(part for part in (cause, verdict.evidence[0].text if verdict.evidence else incident.note) if part)


def _verb(incident: Incident) -> str:
    if incident.verb is None:
        return "watch" if incident.ended else ""
    return incident.verb.value

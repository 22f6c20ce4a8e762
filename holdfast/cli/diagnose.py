"""`holdfast diagnose`: files after the fact, with no service running."""

import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from holdfast.cli.output import as_json, chosen, show_verdict


class _PathsOrCommand(TyperGroup):
    """`diagnose PATH...` is `diagnose all PATH...`: a first word that is no command is a path."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = next((arg for arg in args if not arg.startswith("-")), None)
        if first is not None and first not in self.commands:
            args = ["all", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_PathsOrCommand,
    no_args_is_help=True,
    help="Say what broke, from files. Example: holdfast diagnose ./crash-folder",
)

Paths = Annotated[list[str], typer.Argument(metavar="PATH...", help="files, or folders that are walked")]
Format = Annotated[str, typer.Option("--format", help="table or json; default: table on a terminal")]
ExitCode = Annotated[bool, typer.Option("--exit-code", help="end with status 1 when a fault was found")]


def _run(
    who: str, paths: list[str], options: dict[str, str], format: str, exit_code: bool, *, needs_one: bool = False
) -> None:
    """needs_one: end with status 2 when no file could be used, instead of saying only what was skipped."""
    from holdfast.faults import Judgement, Symptom
    from holdfast.offline import InputError, diagnose_all, walk
    from holdfast.plugins import load
    from holdfast.ports import Input

    try:
        if who == "all":
            verdict = diagnose_all(paths, options)
        else:
            inputs = [Input(name=name, path=path) for name, path in walk(paths)]
            verdict = load("diagnosers", who)().diagnose(inputs, options)
            if needs_one and inputs and len({skipped.file for skipped in verdict.skipped}) == len(inputs):
                unusable(f"{verdict.skipped[0].file}: {verdict.skipped[0].reason}")
    except (InputError, ValueError) as error:
        unusable(str(error))
    show_verdict(verdict, format)
    # a job that stands still is at fault, whether or not anybody can be named
    wrong = verdict.verdict in (Judgement.CULPRIT, Judgement.NOBODY) or verdict.symptom is not Symptom.NONE
    raise typer.Exit(1 if exit_code and wrong else 0)


def unusable(reason: str) -> None:
    """End with status 2 and one line on stderr."""
    print(f"holdfast: {reason}", file=sys.stderr)
    raise typer.Exit(2)


@app.command("all", hidden=True)
def everything(paths: Paths, format: Format = "", exit_code: ExitCode = False) -> None:
    """Tell each file's kind by its content and join all evidence into one verdict."""
    _run("all", paths, {}, format, exit_code)


@app.command()
def hang(
    paths: Paths,
    world_size: Annotated[int, typer.Option("--world-size", help="ranks there should be; 0: as the dumps say")] = 0,
    graph: Annotated[str, typer.Option("--graph", help="write the wait-for graph to this SVG file")] = "",
    processes: Annotated[int, typer.Option("--processes", min=1, max=16, help="that read files beside each other")] = 1,
    format: Format = "",
    exit_code: ExitCode = False,
) -> None:
    """Which rank holds up the job: flight recorder dumps, stacks, RAS, process tables.

    Example: holdfast diagnose hang ./dumps
    """
    options = {"processes": str(processes)} | ({"world_size": str(world_size)} if world_size else {})
    _run("hang", paths, options | ({"graph": graph} if graph else {}), format, exit_code)


@app.command()
def job(
    paths: Paths,
    rules: Annotated[str, typer.Option("--rules", help="a file of rules of your own, which come first")] = "",
    format: Format = "",
    exit_code: ExitCode = False,
) -> None:
    """Why a job died, from its logs. Example: holdfast diagnose job rank*.log slurm-12.out"""
    _run("job", paths, {"rules": rules} if rules else {}, format, exit_code)


@app.command()
def slow(
    paths: Annotated[list[str], typer.Argument(metavar="TRACE...", help="operation traces or step tables")],
    threshold: Annotated[str, typer.Option("--threshold", help="slowdown from which a job is slow; default 1.1")] = "",
    format: Format = "",
    exit_code: ExitCode = False,
) -> None:
    """What slows a job, and who if anybody, from operations or steps. Example: holdfast diagnose slow trace.parquet"""
    _run("slow", paths, {"threshold": threshold} if threshold else {}, format, exit_code, needs_one=True)


@app.command()
def training(paths: Paths, format: Format = "", exit_code: ExitCode = False) -> None:
    """Whether it still learns, and as fast as before, from step lines; several files are runs that are compared.

    Example: holdfast diagnose training train.log
    """
    _run("training", paths, {}, format, exit_code)


@app.command()
def logs(
    paths: Paths,
    every: Annotated[bool, typer.Option("--all", help="also print lines with no finding")] = False,
    format: Format = "",
    exit_code: ExitCode = False,
) -> None:
    """Kernel, driver and fabric logs, one finding per line (JSON lines). Example: holdfast diagnose logs dmesg.txt"""
    from holdfast.offline import InputError, walk
    from holdfast.plugins import load
    from holdfast.ports import Input

    try:
        inputs = [Input(name=name, path=path) for name, path in walk(paths)]
    except InputError as error:
        unusable(str(error))
    print_findings(load("diagnosers", "logs")().findings(inputs, {"all": "1"} if every else {}), format, exit_code)


@app.command()
def node(
    root: Annotated[str, typer.Option("--root", help="a copy of its /sys, /proc, /dev and tool outputs; default: this machine")] = "/",
    machines: Annotated[str, typer.Option("--machines", help="what machines of each type have, TOML; see holdfast node learn")] = "",
    checks: Annotated[str, typer.Option("--checks", help="checks of your own, TOML, over those of the package")] = "",
    format: Format = "",
    exit_code: ExitCode = False,
) -> None:
    """The state of a machine and its parts, one finding per line (JSON lines). Example: holdfast diagnose node --root ./n3"""
    from pathlib import Path

    from holdfast.plugins import load

    if not Path(root).is_dir():
        unusable(f"{root}: no such folder")
    options = {"machines": machines, "checks": checks}
    print_findings(load("diagnosers", "node")().findings(root, options), format, exit_code)


@app.command()
def metrics(
    paths: Annotated[list[str], typer.Argument(metavar="FILE...", help="Prometheus text pages; several of one source are compared")],
    names: Annotated[str, typer.Option("--names", help="metric names of your own exporters, TOML, over those of the package")] = "",
    checks: Annotated[str, typer.Option("--checks", help="checks of your own, TOML, over those of the package")] = "",
    format: Format = "",
    exit_code: ExitCode = False,
) -> None:
    """Exporters' and inference engines' pages, one finding per line (JSON lines). Example: holdfast diagnose metrics dcgm.prom"""
    from holdfast.offline import InputError, walk
    from holdfast.plugins import load
    from holdfast.ports import Input

    try:
        inputs = [Input(name=name, path=path) for name, path in walk(paths)]
    except InputError as error:
        unusable(str(error))
    read = load("diagnosers", "metrics")()
    options = {"names": names, "checks": checks}
    try:
        rows = list(read.findings(inputs, options))
    except ValueError as error:
        unusable(str(error))
    if inputs and len(read.skipped) == len(inputs):
        unusable(f"{read.skipped[0].file}: {read.skipped[0].reason}")
    print_findings(rows, format, exit_code)


def print_findings(findings: Iterable[dict[str, Any]], format: str, exit_code: bool) -> None:
    """One finding per line; a file that was skipped is told on stderr."""
    found = False
    try:
        for finding in findings:
            if "skipped" in finding:
                print(f"holdfast: {finding['file']}: {finding['skipped']}", file=sys.stderr)
                continue
            found = found or (finding.get("severity") in ("fatal", "error") and not finding.get("cleared"))
            print(as_json(finding) if chosen(format) == "json" else _row(finding))
    except ValueError as error:
        unusable(str(error))
    if exit_code and found:
        raise typer.Exit(1)


def _row(finding: dict[str, Any]) -> str:
    if finding.get("check") is None:
        return f"{finding['file']}:{finding['line']}: -"
    count = f" x{finding['count']}" if finding.get("count", 1) > 1 else ""
    what = f"{finding['severity']} {finding['check']} {finding.get('device') or ''}".rstrip()
    return f"{finding['file']}:{finding['line']}: {what}{count}: {finding['text']}"

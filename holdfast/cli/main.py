"""The command line; every command imports what it needs when it runs, so that `--help` is instant."""

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli import diagnose, nodes

app = typer.Typer(
    name="holdfast", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
    help="Keeps long AI jobs running: says what broke, where and why, and repairs it.",
)  # fmt: skip
config_app = typer.Typer(no_args_is_help=True, help="Look at settings. Example: holdfast config check -c holdfast.toml")
app.add_typer(diagnose.app, name="diagnose")
app.add_typer(config_app, name="config")
app.add_typer(nodes.app, name="node")
app.command()(nodes.agent)
app.command()(nodes.check)

ConfigFile = Annotated[Path, typer.Option("-c", "--config", help="settings, TOML")]


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="the job, after --")],
    nproc: Annotated[
        int, typer.Option("--nproc", help="start N copies with RANK, WORLD_SIZE, MASTER_ADDR ... set; 0: one command")
    ] = 0,
    report: Annotated[str, typer.Option("--report", help="write the incidents here, JSON")] = "",
    directory: Annotated[str, typer.Option("--dir", help="where logs, journal and evidence are kept")] = "",
    job: Annotated[str, typer.Option("--job", help="the job's name; default: from the command")] = "",
    config: Annotated[str, typer.Option("-c", "--config", help="settings over those of a local run, TOML")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="do not show the job's own output")] = False,
) -> None:
    """Run a job here; diagnose it when it breaks, and repair it.

    Example: holdfast run -- torchrun --nproc-per-node 4 train.py
    """
    from holdfast.config import ConfigError, tables
    from holdfast.run import Settings, run_job

    try:
        own = tables(Path(config)) if config else {}
    except ConfigError as error:
        diagnose.unusable(str(error))
    settings = Settings(
        command=command, nproc=nproc, report=report, directory=directory, job=job, quiet=quiet, settings=own
    )
    raise typer.Exit(run_job(settings))


@app.command()
def serve(config: ConfigFile) -> None:
    """Run the service. Example: holdfast serve -c holdfast.toml"""
    from holdfast.config import ConfigError, read
    from holdfast.journal import JournalError
    from holdfast.logging import to_stderr
    from holdfast.service import serve as run_service

    to_stderr()
    try:
        run_service(read(config))
    except (ConfigError, JournalError) as error:
        diagnose.unusable(str(error))


@app.command()
def replay(
    journal: Annotated[Path, typer.Argument(help="a recorded journal")],
    format: diagnose.Format = "",
) -> None:
    """Decide a journal again; end with status 1 at the first difference. Example: holdfast replay holdfast.journal"""
    from holdfast.cli.replay import replay_file

    raise typer.Exit(replay_file(journal, format))


@app.command()
def simulate(
    scenario: Annotated[str, typer.Argument(help="a scenario, TOML, or the name of one that comes with it")] = "demo",
    seed: Annotated[int | None, typer.Option("--seed", help="instead of the scenario's own")] = None,
    speed: Annotated[str, typer.Option("--speed", help="full: every batch is written; fast: only around faults")] = "full",
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON Schema of a scenario instead")] = False,
    format: diagnose.Format = "",
) -> None:
    """Run a scenario on a simulated cluster and print its score. Example: holdfast simulate demo --seed 7"""
    from holdfast.cli.simulate import print_schema
    from holdfast.cli.simulate import simulate as run_scenario

    if speed not in ("full", "fast"):
        diagnose.unusable(f"--speed: {speed!r} is neither full nor fast")
    raise typer.Exit(print_schema() if schema else run_scenario(scenario, seed=seed, speed=speed, format=format))


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="end with the last fault; status 1 if one was missed")] = False,
    seed: Annotated[int, typer.Option("--seed", help="decides what breaks where and when")] = 1,
    report: Annotated[str, typer.Option("--report", help="write the score here, JSON")] = "",
    speed: Annotated[float, typer.Option("--speed", min=0.0, help="at most so many times real time; 0: as fast as it goes")] = 60.0,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="of the page on loopback; 0: a free one")] = 8642,
    scenario: Annotated[str, typer.Option("--scenario", help="a scenario, TOML, or a name that comes with it")] = "demo",
) -> None:
    """Show a simulated cluster that breaks and is repaired. Example: holdfast demo --once --seed 3"""
    from holdfast.cli.demo import demo as play

    raise typer.Exit(play(once=once, seed=seed, report=report, speed=speed, port=port, scenario=scenario))


@config_app.command("check")
def config_check(config: ConfigFile) -> None:
    """Say whether settings are right, by making every part they name."""
    from holdfast.assembly import assemble
    from holdfast.config import ConfigError, read

    try:
        assemble(read(config))
    except ConfigError as error:
        diagnose.unusable(str(error))
    print(f"{config}: right")


@config_app.command("show")
def config_show(config: ConfigFile) -> None:
    """Print settings in full, defaults included."""
    from holdfast.config import ConfigError, read, show

    try:
        print(show(read(config)), end="")
    except ConfigError as error:
        diagnose.unusable(str(error))


def main() -> None:
    """The `holdfast` command."""
    app()

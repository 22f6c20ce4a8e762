"""Commands of a node: what machines of its type have, its agent, and the health check that answers from what the agent knows."""

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.diagnose import ExitCode, Format, print_findings, unusable

app = typer.Typer(no_args_is_help=True, help="Machines and what they should have. Example: holdfast node learn -o machines.toml")


@app.command()
def learn(
    root: Annotated[str, typer.Option("--root", help="a copy of its /sys, /proc, /dev and tool outputs; default: this machine")] = "/",
    output: Annotated[str, typer.Option("-o", "--output", help="write here; default: stdout")] = "",
    type: Annotated[str, typer.Option("--type", help="what machines of this type are called; default: the board's product name")] = "",
) -> None:
    """Write what a healthy machine has, as what others of its type should have. Example: holdfast node learn -o machines.toml"""
    from collectors.node.expectations import ExpectationError, as_toml, learned
    from collectors.node.notes import Notes
    from collectors.node.survey import survey
    from collectors.node.tree import Tree

    if not Path(root).is_dir():
        unusable(f"{root}: no such folder")
    notes = Notes()
    survey(Tree(root), notes)
    try:
        text = as_toml(learned(notes, type=type))
        if output:
            Path(output).write_bytes(text)
        else:
            print(text.decode(), end="")
    except (ExpectationError, OSError) as error:
        unusable(f"{output or root}: {error}")


@app.command("test")
def run_tests(
    names: Annotated[list[str] | None, typer.Argument(metavar="[CHECK...]", help="which; default: all that can be run here")] = None,
    recorded: Annotated[list[str] | None, typer.Option("--from", help="judge a recorded output instead; may be repeated")] = None,
    settings: Annotated[str, typer.Option("-c", "--config", help="tables [checks.NAME] with settings, TOML")] = "",
    machines: Annotated[str, typer.Option("--machines", help="what machines of each type have and do, TOML")] = "",
    format: Format = "",
    exit_code: ExitCode = False,
) -> None:
    """Put parts of this machine under load and judge what they do (JSON lines). Example: holdfast node test disk memory --exit-code"""
    from collectors.node import expectations
    from holdfast.node.active.session import session
    from holdfast.plugins import ConfigError

    try:
        rows = session(names or [], recorded or [], settings=settings, machines=machines)
        print_findings(rows, format, exit_code)
    except (ConfigError, expectations.ExpectationError) as error:
        unusable(str(error))


def agent(config: Annotated[Path, typer.Option("-c", "--config", help="settings, TOML")]) -> None:
    """Collect and judge on this node, and tell the service. Example: holdfast agent -c agent.toml"""
    import os
    import sys

    # a process of its own from here on: the command line's libraries are memory that every node would pay for
    os.execv(sys.executable, [sys.executable, "-m", "holdfast.node.agent", "-c", str(config)])


def check(
    slurm: Annotated[bool, typer.Option("--slurm", help="drain this node by scontrol where its mode allows it")] = False,
    state: Annotated[str, typer.Option("--state", help="the agent's state file")] = "",
) -> None:
    """Say in one line whether this node is fit: status 0 well, 1 warning, 2 critical. Example: holdfast check --slurm"""
    import time

    from holdfast.node.check import check as look
    from holdfast.node.check import drain
    from holdfast.node.state import DEFAULT

    path, now = Path(state or DEFAULT), time.time()
    answer = look(path, now)
    print(answer.text, flush=True)
    if slurm:
        print(drain(path, now), flush=True)
    raise typer.Exit(answer.status)

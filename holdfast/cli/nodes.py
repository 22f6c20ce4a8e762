"""`holdfast node`: what machines of a type should have."""

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.diagnose import unusable

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

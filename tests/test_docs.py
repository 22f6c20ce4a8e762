"""What the pages show is what the commands print: each `$ holdfast ...` of a console block is run and compared."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.stories.kinds import kinds

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

# A command and what it prints, up to the next command or the end of the block.
SHOWN = re.compile(r"^\$ (holdfast (?:diagnose|config) .*)\n((?:(?!\$ |```).*\n)+)", re.MULTILINE)


def shown() -> Iterator[tuple[Path, str, str]]:
    """(page, command, output) of every command that is shown with its output."""
    for page in PAGES:
        for block in re.findall(r"^```console\n(.*?^)```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            yield from ((page, command, output) for command, output in SHOWN.findall(block))


def printed(command: str) -> str:
    """What the command prints on a terminal 110 columns wide, started in the checkout."""
    words = [sys.executable, "-m", *shlex.split(command)]
    env = {**os.environ, "COLUMNS": "110", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


@pytest.mark.parametrize(("page", "command", "output"), [pytest.param(*row, id=row[1]) for row in shown()])
def test_a_page_shows_what_the_command_prints(page: Path, command: str, output: str) -> None:
    says = printed(command)
    if os.environ.get("HOLDFAST_GOLDEN") == "write":
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(f"$ {command}\n{output}", f"$ {command}\n{says}"), encoding="utf-8")
        return
    assert output == says


def test_the_readme_opens_with_a_command_that_is_checked() -> None:
    assert next(shown())[1].startswith("holdfast diagnose")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_links_to_what_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def stories() -> str:
    """The table of kinds of story."""
    rows = ["| kind | class | blames | right verbs | told |", "|---|---|---|---|---|"]
    for kind in sorted(kinds().values(), key=lambda kind: (kind.truth.fault, kind.name)):
        truth = kind.truth
        verbs = ", ".join(verb.value for verb in (truth.verb, *truth.others))
        rows.append(f"| `{kind.name}` | {truth.fault} | {truth.blames or 'nobody'} | {verbs} | {'yes' if truth.explicit else 'no'} |")
    return "\n".join(rows)


def test_the_page_of_the_simulator_lists_every_kind_of_story() -> None:
    page, mark = ROOT / "docs" / "simulator.md", re.compile(r"(<!-- stories: .*-->\n)(.*?)(<!-- /stories -->)", re.DOTALL)
    text = page.read_text(encoding="utf-8")
    if os.environ.get("HOLDFAST_GOLDEN") == "write":
        text = mark.sub(lambda found: f"{found[1]}\n{stories()}\n\n{found[3]}", text)
        page.write_text(text, encoding="utf-8")
    shown = mark.search(text)
    assert shown is not None
    assert shown[2].strip() == stories(), "HOLDFAST_GOLDEN=write writes it anew"

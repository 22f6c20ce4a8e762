"""Writes the dashboards, the rules and the tables of docs/dashboards.md: `python -m dashboards.generate [--check]`."""

import difflib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dashboards.fleet import fleet
from dashboards.inference import inference
from dashboards.job import job
from dashboards.panels import Json
from dashboards.rules import rules

ROOT = Path(__file__).resolve().parents[1]
DASHBOARDS: dict[str, Callable[[], Json]] = {"fleet": fleet, "job": job, "inference": inference}
PAGE = "docs/dashboards.md"


def main(words: Sequence[str], root: Path = ROOT) -> int:
    """Write what is not current below `root`, or with `--check` only tell; the exit status."""
    if set(words) - {"--check"}:
        print("usage: python -m dashboards.generate [--check]", file=sys.stderr)
        return 2
    stale = {name: text for name, text in files(root).items() if _read(root / name) != text}
    for name, text in stale.items():
        if "--check" in words:
            sys.stdout.writelines(_difference(name, _read(root / name), text))
        else:
            (root / name).write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return 1 if stale and "--check" in words else 0


def files(root: Path = ROOT) -> dict[str, str]:
    """Path -> what it should hold, for everything that is generated."""
    built = {name: build() for name, build in DASHBOARDS.items()}
    texts = {f"dashboards/{name}.json": rendered(board) for name, board in built.items()}
    texts["dashboards/holdfast.rules.yml"] = rules()
    if (root / PAGE).exists():  # an installed package has no pages
        texts[PAGE] = with_tables(_read(root / PAGE), built)
    return texts


def rendered(board: Json) -> str:
    """A dashboard as it is committed."""
    return json.dumps(board, indent=2, ensure_ascii=False) + "\n"


def with_tables(page: str, boards: dict[str, Json]) -> str:
    """The page with the table of each dashboard's panels between its marks."""
    for name, board in boards.items():
        begin, end = f"<!-- panels: {name} -->", f"<!-- end of panels: {name} -->"
        if begin not in page or end not in page:
            raise ValueError(f"{PAGE}: no place for the panels of {name}: {begin} ... {end}")
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n\n{panel_table(board)}\n{end}{rest.partition(end)[2]}"
    return page


def panel_table(board: Json) -> str:
    """A Markdown table of a dashboard's panels: row, panel, what it shows."""
    lines, row = ["| row | panel | shows |", "|---|---|---|"], ""
    for panel in board["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        else:
            lines.append(f"| {row} | {panel['title']} | {panel['description']} |")
            row = ""
    return "\n".join([*lines, ""])


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _difference(name: str, old: str, new: str) -> list[str]:
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), name, f"{name} (generated)")
    return list(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""How answers are printed: tables for people, one JSON object for programs."""

import sys
from typing import Any

import msgspec

from holdfast.faults import Judgement
from holdfast.verdict import Verdict


def as_json(value: Any) -> str:
    """One object on one line."""
    return msgspec.json.encode(value).decode()


def chosen(format: str) -> str:
    """`table` or `json`: as told, else by whether a person is looking."""
    return format or ("table" if sys.stdout.isatty() else "json")


def show_verdict(verdict: Verdict, format: str) -> None:
    """Print a verdict to stdout."""
    if chosen(format) == "json":
        print(as_json(verdict))
        return
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False)
    out.print(f"[bold]{headline(verdict)}[/bold]")
    if verdict.culprits:
        table = Table("who", "cause", "confidence", "because", box=None)
        for c in verdict.culprits:
            table.add_row(f"{c.kind} {c.id}", c.cause, f"{c.confidence:.2f}", "\n".join(c.evidence[:4]))
        out.print(table)
    for sentence in _list(verdict.detail.get("chain")):
        out.print(f"  - {sentence}", markup=False)
    for line in verdict.evidence[:20]:
        place = f"{line.file}:{line.line}: " if line.line else f"{line.file}: " if line.file else ""
        out.print(f"  {place}{line.text}", markup=False, soft_wrap=True)
    for sentence in _list(verdict.detail.get("missing")):
        out.print(f"  missing: {sentence}", markup=False)
    for skipped in verdict.skipped:
        out.print(f"  skipped {skipped.file}: {skipped.reason}", markup=False)


def headline(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    if verdict.verdict is Judgement.HEALTHY:
        return "healthy: nothing is wrong in what was read"
    who = ", ".join(f"{c.kind} {c.id} ({c.cause})" for c in verdict.culprits)
    blame = {Judgement.CULPRIT: who, Judgement.NOBODY: "nobody to blame", Judgement.UNDECIDED: "undecided"}[
        verdict.verdict
    ]
    return f"{verdict.symptom}: {blame}; fault {verdict.fault}; action {verdict.action}"


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []

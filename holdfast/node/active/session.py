"""A round of active checks, run here or read from recorded outputs, as findings."""

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from collectors.node import expectations, outputs
from collectors.node.notes import Notes
from collectors.node.survey import look
from collectors.node.tree import Tree
from detectors.nodecheck.checks import Checks
from holdfast.node.active.runner import chosen, skipped
from holdfast.node.offline import judged
from holdfast.node.rows import in_order, row_of
from holdfast.plugins import ConfigError


def session(names: Sequence[str], recorded: Sequence[str], *, settings: str = "", machines: str = "") -> Iterator[dict[str, Any]]:
    """Findings of the checks that were run, or of recorded outputs; rows with `skipped` name what was not judged and why.

    raises ConfigError: settings that cannot be read, an unknown check or key
    raises ExpectationError: a file of machine types that is none
    """
    notes = Notes()
    missing: list[tuple[str, str]] = []
    if recorded:
        for name in recorded:
            if not outputs.read_file(name, Path(name), notes):
                notes.skipped.setdefault(name, "no output of a known test")
    else:
        look(Tree("/"), facts := Notes(), but=frozenset({"processes", "storage", "sensors", "network"}))
        notes.facts |= facts.facts  # what the machine is, not what it looks like: that is another command's
        missing = list(skipped(chosen(names, _tables(settings)), notes))
    expectations.note(notes, expectations.read(machines))
    yield from in_order([row_of(claim, where) for claim, where in judged(notes, Checks.read()) if _is_of_test(claim.signal)])
    for file, reason in (*notes.skipped.items(), *missing):
        yield {"file": file, "skipped": reason}


def _is_of_test(signal: str) -> bool:
    return signal.startswith("test.") or signal == "gpu.lost"


def _tables(settings: str) -> dict[str, dict[str, Any]]:
    if not settings:
        return {}
    try:
        tables = tomllib.loads(Path(settings).read_text(encoding="utf-8")).get("checks", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{settings}: {error}") from error
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ConfigError(f"{settings}: [checks.NAME] are tables")
    return tables

"""`holdfast diagnose node`: this machine or a copy of its trees and tool outputs -> findings, and one verdict."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from collectors.node import expectations, outputs
from collectors.node.notes import Notes, Place
from collectors.node.survey import survey
from collectors.node.tree import Tree
from detectors.nodecheck.checks import Checks
from detectors.nodecheck.judge import Claim, Judge
from holdfast.node.rows import Where, in_order, row_of, verdict_of
from holdfast.ports import Input
from holdfast.verdict import Json, Skipped, Verdict

# Where a path goes from a copy's root into a tree of the kernel's.
_SYS = re.compile(r"(?:^|/)sys/(?:class|bus|block|devices|module|kernel)/")
_PROC = re.compile(r"(?:^|/)proc/(?:meminfo|mounts|stat|uptime|vmstat|loadavg|mdstat|cpuinfo|pressure/|driver/|sys/|\d+/|self/)")
_PORT = re.compile(
    r"(?:^|/)[A-Za-z0-9_.-]+/(?:ports/\d+/(?:state|phys_state|rate|link_layer|gid_attrs/.*|gids/.*|pkeys/.*|(?:hw_)?counters/\w+)"
    r"|hca_type|board_id|fw_ver)$"
)


class Node:
    """The diagnoser `node`. options: machines, a file of machine types; checks, a table of checks of one's own."""

    kinds: Mapping[str, str] = {
        "node_tree": "a file of /sys, /proc or /dev, or a copy of one",
        **{tool.kind: f"output of {tool.kind}" for tool in outputs.TOOLS},
    }

    def recognise(self, name: str, head: bytes) -> str:
        if _SYS.search(name) or _PROC.search(name) or _PORT.search(name):
            return "node_tree"
        return outputs.kind_of(head)

    def findings(self, root: str, options: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """The findings of a machine, the worst first, as the contract has them; `skipped` rows name what could not be used.

        raises ValueError: nothing below the root is of a node
        """
        tree, notes = Tree(root), Notes()
        survey(tree, notes)
        if not notes.values and not notes.skipped:
            raise ValueError(f"{root}: holds neither /sys or /proc of a node nor an output of a known tool")
        yield from self._rows(tree, notes, options)
        yield from ({"file": file, "skipped": reason} for file, reason in notes.skipped.items())

    def diagnose(self, inputs: Sequence[Input], options: Mapping[str, str]) -> Verdict:
        rows: list[dict[str, Any]] = []
        skipped: list[Skipped] = []
        roots, files = _apart(inputs)
        for root in roots:
            tree, notes = Tree(root), Notes()
            survey(tree, notes)
            rows += self._rows(tree, notes, options, prefix=root)
            skipped += [Skipped(file, reason) for file, reason in notes.skipped.items()]
        notes = Notes()
        for given in files:
            if not outputs.read_file(given.name, given.path, notes):
                notes.skipped.setdefault(given.name, "no output of a known tool")
        rows += self._rows(Tree("/nonexistent"), notes, options)
        skipped += [Skipped(file, reason) for file, reason in notes.skipped.items()]
        detail: dict[str, Json] = {"roots": list(roots), "outputs": [given.name for given in files]}
        return verdict_of(in_order(rows), detail, skipped)

    def _rows(self, tree: Tree, notes: Notes, options: Mapping[str, str], *, prefix: str = "") -> list[dict[str, Any]]:
        name = tree.text(f"{tree.proc}/sys/kernel/hostname") if tree.proc else None
        expectations.note(notes, expectations.read(options.get("machines", "")))
        checks = Checks.read(options.get("checks", ""))
        return in_order([row_of(claim, where, node=name or "") for claim, where in judged(notes, checks, prefix)])


def judged(notes: Notes, checks: Checks, prefix: str = "") -> Iterator[tuple[Claim, Where]]:
    """What the checks say of one look, and where each reading stands."""
    judge = Judge(checks, offline=True, patience=1)
    for batch in notes.samples(0.0, source="look"):
        for claim in judge.look(batch):
            place = notes.places.get((claim.target, claim.signal), Place("", 0, "", ""))
            file = f"{prefix.rstrip('/')}/{place.file}" if prefix and not place.file.startswith("/") else place.file
            yield claim, Where(file, place.line, place.text, place.name)


def _apart(inputs: Sequence[Input]) -> tuple[list[str], list[Input]]:
    """(roots of copies of trees, tool outputs) of some files."""
    roots, files = dict[str, None](), list[Input]()
    for given in inputs:
        path = str(given.path.absolute())
        found = _SYS.search(path) or _PROC.search(path)
        port = _PORT.search(path)
        if found is not None:
            roots[path[: found.start()] or "/"] = None
        elif port is not None:
            card = path[port.start() :].strip("/").split("/")[0]
            roots[str(Path(path[: port.start() + 1] + card).parent)] = None
        else:
            files.append(given)
    return list(roots), files

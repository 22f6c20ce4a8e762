"""The rules of the house that no other tool checks: where time and chance may be asked for, sizes, names, papers."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("holdfast", "collectors", "detectors", "remedier", "exporters", "dashboards", "simulator")
KERNEL = ("bus", "events", "faults", "incident", "pipeline", "ports", "topology", "verdict", "wire")

# Who may ask for the time or for chance; everybody else is told (a replay must decide the same again).
MAY_ASK = {
    "holdfast/service.py": "the live clock: the one place that calls `step` with the present time",
    "holdfast/run.py": "supervises real processes, makes tokens and names a run's folder",
    "holdfast/children.py": "starts real processes again, later each time they die young",
    "holdfast/cli/": "a person waits in front of it",
    "holdfast/node/agent.py": "the live clock of a node",
    "holdfast/node/active/": "measures the machine it runs on",
    "collectors/": "the outside has a clock of its own",
    "remedier/backends/": "acts on the outside",
    "exporters/": "shows to the outside",
    "ftagent/": "lives in the job, where time is what is measured",
}
CLOCKS = re.compile(
    r"time\.(time|time_ns|monotonic|monotonic_ns|perf_counter|perf_counter_ns|sleep|strftime|ctime|localtime|gmtime)"
    r"|(datetime\.)?(datetime|date)\.(now|utcnow|today)|random\..*|secrets\..*|uuid\.uuid[14]|os\.urandom"
    r"|(numpy|np)\.random\.(?!Generator|Philox|SeedSequence|PCG64).*"
)
# Written in pieces, so that this file does not hold what it looks for.
STUBS = re.compile(r"\bTO" + r"DO|\bFIX" + r"ME|\bXX" + r"X\b|\bHA" + r"CK\b|NotImplemented" + "Error")
FOREIGN = {
    "a path of one machine": re.compile(r"(?<![\w.])/(wo" + r"rk|ro" + r"ot|ho" + r"me|Us" + r"ers)/[A-Za-z.]"),
    "an address of a private network": re.compile(r"\b(10|192\.168|172\.(1[6-9]|2\d|3[01]))(\.\d{1,3}){2,3}\b(?!\.\d)"),
    "a package registry": re.compile(r"(py" + r"pi|python" + r"hosted|npm" + r"js|proxy\.go" + r"lang)\.(org|io|com)"),
    "a secret": re.compile(
        r"AK" + r"IA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE" + r" KEY|gh[ps]_" + r"[A-Za-z0-9]{30}|xo" + r"x[abps]-[0-9]"
    ),
}
VAGUE = {"utils", "util", "helper", "helpers", "common", "manager", "managers", "misc"}


@cache
def tracked() -> tuple[Path, ...]:
    """Every file of the project, from the repository's own list."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if listed.returncode:
        pytest.skip("not a checkout: git does not list the files")
    return tuple(path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file())


def python_files(*folders: str) -> list[Path]:
    """The Python files below these folders, all if none is given."""
    found = [path for path in tracked() if path.suffix == ".py"]
    return [path for path in found if not folders or path.relative_to(ROOT).parts[0] in folders]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def place(path: Path, node: ast.AST | None = None) -> str:
    """`file:line`, as a person finds it."""
    line = getattr(node, "lineno", 1)
    return f"{path.relative_to(ROOT)}:{line}"


def modules_of(path: Path) -> Iterator[tuple[ast.AST, str]]:
    """Each import of a file and the full name it brings in."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node, f"{node.module}.{name.name}") for name in node.names)


def calls_of(path: Path) -> Iterator[tuple[ast.AST, str]]:
    """Each dotted name that a file uses, imported names written out."""
    known: dict[str, str] = {}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            known |= {name.asname or name.name: name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            known |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute | ast.Name):
            first, dot, rest = ast.unparse(node).partition(".")
            if first in known:
                yield node, known[first] + dot + rest


def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_only_the_edges_ask_for_the_time_or_for_chance() -> None:
    inner = [p for p in python_files(*OURS) if not str(p.relative_to(ROOT)).startswith(tuple(MAY_ASK))]
    assert inner
    asked = [f"{place(p, node)} {name}" for p in inner for node, name in calls_of(p) if CLOCKS.fullmatch(name)]
    assert asked == []


def test_whoever_may_ask_for_the_time_is_there() -> None:
    gone = [name for name in MAY_ASK if not (ROOT / name).exists()]
    assert gone == []


def test_a_function_fits_on_a_screen() -> None:
    functions = ((p, n) for p in python_files() for n in ast.walk(tree_of(p)))
    sizes = [
        (place(p, n), n.end_lineno - n.lineno + 1)
        for p, n in functions
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.end_lineno
    ]
    assert [size for size in sizes if size[1] > 70] == []


def test_a_file_holds_one_idea() -> None:
    sizes = [(place(p), len(p.read_text(encoding="utf-8").splitlines())) for p in python_files()]
    assert [size for size in sizes if size[1] > 400] == []


def test_every_init_is_empty_but_the_agents() -> None:
    inits = [p for p in python_files() if p.name == "__init__.py"]
    full = [str(p.relative_to(ROOT)) for p in inits if p.read_text(encoding="utf-8")]
    assert full == ["ftagent/src/ftagent/__init__.py"]


def test_every_module_says_what_it_is_for() -> None:
    modules = [p for p in python_files() if p.name != "__init__.py"]
    assert [place(p) for p in modules if not ast.get_docstring(tree_of(p))] == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [place(p) for p in python_files() if VAGUE & set(p.stem.split("_"))] == []


def test_only_the_bus_catches_everything() -> None:
    handlers = ((p, n) for p in python_files() for n in ast.walk(tree_of(p)) if isinstance(n, ast.ExceptHandler))
    broad = {place(p, n).split(":")[0] for p, n in handlers if n.type is None or _broad(n.type)}
    assert broad == {"holdfast/bus.py"}


def _broad(caught: ast.expr) -> bool:
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)


def test_nothing_is_left_for_later() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()}"
        for path in tracked()
        if path.suffix in (".py", ".toml", ".yml", ".md", ".sh", "")
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if STUBS.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("what", FOREIGN)
def test_no_file_holds(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()[:100]}"
        for path in tracked()
        # a lock's versions look like addresses; that it holds no address is a test of its own below
        if path.suffix not in (".lock", ".png", ".gz", ".parquet")
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if FOREIGN[what].search(line)
    ]
    assert found == []


def test_the_kernel_stands_on_the_standard_library_numpy_and_msgspec() -> None:
    allowed = {*sys.stdlib_module_names, "numpy", "msgspec", *(f"holdfast.{name}" for name in KERNEL)}
    files = [ROOT / "holdfast" / f"{name}.py" for name in KERNEL]
    foreign = [f"{place(p, node)} {name}" for p in files for node, name in modules_of(p) if not _within(name, allowed)]
    assert foreign == []


def test_every_third_party_that_is_imported_is_declared() -> None:
    """What comes along with something else today may be gone with its next version."""
    named = {"opentelemetry-sdk": "opentelemetry", "google-re2": "re2", "scikit-learn": "sklearn"}
    declared = {re.split(r"[<>=\[]", row)[0] for row in settings()["project"]["dependencies"]}
    allowed = {*sys.stdlib_module_names, *OURS, *(named.get(name, name.replace("-", "_").lower()) for name in declared)}
    files = [path for path in python_files(*OURS) if path.relative_to(ROOT).parts[0] != "dashboards"]
    foreign = {f"{place(p, node)} {name}" for p in files for node, name in modules_of(p) if not _within(name, allowed)}
    assert sorted(foreign) == []


def test_the_agent_stands_on_the_standard_library() -> None:
    allowed = {*sys.stdlib_module_names, "ftagent"}
    files = python_files("ftagent")
    foreign = [f"{place(p, node)} {name}" for p in files for node, name in modules_of(p) if not _within(name, allowed)]
    assert files
    assert foreign == []


def _within(name: str, allowed: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:n]) in allowed for n in range(1, len(parts) + 1))


def test_the_simulator_does_not_borrow_the_detectors_words() -> None:
    """Neither by import nor by reading their data: it would only prove that they agree with themselves."""
    assert [place(p) for p in python_files("simulator") if "detectors" in p.read_text(encoding="utf-8")] == []


def test_every_plugin_has_its_paragraph() -> None:
    groups: dict[str, dict[str, str]] = settings()["project"]["entry-points"]
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    plugins = [f"{group.removeprefix('holdfast.')}.{name}" for group, rows in groups.items() for name in rows]
    paragraphs = {name for name in plugins if re.search(rf"^#+ `{re.escape(name)}`[^\n]*\n\n\w", pages, re.MULTILINE)}
    assert plugins
    assert sorted(set(plugins) - paragraphs) == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-train.lock"])
def test_a_lock_holds_versions_and_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    rows = re.split(r"\n(?=\S)", text.partition("by hand.\n")[2].strip())
    whole = re.compile(r"[a-z0-9-]+==[\w.!]+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+")
    assert rows
    assert [row.split("\n")[0] for row in rows if not whole.fullmatch(row)] == []
    assert "://" not in text

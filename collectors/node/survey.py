"""One look at a node: every part of its tree and every tool output in it, read into one set of notes."""

from collections.abc import Callable
from pathlib import Path

from collectors.node import drivers, host, infiniband, network, outputs, pci, sensors, storage
from collectors.node.host import Processes
from collectors.node.notes import Notes
from collectors.node.tree import Tree, walk

MOST_FILES = 5_000
_PARTS = frozenset({"sys", "proc", "dev"})

# In this order: what later readers find of a node is compared with what earlier ones did.
READERS: tuple[tuple[str, Callable[[Tree, Notes], None]], ...] = (
    ("infiniband", infiniband.read),
    ("pci", pci.read),
    ("drivers", drivers.read),
    ("network", network.read),
    ("storage", storage.read),
    ("sensors", sensors.read),
    ("host", host.read),
)


def look(
    tree: Tree, notes: Notes, *, processes: Processes | None = None, at: float | None = None, but: frozenset[str] = frozenset()
) -> None:
    """Read /sys, /proc and /dev. processes: remembers between looks; at: seconds of this one; but: readers to leave out."""
    for name, reader in READERS:
        if name not in but:
            reader(tree, notes)
    if "processes" not in but:
        (processes or Processes()).read(tree, notes, at)
    _manager(notes)


def _manager(notes: Notes) -> None:
    """Switches that nobody manages: without the fabric manager no device behind them can start a job."""
    running = notes.facts.get("processes", "")
    if notes.get("node.nvswitches") and running:
        # the kernel keeps fifteen letters of a name
        missing = "nv-fabricmanage" not in running and "nvidia-fabricma" not in running
        notes.tell("node.fabric_manager_missing", float(missing), "proc", "no process nv-fabricmanager" if missing else "")


def files_of(tree: Tree) -> list[tuple[str, Path]]:
    """The files of a copy that lie beside its /sys, /proc and /dev: tool outputs, if they are any."""
    if tree.live or tree.root in (tree.sys, tree.proc, tree.dev):
        return []
    if infiniband.ports_root(tree) == tree.root:
        return []
    return [(tree.shown(str(path)), path) for path in walk(Path(tree.root), most=MOST_FILES, but=_PARTS)]


def survey(tree: Tree, notes: Notes) -> None:
    """Read a copy whole, its tool outputs included; what is no output of a known tool is passed over."""
    look(tree, notes)
    for name, path in files_of(tree):
        outputs.read_file(name, path, notes)

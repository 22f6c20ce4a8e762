"""A second look at the files of a job: whose clock is ahead, what was never said before, what one node says alone."""

from collections.abc import Iterable, Mapping, Set
from pathlib import Path

from detectors.joblog.clocks import anchors, skews
from detectors.joblog.marks import Step, whose
from detectors.joblog.novelty import Novelty, Said
from detectors.joblog.prefix import bare
from detectors.scan import blocks

MOST_FILES = 256
MOST_LATE = 400
LATE_WITHOUT_STEPS = 60
_HEAD_BYTES, _TAIL_BYTES = 131_072, 65_536
_MOST_ANCHORS = 1000


def ahead(files: Mapping[str, Path]) -> dict[str, float]:
    """By how many seconds the clocks of files are ahead, from lines that they have in common. files: name -> path."""
    if not 2 <= len(files) <= MOST_FILES:
        return {}
    return skews({name: anchors(_stamped(path)) for name, path in files.items()})


def _stamped(path: Path) -> Iterable[tuple[str, float]]:
    """Lines of a file's beginning and end, without their prefixes, and their times."""
    try:
        with path.open("rb") as file:
            data = file.read(_HEAD_BYTES)
            size = file.seek(0, 2)
            file.seek(max(len(data), size - _TAIL_BYTES))
            data += b"\n" + file.read(_TAIL_BYTES)
    except OSError:
        return []
    lines = data.split(b"\n")
    some = [*lines[: _MOST_ANCHORS // 2], *lines[-_MOST_ANCHORS // 2 :]] if len(lines) > _MOST_ANCHORS else lines
    return [(line.text, line.at) for row in some if (line := bare(row[:400].decode("utf-8", "replace"))).at]


def look_back(
    files: Mapping[str, Path], *, steps: Mapping[str, Iterable[Step]], lengths: Mapping[str, int], most_lines: int = 400_000
) -> Novelty:
    """Learn the healthy life of a job: what its files say up to their last step. Then `late_lines` knows what is new.

    steps: file -> its last step lines; lengths: file -> number of its last line
    """
    told = Novelty(most_lines=most_lines)
    for name, path in list(files.items())[:MOST_FILES]:
        for first, block, is_late in _parts(path, _late_from(name, steps, lengths)):
            if not is_late:
                told.healthy(name, first, block, _writer(name))
    return told


def late_lines(
    told: Novelty, files: Mapping[str, Path], *, steps: Mapping[str, Iterable[Step]], lengths: Mapping[str, int],
    known: Mapping[str, Set[int]],
) -> list[Said]:  # fmt: skip
    """The last lines of all files that are like none of the job's healthy life. known: file -> lines that are understood."""
    found: list[Said] = []
    for name, path in list(files.items())[:MOST_FILES]:
        for first, block, is_late in _parts(path, _late_from(name, steps, lengths)):
            if is_late:
                found += told.late(name, first, block, _writer(name), known=known.get(name, frozenset()))
    return found


def _late_from(name: str, steps: Mapping[str, Iterable[Step]], lengths: Mapping[str, int]) -> int:
    """Number of the first line that is no more of the healthy life."""
    last = [step.line for step in steps.get(name, ())]
    length = lengths.get(name, 0)
    return max(last[-1] + 1, length - MOST_LATE) if last else max(1, length - LATE_WITHOUT_STEPS)


def _parts(path: Path, late_from: int) -> Iterable[tuple[int, bytes, bool]]:
    """A file in whole lines, cut where its last lines begin: (number of the first, block, whether late)."""
    try:
        with path.open("rb") as file:
            for first, block in blocks(file):
                before = max(0, late_from - first)
                cut = _after_lines(block, before)
                if cut:
                    yield first, block[:cut], False
                if cut < len(block):
                    yield first + before, block[cut:], True
    except OSError:
        return


def _after_lines(block: bytes, lines: int) -> int:
    """Where a block's line of this index begins; its length if it has no more."""
    if lines >= block.count(b"\n") + 1:
        return len(block)
    at = 0
    if lines * 2 < block.count(b"\n"):
        for _ in range(lines):
            at = block.find(b"\n", at) + 1
        return at
    rest = block.count(b"\n") - lines + 1
    at = len(block)
    for _ in range(rest):
        at = block.rfind(b"\n", 0, at)
    return at + 1


def _writer(name: str) -> str:
    return whose(name).node or name

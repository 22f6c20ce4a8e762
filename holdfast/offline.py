"""Diagnosis of files with no service running: walk, recognise, ask each diagnoser, join the answers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from holdfast.joining import join
from holdfast.plugins import installed, load
from holdfast.ports import Diagnoser, Input
from holdfast.verdict import Json, Skipped, Verdict

HEAD_BYTES = 65_536
MOST_FILES = 100_000

# Who is asked first what a file is: the forms that cannot be mistaken before the free text.
_ORDER = ("hang", "slow", "node", "metrics", "logs", "job", "training")


class InputError(ValueError):
    """A path that cannot be used at all."""


def walk(paths: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Every file under the paths, folders in order of their names, links to folders not followed.

    raises InputError: a path does not exist, or there are more than `MOST_FILES`
    """
    count = 0
    for given in paths:
        root = Path(given)
        if not root.exists():
            raise InputError(f"{given}: no such file or folder")
        for file in _files(root):
            count += 1
            if count > MOST_FILES:
                raise InputError(f"{given}: over {MOST_FILES} files")
            yield str(file), file


def _files(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        yield root
        return
    for child in sorted(root.iterdir()):
        if child.is_dir() and not child.is_symlink():
            yield from _files(child)
        elif child.is_file():
            yield child


def diagnosers() -> dict[str, Diagnoser]:
    """The installed diagnosers, in the order in which they are asked what a file is."""
    names = [
        *(name for name in _ORDER if name in installed("diagnosers")),
        *sorted(set(installed("diagnosers")) - set(_ORDER)),
    ]
    return {name: load("diagnosers", name)() for name in names}


def sort_files(
    files: Iterable[tuple[str, Path]], asked: Mapping[str, Diagnoser]
) -> tuple[dict[str, list[Input]], list[Skipped]]:
    """Give each file to the first diagnoser that knows its kind; what nobody knows, or cannot be read, is skipped.

    A job's output may hold both, why it died and how it learned: it goes to `training` as well.
    """
    found: dict[str, list[Input]] = {name: [] for name in asked}
    skipped = []
    for name, path in files:
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError as error:
            skipped.append(Skipped(name, error.strerror or str(error)))
            continue
        kinds = [(who, kind) for who, diagnoser in asked.items() if (kind := diagnoser.recognise(name, head))]
        for who, kind in kinds[:1] + [also for also in kinds[1:] if (kinds[0][0], also[0]) == ("job", "training")]:
            found[who].append(Input(name=name, path=path, kind=kind))
        if not kinds:
            skipped.append(Skipped(name, "empty" if not head else "no diagnoser knows this kind of file"))
    return found, skipped


def diagnose_all(paths: Sequence[str], options: Mapping[str, str]) -> Verdict:
    """Diagnose any mixture of files and join all evidence into one verdict."""
    asked = diagnosers()
    found, skipped = sort_files(walk(paths), asked)
    if found.get("job"):
        found["job"] += found.get("logs", [])  # what the kernel says beside it decides why a job ended
    kinds = {i.name: i.kind for who in reversed(found) for i in found[who]}  # of two kinds the one it was told first
    inputs: list[Json] = [{"file": name, "kind": kind} for name, kind in kinds.items()]
    verdicts = {who: asked[who].diagnose(group, options) for who, group in found.items() if group}
    joined = join(verdicts)
    detail = {**joined.detail, "inputs": inputs}
    return msgspec.structs.replace(joined, detail=detail, skipped=(*joined.skipped, *skipped))

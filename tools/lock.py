"""Writes the lock files anew: exact versions and hashes for Python 3.11 to 3.13, no address of any registry.

    make lock        needs `uv` on the PATH (`pip install uv` in an environment of its own)

Three files, so that the service is installed without the tools of its developers: `requirements.lock` (what runs),
`requirements-dev.lock` (what `make test` needs beside it), `requirements-train.lock` (torch). See docs/adr/0006.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from rows import name_of, rows

ROOT = Path(__file__).resolve().parents[1]
BASE, DEV, TRAIN = (ROOT / f"requirements{part}.lock" for part in ("", "-dev", "-train"))
TORCH = "torch==2.13.0"

# hashes and versions only: an index that is named in a file would bind every reader to one machine's registry
_UV = (
    "uv", "pip", "compile", "-q", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url",
    "--no-header", "--no-annotate",
)  # fmt: skip


def compiled(*sources: str) -> list[str]:
    """The rows that `uv pip compile` answers for these sources."""
    done = subprocess.run([*_UV, *sources], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return rows(done.stdout)


def write(path: Path, why: str, found: Iterable[str]) -> list[str]:
    """Write a lock file and return its rows."""
    kept = list(found)
    head = f"# {why}\n# Made by `make lock`; not edited by hand.\n"
    path.write_text(head + "\n".join(kept) + "\n", encoding="utf-8")
    return kept


def with_wheels_at_hand(row: str) -> str:
    """Add the hash of the wheel that pip would take here: a CPU build that lies on this machine is in no index."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip"]
        fetch = [*pip, "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", folder, TORCH]
        if subprocess.run(fetch, stdout=subprocess.DEVNULL).returncode:
            return row
        (wheel,) = Path(folder).iterdir()
        said = subprocess.run([*pip, "hash", str(wheel)], stdout=subprocess.PIPE, text=True, check=True)
    found = re.search(r"--hash=sha256:[0-9a-f]{64}", said.stdout)
    return row if found is None or found[0] in row else f"{row} \\\n    {found[0]}"


def main() -> None:
    """Write all three."""
    if shutil.which("uv") is None:
        sys.exit("make lock needs uv: install it in an environment of its own and put that on the PATH")
    base = write(BASE, "What Holdfast runs on.", compiled("pyproject.toml", "--group", "build"))
    known = {name_of(row) for row in base}
    dev = compiled("pyproject.toml", "--extra", "dev", "-c", str(BASE))
    write(DEV, "What `make test` needs beside requirements.lock.", (row for row in dev if name_of(row) not in known))
    with tempfile.NamedTemporaryFile("w", suffix=".in") as wanted:
        wanted.write(f"{TORCH}\n")
        wanted.flush()
        train = compiled(wanted.name, "-c", str(BASE))
    rows_of_train = (with_wheels_at_hand(row) if row.startswith(TORCH) else row for row in train)
    write(TRAIN, "torch for tests that train; the CUDA rows are needed by its CUDA build alone.", rows_of_train)


if __name__ == "__main__":
    main()

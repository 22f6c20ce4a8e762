"""docs/new-detector.md is enough: what stands there is put in place as it says, and the contract tests find and run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "new-detector.md"


def blocks() -> dict[str, str]:
    """File name -> the block of the page that begins with it."""
    found = re.findall(r"^```\w+\n# (\S+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return {name: text.lstrip("\n") for name, text in found}


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The page's detector beside the project; the environment in which it is seen."""
    page = blocks()
    package = tmp_path / "own" / "detectors"
    package.mkdir(parents=True)
    # the project's own package, and one module more
    (package / "__init__.py").write_text(f"__path__.append({str(ROOT / 'detectors')!r})\n")
    (package / "row_remap.py").write_text(page["detectors/row_remap.py"])
    facts = tmp_path / "own" / "row_remap-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: row-remap\nVersion: 1\n")
    group, line = re.search(r'entry-points\."(.+?)"\]\n(.*)', page["pyproject.toml"]).groups()  # type: ignore[union-attr]
    (facts / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")
    (tmp_path / "test_row_remap.py").write_text(page["tests/unit/detectors/test_row_remap.py"])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "own"), str(ROOT)])}


def test_the_contract_tests_run_on_a_detector_that_was_added_by_the_page_alone(tmp_path: Path, installed: dict[str, str]) -> None:
    words = ["-p", "no:cacheprovider", "-q", "-rN", "tests/contracts", str(tmp_path / "test_row_remap.py"), "-k", "row_remap"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *words], cwd=ROOT, env=installed, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-3000:]
    passed = int(re.search(r"(\d+) passed", done.stdout).group(1))  # type: ignore[union-attr]
    assert passed >= 7 + 5  # the contracts, and the five rows of its own test


def test_what_the_page_shows_is_clean() -> None:
    for name, text in blocks().items():
        if name.endswith(".py"):
            # who is first-party is told by files, and these are none
            words = [sys.executable, "-m", "ruff", "check", "--ignore", "I001", "--stdin-filename", name, "-"]
            ruff = subprocess.run(words, input=text, cwd=ROOT, capture_output=True, text=True)
            assert ruff.returncode == 0, ruff.stdout

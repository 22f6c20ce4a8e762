"""Where the real data lies, if it does; tests that need it say why they are skipped where it is absent."""

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def data(*parts: str) -> Path:
    """A file or folder of the real data."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no real data at {path.relative_to(DATA.parent.parent)}")
    return path

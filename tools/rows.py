"""The rows of a lock file: one requirement each, its hashes on the lines that follow."""

import re


def rows(text: str) -> list[str]:
    """The requirements of a lock file, each with its hashes, comments left out."""
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return [row.strip() for row in re.split(r"\n(?=\S)", kept) if row.strip()]


def name_of(row: str) -> str:
    """The normalised name of a row's package."""
    return re.split(r"[=\s;\[]", row, maxsplit=1)[0].lower().replace("_", "-")

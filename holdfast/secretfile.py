"""Secrets stand in files of their own, never in the settings."""

from pathlib import Path


def secret_of(file: str, *, key: str) -> str:
    """The content of a secret's file without its line end.

    raises ValueError: unreadable, or empty; the message names the settings' key and the file, never the content
    """
    try:
        secret = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        # of the text only why it was not opened: what could not be decoded is a piece of the secret
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"{key} {file}: {why}") from None
    if not secret:
        raise ValueError(f"{key} {file}: empty")
    return secret

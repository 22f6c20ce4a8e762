"""`holdfast replay`: the same decisions again, or the first that differs."""

from pathlib import Path

import msgspec

from holdfast.assembly import assemble
from holdfast.cli.diagnose import unusable
from holdfast.cli.output import as_json, chosen
from holdfast.config import Config, ConfigError
from holdfast.journal import Journal, JournalError
from holdfast.replay import replay


def replay_file(path: Path, format: str) -> int:
    """Replay from the oldest kept snapshot with the settings in the journal; the exit status."""
    if not path.is_file():
        unusable(f"{path}: no such file")
    try:
        journal = Journal(path)
        config = msgspec.json.decode(journal.meta("config") or "{}", type=Config)
        done = replay(journal, assemble(config, live=False).pipeline, from_first=True)
    except (ConfigError, JournalError, msgspec.MsgspecError) as error:
        unusable(f"{path}: {error}")
    difference = done.difference
    answer = {
        "journal": str(path), "steps": done.steps, "same": difference is None,
        "difference": difference._asdict() if difference else None, "journal_sha256": journal.sha256(),
    }  # fmt: skip
    if chosen(format) == "json":
        print(as_json(answer))
    elif difference is None:
        print(f"{path}: {done.steps} steps decided again, all the same; sha256 {answer['journal_sha256']}")
    else:
        print(f"{path}: step {difference.step} differs\n  wrote: {difference.wrote}\n  says:  {difference.says}")
    return 0 if difference is None else 1

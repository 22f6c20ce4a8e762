"""The table `(fault, evidence, history) -> verb`, read from rows of a TOML file."""

import tomllib
from importlib import resources
from pathlib import Path

import msgspec

from holdfast.faults import Action, Fault, Judgement, Perception, Symptom
from holdfast.incident import Incident


class PlaybookError(ValueError):
    """The playbook file is not one."""


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row: every condition that is given must fit."""

    verb: Action
    why: str = ""
    perception: tuple[Perception, ...] = ()
    symptom: tuple[Symptom, ...] = ()
    fault: tuple[Fault, ...] = ()
    judgement: tuple[Judgement, ...] = ()
    action: tuple[Action, ...] = ()
    cause: tuple[str, ...] = ()
    repeated: tuple[bool, ...] = ()

    def fits(self, incident: Incident) -> bool:
        """Whether every condition holds for the incident as it is known now."""
        verdict = incident.verdict
        facts: tuple[tuple[tuple[object, ...], object], ...] = (
            (self.perception, incident.perception),
            (self.symptom, verdict.symptom),
            (self.fault, verdict.fault),
            (self.judgement, verdict.verdict),
            (self.action, verdict.action),
            (self.cause, str(incident.detail.get("cause", ""))),
            (self.repeated, bool(incident.detail.get("repeated", False))),
        )
        return all(not wanted or fact in wanted for wanted, fact in facts)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    row: tuple[Row, ...]


class Playbook:
    """Decides what to do about an incident."""

    def __init__(self, rows: tuple[Row, ...]) -> None:
        self.rows = rows

    @classmethod
    def read(cls, path: str = "") -> "Playbook":
        """Read the rows of a file, or those that come with the package.

        raises PlaybookError: not TOML, an unknown key or word; the message names file and place.
        """
        file = Path(path) if path else resources.files("remedier") / "playbook.toml"
        try:
            return cls(msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), _File).row)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise PlaybookError(f"playbook {file}: {error}") from error

    def decide(self, incident: Incident) -> Row:
        """Return the first row that fits; `watch` where none does."""
        return next(
            (row for row in self.rows if row.fits(incident)), Row(verb=Action.WATCH, why="no row of the playbook fits")
        )

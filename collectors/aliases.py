"""The one table that turns others' metric names into our signals."""

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path

import msgspec

from holdfast.topology import Kind


class AliasError(ValueError):
    """Not an alias table; the message names the file and the row."""


class Alias(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one metric is to us; the meaning of each key stands at the head of the table."""

    signal: str
    factor: float = 1.0
    equals: float | None = None
    kind: Kind = Kind.NODE

    def of(self, value: float) -> float:
        """Our reading for theirs."""
        return value * self.factor if self.equals is None else float(value == self.equals)


@cache
def aliases(own: str = "") -> dict[str, Alias]:
    """Metric -> alias, from the table of the package and the user's own file over it.

    raises AliasError: unreadable, not TOML, an unknown kind or key
    """
    found: dict[str, Alias] = {}
    shipped = resources.files("collectors") / "aliases.toml"
    for name, file in (("aliases.toml", shipped), *(((own, Path(own)),) if own else ())):
        try:
            tables = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), dict[Kind, dict[str, Alias]])
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise AliasError(f"{name}: {error}") from error
        for kind, rows in tables.items():
            found |= {metric: msgspec.structs.replace(row, kind=kind) for metric, row in rows.items()}
    return found

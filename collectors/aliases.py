"""The one table that turns others' metric names into our signals."""

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from holdfast.topology import Kind


class AliasError(ValueError):
    """Not an alias table; the message names the file and the row."""


class Alias(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one metric is to us; the meaning of each key stands at the head of the table. others: its further meanings."""

    signal: str
    factor: float = 1.0
    equals: float | None = None
    kind: Kind = Kind.NODE
    where: dict[str, str] = {}
    unless: dict[str, tuple[str, ...]] = {}
    label: str = ""
    id: tuple[str, ...] = ()
    keep: Literal["last", "most", "sum"] = "last"
    others: tuple["Alias", ...] = ()

    def of(self, value: float) -> float:
        """Our reading for theirs."""
        return value * self.factor if self.equals is None else float(value == self.equals)

    @property
    def is_plain(self) -> bool:
        """Whether every sample of the metric means the same, whatever its labels say besides whose it is."""
        return not (self.where or self.unless or self.label or self.others) and self.keep == "last"


@cache
def aliases(own: str = "") -> dict[str, Alias]:
    """Metric -> alias, from the table of the package and the user's own file over it.

    raises AliasError: unreadable, not TOML, an unknown kind or key
    """
    whole: dict[str, Alias] = {}
    found: dict[str, Alias] = {}
    shipped = resources.files("collectors") / "aliases.toml"
    for name, file in (("aliases.toml", shipped), *(((own, Path(own)),) if own else ())):
        try:
            tables = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), dict[Kind, dict[str, Alias | list[Alias]]])
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise AliasError(f"{name}: {error}") from error
        for kind, rows in tables.items():
            for metric, row in rows.items():
                _add(found, metric, [msgspec.structs.replace(one, kind=kind) for one in (row if isinstance(row, list) else [row])])
        mine = found if not whole else {**whole, **found}
        whole, found = mine, {}
    return whole


def _add(found: dict[str, Alias], metric: str, rows: list[Alias]) -> None:
    """A metric's meanings as one: the first of the file, the others behind it; it may stand under several targets."""
    if metric in found:
        rows = [msgspec.structs.replace(found[metric], others=()), *found[metric].others, *rows]
    if rows:
        found[metric] = msgspec.structs.replace(rows[0], others=tuple(rows[1:]))

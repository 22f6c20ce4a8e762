"""A site's own word on severities and actions: by check, device, node, machine type and site; the last row that fits counts."""

import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from holdfast.faults import Action, Fault, NodeAction, Severity


class OverridesError(ValueError):
    """A file that holds none; the message names the file and the place."""


class Override(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row. check, device, node, machine, site: names, with * and ?; ignore: nothing is claimed at all."""

    check: str
    device: str = "*"
    node: str = "*"
    machine: str = "*"
    site: str = "*"
    fault: Fault | None = None
    severity: Severity | None = None
    action: Action | None = None
    node_action: NodeAction | None = None
    ignore: bool = False
    reason: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    override: tuple[Override, ...] = ()


class Overrides:
    """The rows of a file and where this runs.

    machines: machine type by node name, * and ? in the name; site: what this site is called
    """

    def __init__(
        self, rows: tuple[Override, ...] = (), *, machines: Mapping[str, str] | None = None, site: str = ""
    ) -> None:
        self.rows, self.site = rows, site
        self.machines = dict(machines or {})

    @classmethod
    def read(cls, path: str, *, machines: Mapping[str, str] | None = None, site: str = "") -> "Overrides":
        """Read a file of [[override]] tables; "" for none.

        raises OverridesError: it cannot be read, is no TOML, or holds a key or a word nobody knows
        """
        if not path:
            return cls(machines=machines, site=site)
        try:
            rows = msgspec.convert(tomllib.loads(Path(path).read_text(encoding="utf-8")), _File).override
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise OverridesError(f"{path}: {error}") from error
        return cls(rows, machines=machines, site=site)

    def of(self, check: str, *, device: str, node: str) -> Override | None:
        """The last row that fits."""
        if not self.rows:
            return None
        machine = next((kind for name, kind in self.machines.items() if fnmatchcase(node, name)), "")
        here = {"check": check, "device": device, "node": node, "machine": machine, "site": self.site}
        fitting = (
            row for row in self.rows if all(fnmatchcase(value, getattr(row, key)) for key, value in here.items())
        )
        return next(reversed(list(fitting)), None)

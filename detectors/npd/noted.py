"""What a node's log was found to say: one record per device and check, and the bounded memory that keeps them."""

from collections.abc import Iterator

import msgspec

from detectors.npd.stamps import Stamped
from holdfast.faults import Action, Fault, NodeAction, Severity

MOST_FINDINGS = 20_000

Key = tuple[str, str, str, str]
_RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2, Severity.FATAL: 3}


class Noted(msgspec.Struct, kw_only=True):
    """A finding in a log.

    line: its first, from 1; count: how often it was said; last_*: when it was last said
    detail: what else the message names, by name: the process, the link, the limit
    recovery: it tells of nothing but that something is over
    sticky: silence does not end it; warnings: after so many of them the kernel says no more of its kind
    """

    file: str
    line: int
    at: float | None
    uptime_s: float | None
    check: str
    fault: Fault
    severity: Severity
    code: int | None
    device: str | None
    action: Action
    node_action: NodeAction
    text: str
    host: str = ""
    instance: str = ""
    caused_by: int | None = None
    count: int = 1
    last_line: int = 0
    last_at: float | None = None
    last_uptime_s: float | None = None
    cleared: bool = False
    detail: dict[str, str] = {}
    recovery: bool = False
    sticky: bool = False
    warnings: int = 0

    @property
    def silenced(self) -> bool:
        """Whether the kernel has said its last warning of this kind: that it is silent now means nothing."""
        return 0 < self.warnings <= self.count


class Notes:
    """Findings by key (file, host, check, device), bounded; those over the bound are counted in `dropped`."""

    def __init__(self) -> None:
        self.found: dict[Key, Noted] = {}
        self.dropped = 0
        self.touched: list[Noted] = []
        self._in_file: dict[tuple[str, str], Noted] = {}
        self._latest: dict[tuple[str, str, str], Key] = {}
        self._checks: dict[tuple[str, str, str], dict[Key, None]] = {}

    def recall(self, found: list[tuple[Key, Noted]], dropped: int) -> None:
        """Go on from what was kept."""
        self.found, self.dropped = dict(found), dropped
        self._latest = {key[:3]: key for key in self.found}
        self._checks = {}
        self._in_file = {
            (key[0], key[2]): noted for key, noted in sorted(self.found.items(), key=lambda row: row[1].last_line)
        }
        for key in self.found:
            self._checks.setdefault(key[:3], {})[key] = None

    def latest(self, file: str, host: str, check: str) -> tuple[Key, Noted] | None:
        """The finding of a check that was last touched."""
        key = self._latest.get((file, host, check))
        noted = self.found.get(key) if key is not None else None
        return (key, noted) if key is not None and noted is not None else None

    def of_check(self, file: str, host: str, check: str) -> Iterator[Noted]:
        """All findings of a check, of whatever device."""
        return (self.found[key] for key in self._checks.get((file, host, check), {}))

    def awaits(self, file: str, checks: tuple[str, ...], line: int, reach: int) -> bool:
        """Whether a finding of one of these checks was said in this file so shortly before that a line may say more of it."""
        for check in checks:
            noted = self._in_file.get((file, check))
            if noted is not None and line - noted.last_line <= reach and "waits_in" not in noted.detail:
                return True
        return False

    def take_out(self, key: Key) -> None:
        """A finding that was only the beginning of another."""
        noted = self.found.pop(key)
        self._checks[key[:3]].pop(key)
        noted.cleared = True
        self.touched.append(noted)

    def again(
        self, key: Key, line: int, message: Stamped, severity: Severity, named: dict[str, str], repeats: int
    ) -> bool:
        """Count a finding that is known and is no worse than it was; False if it has to be noted.

        repeats: how often it was said with this line; 0: the line only goes on about what is known
        """
        old = self.found.get(key)
        if old is None or old.cleared or _RANK[severity] > _RANK[old.severity]:
            return False
        self.touched.append(old)
        self._latest[key[:3]] = key
        self._in_file[key[0], key[2]] = old
        old.count += repeats
        old.last_line, old.last_at, old.last_uptime_s = line, message.at, message.uptime_s
        if named:
            old.detail = old.detail | named
        return True

    def add(self, key: Key, noted: Noted, *, repeats: int = 1) -> Noted | None:
        """Note a finding, or count it if it is known; None if there is no more room.

        repeats: how often it was said with this line; 0: the line only goes on about what is known
        """
        old = self.found.get(key)
        noted.last_line, noted.last_at, noted.last_uptime_s = noted.line, noted.at, noted.uptime_s
        if old is None:
            if len(self.found) >= MOST_FINDINGS:
                self.dropped += 1
                return None
            noted.count = max(1, repeats)
            self.found[key] = noted
            self._in_file[key[0], key[2]] = noted
            self._latest[key[:3]] = key
            self._checks.setdefault(key[:3], {})[key] = None
            self.touched.append(noted)
            return noted
        self.touched.append(old)
        self._latest[key[:3]] = key
        self._in_file[key[0], key[2]] = old
        old.count = (0 if old.cleared and repeats else old.count) + repeats
        old.last_line, old.last_at, old.last_uptime_s, old.cleared = noted.line, noted.at, noted.uptime_s, False
        if noted.detail:
            old.detail = old.detail | noted.detail
        if _RANK[noted.severity] > _RANK[old.severity]:  # the worst that was said of it counts
            old.severity, old.action, old.node_action = noted.severity, noted.action, noted.node_action
            old.caused_by = noted.caused_by
        return old

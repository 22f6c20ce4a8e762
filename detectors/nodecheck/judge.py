"""Judges batches of a node's readings by the table of checks: what is wrong now, and what no longer is. No clock, no file."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np

from detectors.catalog.tables import xids
from detectors.nodecheck import usual
from detectors.nodecheck.checks import Check, Checks, sentence
from detectors.nodecheck.gates import OPS, Gates, gates_of
from detectors.nodecheck.growth import Grown, Growth
from detectors.nodecheck.sources import Honesty, Lie
from holdfast.events import Samples
from holdfast.faults import Action, Fault, NodeAction, Severity
from holdfast.topology import Target

MOST_STANDING = 65_536
_MOST_PLANS = 4096
_BOOTED = "node.booted_at_s"
_SAME_BOOT_S = 60.0  # what is worked out from an uptime is off by the age of the reading
XID = "gpu.xid_last"


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a check says of a target. signal: the reading it is about."""

    check: Check
    target: Target
    text: str
    signal: str
    cleared: bool = False


class Standing(msgspec.Struct):
    """A target that a check has found odd. odd, even: looks in a row; source: whose readings it was found in."""

    target: Target
    check: Check
    source: str
    odd: int = 0
    even: int = 0
    claimed: bool = False


@dataclass
class Judge:
    """The core, for one node or many.

    patience: at most so many readings in a row are asked for, 0 for as many as a check says (one page has one reading)
    offline: judge totals and what other detectors tell online, too
    """

    checks: Checks
    offline: bool = False
    patience: int = 0
    growth: Growth = field(default_factory=Growth)
    honesty: Honesty = field(default_factory=Honesty)
    standing: dict[str, dict[Target, Standing]] = field(default_factory=dict)
    booted: dict[str, float] = field(default_factory=dict)
    _gates: dict[tuple[str, ...], Gates] = field(default_factory=dict)

    def look(self, seen: Samples) -> Iterator[Claim]:
        """Judge one batch."""
        if not seen.targets or not seen.signals:
            return
        yield from self._boot(seen)
        gates = self._gates_of(seen.signals)
        values, odd = self.honesty.believable(seen, gates.low, gates.high)
        yield from self._lies(odd, ("source.implausible",), seen)
        column = {signal: values[:, n] for n, signal in enumerate(seen.signals)}
        grown = self.growth.of(seen, values)
        further = usual.of(seen, column)
        if further:
            gates, column = self._gates_of((*seen.signals, *further)), column | further
        opened = gates.open(np.column_stack([values, *further.values()]) if further else values, grown.by)
        masks: dict[str, np.ndarray] = {}
        for id, rows in gates.ids:
            if id in self.standing or not opened.isdisjoint(rows):
                yield from self._judge(id, rows, seen, column, grown, masks)
        if XID in column:
            yield from self._codes(seen, column[XID])
        yield from self._lies(list(self.honesty.alive(seen, values, looks=self.patience)), ("source.frozen", "source.stuck"), seen)

    def forget(self, node: str) -> Iterator[Claim]:
        """The node has booted, or is back in service: what was said of it is over."""
        for id in list(self.standing):
            for target in [target for target in self.standing[id] if node in (target.node, target.id)]:
                yield from self._drop(id, target)
        self.growth.forget(node)

    def claims(self) -> Iterator[Standing]:
        """What is claimed and stands."""
        yield from (one for targets in self.standing.values() for one in targets.values() if one.claimed)

    def recall(self, kept: list[Standing]) -> None:
        """Go on from what was kept."""
        self.standing = {}
        for one in kept:
            self.standing.setdefault(one.check.id, {})[one.target] = one

    def _boot(self, seen: Samples) -> Iterator[Claim]:
        if _BOOTED not in seen.signals:
            return
        for target, at in zip(seen.targets, seen.values[:, seen.signals.index(_BOOTED)].tolist(), strict=True):
            before = self.booted.get(target.id)
            if at == at:
                self.booted[target.id] = at
                while len(self.booted) > MOST_STANDING:
                    del self.booted[next(iter(self.booted))]
            if before is not None and at > before + _SAME_BOOT_S:
                yield from self.forget(target.id)

    def _gates_of(self, signals: tuple[str, ...]) -> Gates:
        """The checks whose signals are all in a batch; worked out once for each form of batch."""
        gates = self._gates.get(signals)
        if gates is None:
            if len(self._gates) >= _MOST_PLANS:
                self._gates.clear()
            here = set(signals)
            fits = [n for n, row in enumerate(self.checks.rows) if (self.offline or row.online) and self._wants(n) <= here]
            gates = self._gates[signals] = gates_of(self.checks, fits, signals)
        return gates

    def _wants(self, number: int) -> set[str]:
        row = self.checks.rows[number]
        wanted = {c.signal for c in self.checks.conditions[number] if c.op != "missing"}
        wanted |= {c.other for c in self.checks.conditions[number] if c.other}
        return wanted | {signal for signal in (row.grows, row.falls, row.still) if signal}

    def _judge(
        self, id: str, rows: list[int], seen: Samples, column: dict[str, np.ndarray], grown: Grown, masks: dict[str, np.ndarray],
    ) -> Iterator[Claim]:  # fmt: skip
        which = np.full(len(seen.targets), -1)
        for number in reversed(rows):  # the first that fits counts
            mask = self._mask(number, seen, column, grown)
            for other in self.checks.rows[number].but:
                if other in masks:
                    mask &= ~masks[other]
            which[mask] = number
        masks[id] = which >= 0
        for n in np.flatnonzero(which >= 0).tolist():
            check = self.checks.rows[int(which[n])]
            said = {signal: float(values[n]) for signal, values in column.items()}
            yield from self._odd(check, seen.targets[n], sentence(check, said), check.signal, seen)
        if id in self.standing:
            yield from self._even(id, rows, seen, column, which)

    def _mask(self, number: int, seen: Samples, column: dict[str, np.ndarray], grown: Grown) -> np.ndarray:
        row = self.checks.rows[number]
        mask = np.ones(len(seen.targets), dtype=bool)
        if row.kind is not None:
            mask = np.array([target.kind is row.kind for target in seen.targets])
        for condition in self.checks.conditions[number]:
            if condition.op == "missing":
                mask = mask & (np.isnan(column[condition.signal]) if condition.signal in column else True)
            else:
                limit = condition.number * column[condition.other] if condition.other else condition.number
                mask = mask & OPS[condition.op](column[condition.signal], limit) & ~np.isnan(column[condition.signal])
        if row.grows and mask.any():
            mask = mask & self.growth.grew(row, seen, grown)
        if row.falls and mask.any():
            mask = mask & self.growth.fell(row, seen, column[row.falls])
        if row.still and mask.any():
            mask = mask & grown.still(row.still)
        return mask

    def _odd(self, check: Check, target: Target, text: str, signal: str, seen: Samples) -> Iterator[Claim]:
        found = self.standing.setdefault(check.id, {})
        one = found.get(target)
        if one is None:
            if sum(map(len, self.standing.values())) >= MOST_STANDING:
                return  # who floods us with faults has enough of them claimed
            one = found[target] = Standing(target, check, seen.source)
        one.odd, one.even = one.odd + 1, 0
        worse = one.claimed and _RANK[check.severity] > _RANK[one.check.severity]
        if worse:
            yield Claim(check=one.check, target=target, text="", signal=signal, cleared=True)
        if not one.claimed or worse:
            one.check, one.source = check, seen.source
            if one.odd >= self._patience(check):
                one.claimed = True
                yield Claim(check=check, target=target, text=text, signal=signal)

    def _patience(self, check: Check) -> int:
        return min(check.samples, self.patience) if self.patience else check.samples

    def _even(self, id: str, rows: list[int], seen: Samples, column: dict[str, np.ndarray], which: np.ndarray) -> Iterator[Claim]:
        """Targets that a check had found odd in these readings and does not any more; no reading is no good one."""
        known = {self.checks.rows[number].signal for number in rows}
        places = {target: n for n, target in enumerate(seen.targets)}
        for target, one in list(self.standing[id].items()):
            n = places.get(target, -1)
            if n < 0 or which[n] >= 0 or one.source != seen.source or one.check.signal not in known:
                continue
            if np.isnan(column[one.check.signal][n]):
                continue
            if one.check.grows and one.claimed and not self.growth.is_quiet(one.check, target, seen.at):
                continue
            yield from self._well(id, one)

    def _lies(self, found: list[Lie], ids: tuple[str, ...], seen: Samples) -> Iterator[Claim]:
        """Claim what is found of a source's readings now, and take back what was and is not."""
        for target, signal, check, text in found:
            yield from self._odd(check, target, text, signal, seen)
        told = {(check.id, target) for target, _, check, _ in found}
        here = {*seen.targets, Honesty.source_of(seen)}
        for id in ids:
            for target, one in list(self.standing.get(id, {}).items()):
                if one.source == seen.source and target in here and (id, target) not in told:
                    yield from self._well(id, one)

    def _well(self, id: str, one: Standing) -> Iterator[Claim]:
        one.odd, one.even = 0, one.even + 1
        if one.even >= self._patience(one.check):
            yield from self._drop(id, one.target)

    def _drop(self, id: str, target: Target) -> Iterator[Claim]:
        one = self.standing[id].pop(target)
        if not self.standing[id]:
            del self.standing[id]
        if one.claimed:
            yield Claim(check=one.check, target=target, text="", signal=one.check.signal, cleared=True)

    def _codes(self, seen: Samples, codes: np.ndarray) -> Iterator[Claim]:
        """The number of the last error, as exporters keep it: one claim by the catalogue, over when it is another number."""
        for target, value in zip(seen.targets, codes.tolist(), strict=True):
            if value != value:
                continue
            mine = f"xid.{value:.0f}" if value > 0 else ""
            for id in [id for id, found in self.standing.items() if id.startswith("xid.") and id != mine and target in found]:
                yield from self._well(id, self.standing[id][target])
            if mine:
                yield from self._odd(xid_check(int(value)), target, f"the last error of the device is XID {value:.0f}", XID, seen)


def xid_check(code: int) -> Check:
    """What the catalogue says of an XID, as a check."""
    row = xids().get(code)
    if row is None:
        return Check(
            id=f"xid.{code}", when=(f"{XID} == {code}",), fault=Fault.GPU_HW, severity=Severity.WARNING, action=Action.WATCH,
            node_action=NodeAction.INSPECT, text="",
        )  # fmt: skip
    return Check(
        id=f"xid.{code}", when=(f"{XID} == {code}",), fault=row.fault, severity=row.severity, action=row.action,
        node_action=row.node_action, text="",
    )  # fmt: skip


_RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2, Severity.FATAL: 3}

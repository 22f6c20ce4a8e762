"""The comparison of peers in the live line: nodes in one role of a job, and the devices of a node; one warning for each odd one."""

from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import numpy as np

from detectors.models import looks, wording
from detectors.models.joint import Joint, Means, suspects
from detectors.models.looks import Look
from detectors.models.places import Places
from detectors.models.scored import Hold, Out, Standing
from detectors.models.signals import Signals
from detectors.models.table import Kept, Table
from holdfast.events import Changes, Finding, Observation, Samples
from holdfast.topology import Kind, Target

_FRESH_S = 90.0
_FORGET_S = 900.0
_CONFIDENCE = 0.6
_MOST_PARTS = 6


class _Memory(msgspec.Struct):
    said: int
    looked_at: float
    dirty: bool
    places: Places
    tables: dict[Kind, Kept]
    standing: list[Standing]
    claims: list[Finding]
    parts: list[tuple[Target, list[Out]]]
    means: dict[Kind, tuple[int, int, bytes]]
    models: dict[Kind, tuple[int, int, int, bytes, bytes, bytes]]


class PeerComparison:
    """Robust z-scores over all shared signals with persistence, and a model for joint deviations; the table is `signals.toml`.

    z: so many robust standard deviations are odd; hold_s: for so long, before it is claimed; clear_s: so long not, before it is over
    every_s: from one look to the next; settle_s: a job that has changed its state is not compared for so long
    joint: look for targets of which many signals are a little off too; seed: of the rows its model learns from
    signals: a table of the user's own
    """

    consumes = (Samples, Changes)
    warmup_steps = 0

    def __init__(
        self, *, z: float = 6.0, hold_s: float = 60.0, clear_s: float = 60.0, every_s: float = 30.0, settle_s: float = 60.0,
        joint: bool = True, seed: int = 0, signals: str = "",
    ) -> None:  # fmt: skip
        self.z, self.every_s, self.settle_s, self.joint, self.seed = z, every_s, settle_s, joint, seed
        self.warmup_s = settle_s + hold_s + clear_s + 2 * every_s  # a counter has a rate from its second reading
        self._signals = Signals.read(signals)
        self._hold = Hold(hold_s=hold_s, clear_s=clear_s, looks=3, forget_s=_FORGET_S)
        self._tables: dict[Kind, Table] = {}
        self._means: dict[Kind, Means] = {}
        self._models: dict[Kind, Joint] = {}
        self._places = Places()
        self._claims: dict[Target, Finding] = {}
        self._parts: dict[Target, list[Out]] = {}
        self._looked_at, self._dirty, self._said = 0.0, False, 0

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Samples):
            if seen.targets and seen.targets[0].kind in looks.COMPARED:
                kind = seen.targets[0].kind
                if kind not in self._tables:
                    self._tables[kind] = Table(self._signals, every_s=self.every_s)
                self._dirty |= self._tables[kind].take(seen)
        elif isinstance(seen, Changes):
            for change in seen.changes:
                name = change.target.id
                if change.target.kind is Kind.JOB:
                    if self._places.on_job(name, change).over:
                        yield from self._withdraw(partial(_of_job, name), seen.at)
                elif change.target.kind is Kind.NODE and change.state == "ready":
                    yield from self._withdraw(partial(_of_node, name), seen.at)

    def tick(self, now: float) -> Iterator[Finding]:
        if not self._dirty or now // self.every_s == self._looked_at // self.every_s:
            return
        found: list[Out] = []
        for kind in sorted(self._tables):
            if self._tables[kind].forget(now - _FORGET_S):
                self._means.pop(kind, None)  # its rows have moved
            found += self._look(kind, now)
        before, self._looked_at, self._dirty = self._looked_at, now, False
        self._hold.look(now, found, lambda target, signal: self._was_read(target, signal, before))
        yield from self._tell(now)

    def _look(self, kind: Kind, now: float) -> list[Out]:
        table = self._tables[kind]
        if not len(table):
            return []
        seen = looks.look(table, self._places, fresh_after=now - _FRESH_S, settled_before=now - self.settle_s, limit=self.z)
        found = looks.outs(table, self._places, seen)
        if kind in looks.ALIKE:
            found += looks.of_nodes(table, self._places, seen, self.z)
            found += looks.shared(table, self._places, seen, self.z)
        return [*found, *self._jointly(kind, table, seen)] if self.joint else found

    def _jointly(self, kind: Kind, table: Table, seen: Look) -> Iterator[Out]:
        means = self._means.setdefault(kind, Means()).take(seen.z)
        model = self._models.setdefault(kind, Joint(seed=self.seed))
        single = seen.odd.any(axis=1)  # what one signal shows already is told by it, and is not learned
        odd = suspects(means) & ~single
        if odd.any() and model.ready:
            scores, shares = model.score(means)
            for row in np.flatnonzero(odd & (scores >= self.z)).tolist():
                yield self._joint_out(table, seen, row, float(scores[row]), shares[row])
        model.learn(means[~single & ~odd & means.any(axis=1)])

    def _joint_out(self, table: Table, seen: Look, row: int, score: float, shares: np.ndarray) -> Out:
        target = table.targets[row]
        every = {(out.target, out.signal): out for out in looks.told(table, self._places, seen, row)}
        order = [table.columns[n].name for n in np.argsort(-shares, kind="stable")[:_MOST_PARTS].tolist() if shares[n] > 0.02]
        self._parts[target] = [every[target, name] for name in order if (target, name) in every]
        first = next(iter(every.values()))
        return Out(target, first.job, wording.JOINT, score, 0.0, score, len(table) - 1, "all signals together; all others of its kind")

    def _was_read(self, target: Target, signal: str, since: float) -> bool:
        """Whether there was a reading of it since; of a node's devices and of a job's ports any will do."""
        table = self._tables.get(target.kind)
        row = table.row(target) if table is not None else -1
        if table is None or row < 0 or signal == wording.JOINT:
            return True
        column = table.column(signal)
        return column < 0 or bool(table.at[row, column] >= since)

    def _tell(self, now: float) -> Iterator[Finding]:
        sure = self._hold.sure()
        for target, claim in list(self._claims.items()):
            if target not in sure:
                del self._claims[target]
                self._parts.pop(target, None)
                yield msgspec.structs.replace(claim, at=now, cleared=True, evidence=())
        for target, found in sure.items():
            if target not in self._claims:
                self._claims[target] = self._finding(target, found, now)
                yield self._claims[target]

    def _finding(self, target: Target, found: list[Standing], now: float) -> Finding:
        self._said += 1
        single = [one for one in found if one.out.signal != wording.JOINT]
        check = "peers.deviation" if single else f"peers.{wording.JOINT}"
        if target.job and not target.node:
            check = "peers.shared"
        if not single:
            since = found[0]
            found = [since, *(Standing(out, since.since, now) for out in self._parts.get(target, ()))]
        place = target.node or target.id
        return wording.finding(
            target, found, self._signals, check=check, id=f"peers/{place}/{self._said}", now=now, source=f"peers:{place}",
            confidence=_CONFIDENCE,
        )  # fmt: skip

    def _withdraw(self, fits: Callable[[Out], bool], at: float) -> Iterator[Finding]:
        gone = {one.out.target for one in self._hold.standing.values() if fits(one.out)}
        self._hold.forget(fits)
        for target in [target for target in self._claims if target in gone]:
            yield msgspec.structs.replace(self._claims.pop(target), at=at, cleared=True, evidence=())

    def snapshot(self) -> bytes:
        means = {kind: (*one.values.shape, one.values.tobytes()) for kind, one in self._means.items()}
        return msgspec.msgpack.encode(
            _Memory(
                self._said, self._looked_at, self._dirty, self._places, {kind: table.kept() for kind, table in self._tables.items()},
                [*self._hold.standing.values()], [*self._claims.values()], [*self._parts.items()], means,
                {kind: model.kept() for kind, model in self._models.items()},
            )
        )  # fmt: skip

    def restore(self, memory: bytes) -> None:
        kept = msgspec.msgpack.decode(memory, type=_Memory)
        self._said, self._looked_at, self._dirty, self._places = kept.said, kept.looked_at, kept.dirty, kept.places
        self._hold.standing = {(one.out.target, one.out.signal): one for one in kept.standing}
        self._claims = {claim.target: claim for claim in kept.claims}
        self._parts, self._means = dict(kept.parts), {}
        self._tables = {kind: Table(self._signals, every_s=self.every_s) for kind in kept.tables}
        for kind, table in self._tables.items():
            table.recall(kept.tables[kind])
        for kind, (rows, columns, cells) in kept.means.items():
            self._means[kind] = Means(np.frombuffer(cells).reshape(rows, columns).copy())
        self._models = {kind: Joint(seed=self.seed) for kind in kept.models}
        for kind, model in self._models.items():
            model.recall(kept.models[kind])


def _of_job(job: str, out: Out) -> bool:
    return out.job == job


def _of_node(node: str, out: Out) -> bool:
    return node in (out.target.node, out.target.id)

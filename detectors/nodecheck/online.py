"""The checks of a node in the live line: one finding for each check and target, over when the readings say so or the node boots."""

from collections.abc import Iterator

import msgspec

from detectors.nodecheck.checks import Checks
from detectors.nodecheck.growth import Earlier, Ledger
from detectors.nodecheck.judge import Claim, Judge, Standing
from detectors.nodecheck.sources import Seen
from holdfast.events import Changes, Finding, Observation, Samples
from holdfast.faults import Judgement, Perception, Severity
from holdfast.topology import JobId, Kind, Target
from holdfast.verdict import Culprit, Evidence

AGENTS = "agent:node:"
_CONFIDENCE = {Severity.FATAL: 0.95, Severity.ERROR: 0.85, Severity.WARNING: 0.6, Severity.INFO: 0.5}


class _Memory(msgspec.Struct):
    said: int
    standing: list[Standing]
    claims: dict[str, Finding]
    earlier: dict[str, Earlier]
    ledgers: dict[str, Ledger]
    pages: dict[str, Seen]
    booted: dict[str, float]


class NodeChecks:
    """Reads every `Samples` by the table `detectors/nodecheck/checks.toml`.

    checks: a table of the user's own, whose checks replace those of the same id
    off: checks that are not wanted, by id; a name that ends in "." leaves out all that begin so
    """

    consumes = (Samples, Changes)

    def __init__(self, *, checks: str = "", off: tuple[str, ...] = ()) -> None:
        table = Checks.read(checks)
        wanted = tuple(row for row in table.rows if not any(row.id == id or (id.endswith(".") and row.id.startswith(id)) for id in off))
        self._judge = Judge(Checks(wanted, table.ranges))
        self._claims: dict[str, Finding] = {}
        self._said = 0

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Samples):
            if seen.source.startswith(AGENTS):
                return  # it judges its node itself, by more than it sends
            for claim in self._judge.look(seen):
                yield from self._finding(claim, seen)
        elif isinstance(seen, Changes):
            for change in seen.changes:
                if change.target.kind is Kind.NODE and change.state == "ready":
                    for claim in self._judge.forget(change.target.id):
                        yield from self._finding(claim, seen)

    def tick(self, now: float) -> Iterator[Finding]:
        return iter(())

    def _finding(self, claim: Claim, seen: Observation) -> Iterator[Finding]:
        key = f"{claim.check.id} {claim.target}"
        if claim.cleared:
            standing = self._claims.pop(key, None)
            if standing is not None:
                yield msgspec.structs.replace(standing, at=seen.at, cleared=True, evidence=())
            return
        self._said += 1
        self._claims[key] = finding_of(claim, seen, id=f"nodecheck/{claim.target.node or seen.source}/{self._said}")
        yield self._claims[key]

    def snapshot(self) -> bytes:
        judge = self._judge
        standing = [one for targets in judge.standing.values() for one in targets.values()]
        return msgspec.msgpack.encode(
            _Memory(
                self._said, standing, self._claims, judge.growth.earlier, judge.growth.ledgers, judge.honesty.pages, judge.booted
            )
        )

    def restore(self, memory: bytes) -> None:
        kept = msgspec.msgpack.decode(memory, type=_Memory)
        self._said, self._claims = kept.said, kept.claims
        self._judge.recall(kept.standing)
        self._judge.growth.earlier, self._judge.growth.ledgers = kept.earlier, kept.ledgers
        self._judge.honesty.pages, self._judge.booted = kept.pages, kept.booted


def finding_of(claim: Claim, seen: Observation, *, id: str) -> Finding:
    """A claim as a finding. The node is to blame for a part that has no name of its own in a verdict."""
    check, target = claim.check, claim.target
    sure = _CONFIDENCE[check.severity]
    lies = target.kind is Kind.SOURCE or check.id.startswith("source.")
    text = f"{_name(target)}: {claim.text}"
    culprits: tuple[Culprit, ...] = ()
    if target.kind is Kind.PART and not lies:
        cause = check.cause or check.id
        culprits = (Culprit(kind=Kind.NODE, id=target.node, cause=cause, confidence=sure, evidence=(text,), node=target.node),)
    return Finding(
        at=seen.at, id=id, job=JobId(seen.job), target=target, perception=Perception.NODE_FAULT, fault=check.fault, check=check.id,
        judgement=Judgement.UNDECIDED if lies else Judgement.CULPRIT, severity=check.severity, cause=check.cause or check.id,
        confidence=sure, culprits=culprits, action=check.action, node_action=check.node_action,
        evidence=(Evidence(seen.source, 0, text),),
    )  # fmt: skip


def _name(target: Target) -> str:
    return f"{target.id} of {target.node}" if target.node and target.node != target.id else target.id

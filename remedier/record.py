"""What is kept of an incident while it lives: its findings, and the verdict they add up to."""

from collections.abc import Collection

import msgspec

from holdfast.events import Finding
from holdfast.faults import Judgement, Perception, Symptom
from holdfast.incident import Incident, State
from holdfast.topology import Kind, Target
from holdfast.verdict import Culprit, Evidence, Verdict
from remedier.correlate import depth, node_of

MOST_FINDINGS = 64
MOST_EVIDENCE = 40


class Record(msgspec.Struct, kw_only=True):
    """One live incident.

    findings: those that joined it, bounded, by (check, target) so that a repeat replaces its elder
    settle_in_s: how long to wait from the next tick until a decision; None: `settle_at` stands
    settle_at: when a decision is due with whatever is known by then, Unix seconds
    due_at: when waiting for the job to step, for what is watched to heal, or for approval ends, Unix seconds
    later: findings of other faults that came while an order was under way, to be looked at when it is done
    moves: how many transitions it has had; asked: whether evidence was asked for in this round
    """

    key: str
    incident: Incident
    findings: dict[str, Finding] = {}
    later: dict[str, Finding] = {}
    settle_in_s: float | None = None
    settle_at: float = 0.0
    due_at: float = 0.0
    moves: int = 0
    asked: bool = False

    @property
    def state(self) -> State:
        return self.incident.state

    def join(self, finding: Finding) -> None:
        """Take a finding in; a full record keeps the deepest."""
        self.findings[claim_of(finding)] = finding
        if len(self.findings) > MOST_FINDINGS:
            del self.findings[min(self.findings, key=lambda claim: depth(self.findings[claim]))]

    def keep(self, finding: Finding) -> None:
        """Note a finding for when the order that is under way is done."""
        self.later[claim_of(finding)] = finding
        while len(self.later) > MOST_FINDINGS:
            del self.later[next(iter(self.later))]

    def blames(self, node: str) -> bool:
        """Whether a fault of this node is among what is known."""
        return any(f.perception is Perception.NODE_FAULT and node_of(f.target) == node for f in self.findings.values())

    def clear(self, finding: Finding) -> bool:
        """Take a claim back; return whether none is left."""
        self.later.pop(claim_of(finding), None)
        return self.findings.pop(claim_of(finding), None) is not None and not self.findings

    def best(self) -> Finding:
        return best_of(self.findings.values())


def claim_of(finding: Finding) -> str:
    """What a finding claims, so that its repeat or its withdrawal meets it."""
    return f"{finding.check} {finding.target}"


def best_of(findings: Collection[Finding]) -> Finding:
    """The finding that explains the others: the deepest, then the surest, then the first."""
    return max(findings, key=lambda f: (depth(f), f.confidence, -f.at))


def verdict_of(findings: Collection[Finding]) -> Verdict:
    """Add findings up: the best names fault and culprits, all give evidence, any may give the symptom."""
    best = best_of(findings)
    others = sorted((f for f in findings if f is not best), key=lambda f: (-depth(f), f.at))
    symptoms = [f.symptom for f in (best, *others) if f.symptom is not Symptom.NONE]
    evidence: dict[Evidence, None] = {}
    for finding in (best, *others):
        evidence |= dict.fromkeys(finding.evidence)
    culprits = tuple(msgspec.structs.replace(c, node=_place(c, best).node) for c in best.culprits)
    if best.judgement is Judgement.CULPRIT and not culprits:
        culprits = (_blamed(best),)
    return Verdict(
        verdict=best.judgement,
        symptom=symptoms[0] if symptoms else Symptom.NONE,
        fault=best.fault,
        culprits=culprits if best.judgement is Judgement.CULPRIT else (),
        action=best.action,
        evidence=tuple(evidence)[:MOST_EVIDENCE],
        detail=best.detail,
    )


def targets_of(best: Finding) -> tuple[Target, ...]:
    """What a finding speaks of: its culprits where it names some, else its target."""
    return tuple(_place(culprit, best) for culprit in best.culprits) or (best.target,)


def _place(culprit: Culprit, best: Finding) -> Target:
    """A culprit as a target. The finding's own node is only that of its own target: culprits may sit on several."""
    if (culprit.kind, culprit.id) == (best.target.kind, best.target.id):
        return best.target if not culprit.node else msgspec.structs.replace(best.target, node=culprit.node)
    node = culprit.id if culprit.kind is Kind.NODE else culprit.node
    return Target(culprit.kind, culprit.id, node=node, job=best.job)


def _blamed(finding: Finding) -> Culprit:
    return Culprit(
        kind=finding.target.kind,
        id=finding.target.id,
        cause=finding.cause or finding.check,
        confidence=finding.confidence,
        share=finding.share,
        evidence=tuple(line.text for line in finding.evidence[:5]),
        node=finding.target.node,
    )

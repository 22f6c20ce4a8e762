"""To which of the live incidents a finding belongs, by what is known of them; pure, over the records by key."""

from collections.abc import Mapping

from holdfast.events import Finding
from holdfast.faults import Judgement, Perception
from holdfast.incident import LIVE, Incident, State
from holdfast.topology import Kind, Target
from remedier.correlate import APART, key, node_of, place
from remedier.record import Record, claim_of, targets_of

_OF_NODES = frozenset({Perception.NODE_FAULT, Perception.HEARTBEAT_LOST})
BUSY = frozenset({State.OPEN, State.DIAGNOSING, State.RECOVERING})


def key_in(records: Mapping[str, Record], finding: Finding) -> str:
    """The key of the record a finding joins, or of the one it opens.

    A job has one incident, with two exceptions that are matters of their own: a machine that breaks while the job waits for a
    person, and another culprit elsewhere while a repair is still to be proved.
    """
    usual, node = key(finding), node_of(finding.target)
    if node and finding.perception in _OF_NODES:
        # a node that breaks falls silent, and is then not ready: one fault, whoever tells of it
        known = next((name for name, record in records.items() if record.state in LIVE and record.blames(node)), None)
        if known is not None:
            return known
    if not finding.job or finding.perception in APART:
        return usual
    mine = [record for name, record in records.items() if name == usual or name.startswith(f"{usual}: ")]
    if (said := next((record for record in mine if claim_of(finding) in record.findings), None)) is not None:
        return said.key  # its repeat, or its withdrawal
    if busy := [record for record in mine if record.state in BUSY]:
        return busy[-1].key
    own, first = f"{usual}: {place(finding.target)}", records.get(usual)
    return own if own in records or (first is not None and _is_apart(first, finding)) else usual


def busy_beside(records: Mapping[str, Record], job: str, but: Record | None = None) -> Record | None:
    """Another record of a job that is looked into or repaired at this moment."""
    return next((r for r in records.values() if job and r is not but and r.incident.job == job and r.state in BUSY), None)


def moved_away(incident: Incident, finding: Finding) -> bool:
    """Whether a finding is about a node that the incident's order takes the job away from."""
    node = node_of(finding.target)
    moves = incident.verb is not None and incident.verb.value in ("replace", "resubmit")
    return moves and node != "" and node in {node_of(target) for target in incident.targets}


def _is_apart(first: Record, finding: Finding) -> bool:
    if first.state is State.NEEDS_HUMAN:
        return finding.perception is Perception.NODE_FAULT
    if first.state is not State.VERIFYING or finding.judgement is not Judgement.CULPRIT:
        return False
    here, there = _places(targets_of(finding)), _places(first.incident.targets)
    return bool(here) and bool(there) and not here & there


def _places(targets: tuple[Target, ...]) -> set[str]:
    """Ranks, devices and nodes by name: who shares one may be the same trouble in another guise."""
    ranks = {f"rank {target.id}" for target in targets if target.kind is Kind.RANK}
    return ranks | {f"node {node_of(target)}" for target in targets if node_of(target)}

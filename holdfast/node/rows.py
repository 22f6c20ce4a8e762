"""Claims about a node as the commands print them: one object for each, and one verdict of all."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectors.nodecheck.judge import Claim
from holdfast.faults import Action, Fault, Judgement, NodeAction, Severity, Symptom
from holdfast.topology import Kind
from holdfast.verdict import Culprit, Evidence, Json, Skipped, Verdict

_ORDER = {Severity.FATAL: 0, Severity.ERROR: 1, Severity.WARNING: 2, Severity.INFO: 3}
_SURE = {Severity.FATAL: 0.9, Severity.ERROR: 0.75}
_NAMED = (Kind.DEVICE, Kind.NIC, Kind.INSTANCE)
# What is nobody's fault in the machine: the user's own, or how the monitor is set up.
_OWN = frozenset({Fault.SOFTWARE, Fault.USER_CODE, Fault.WORKLOAD})


class Where:
    """Where a claim's reading stands. file, line, text: as it is found there; name: the target as it is printed there."""

    def __init__(self, file: str, line: int = 0, text: str = "", name: str = "", at: float | None = None) -> None:
        self.file, self.line, self.text, self.name, self.at = file, line, text, name, at


Finder = Callable[[Claim], Where]


def row_of(claim: Claim, where: Where, *, node: str = "") -> dict[str, Any]:
    """A claim as the contract prints findings."""
    check, target = claim.check, claim.target
    device = None if target.kind in (Kind.NODE, Kind.SOURCE) else where.name or target.id
    subject = device or (target.id if target.kind is Kind.SOURCE else "")
    text = f"{subject}: {claim.text}" if subject else claim.text
    if where.text and where.text not in text:
        text = f"{text} [{where.text[:300]}]"
    row: dict[str, Any] = {
        "file": where.file, "line": where.line, "at": where.at, "check": check.id, "fault": check.fault.value,
        "severity": check.severity.value, "code": int(check.id[4:]) if check.id.startswith("xid.") else None, "device": device,
        "action": check.action.value, "node_action": check.node_action.value, "text": text, "count": 1,
    }  # fmt: skip
    extra = {"kind": target.kind.value if device else None, "cause": check.cause or None, "host": node or target.node or None}
    return row | {key: value for key, value in extra.items() if value}


def in_order(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The worst first, then as they stand in the files."""
    return sorted(rows, key=lambda row: (bool(row.get("cleared")), _ORDER[Severity(row["severity"])], row["file"], row["line"]))


def verdict_of(rows: Sequence[dict[str, Any]], detail: Mapping[str, Json], skipped: Sequence[Skipped]) -> Verdict:
    """One verdict: the worst is the root, everything as bad and not of somebody's own making is to blame."""
    findings: list[Json] = [dict(row) for row in rows[:200]]
    told = {**detail, "findings": findings}
    serious = [row for row in rows if Severity(row["severity"]) in _SURE and not row.get("cleared")]
    serious.sort(key=lambda row: (_ORDER[Severity(row["severity"])], Fault(row["fault"]) in _OWN))
    if not serious:
        return Verdict(verdict=Judgement.HEALTHY, detail=told, skipped=tuple(skipped))
    root = serious[0]
    own = Fault(root["fault"]) in _OWN
    blamed: dict[str, Culprit] = {}
    for row in serious:
        if row["severity"] == root["severity"] and Fault(row["fault"]) not in _OWN:
            culprit = _culprit(row)
            blamed.setdefault(f"{culprit.kind} {culprit.id}", culprit)
    node_action = max((row["node_action"] for row in serious), key=[one.value for one in NodeAction].index)
    slow = root.get("cause") == "slow_link" or root["fault"] == Fault.GPU_THERMAL_POWER.value
    return Verdict(
        verdict=Judgement.NOBODY if own else Judgement.CULPRIT, symptom=Symptom.SLOW if slow else Symptom.NONE,
        fault=Fault(root["fault"]), culprits=() if own else tuple(blamed.values()),
        action=Action.NONE if own else Action(root["action"]),
        evidence=tuple(Evidence(row["file"], row["line"], row["text"]) for row in serious[:20]),
        detail=told | {"node_action": node_action}, skipped=tuple(skipped),
    )  # fmt: skip


def _culprit(row: dict[str, Any]) -> Culprit:
    kind = Kind(row.get("kind", Kind.NODE))
    named = kind in _NAMED and row["device"]
    return Culprit(
        kind=kind if named else Kind.NODE, id=row["device"] if named else row.get("host") or "this node",
        cause=row.get("cause") or row["check"], confidence=_SURE[Severity(row["severity"])],
        evidence=(f"{row['file']}:{row['line']}: {row['text']}",), node=row.get("host") or "",
    )  # fmt: skip

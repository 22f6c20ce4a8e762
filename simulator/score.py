"""The score of a simulation: what was injected against what was found, where, how soon, and how it ended."""

from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.faults import Judgement
from holdfast.incident import Incident, State
from simulator.faults import OnRank, Struck

# An incident that opens so long after a story began no longer is its.
_REACH_S = 900.0
_SLACK_S = 2.0


class Found(msgspec.Struct, kw_only=True):
    """One story and the incident that tells of it."""

    kind: str
    truth: str
    at: float
    incident: str = ""
    said: str = ""
    located: bool = False
    recovered: bool = False
    detect_s: float | None = None
    recover_s: float | None = None
    verb: str = ""


def match(struck: Sequence[Struck], incidents: Sequence[Incident]) -> tuple[list[Found], list[Incident]]:
    """Each story with its incident, and the incidents that no story explains."""
    taken: set[str] = set()
    found = []
    for told in struck:
        near = [i for i in incidents if i.id not in taken and _is_near(told, i)]
        best = next((i for i in near if i.verdict.fault == told.story.truth), near[0] if near else None)
        found.append(_found(told, best))
        if best is not None:
            taken.add(best.id)
    false = [i for i in incidents if i.id not in taken and not any(_is_near(told, i) for told in struck)]
    return found, false


def _is_near(told: Struck, incident: Incident) -> bool:
    nodes = {target.node for target in incident.targets} | {target.id for target in incident.targets}
    same = incident.job == told.story.job or (told.node != "" and told.node in nodes)
    return same and -_SLACK_S <= incident.at - told.at <= _REACH_S


def _found(told: Struck, incident: Incident | None) -> Found:
    story = told.story
    found = Found(kind=story.name, truth=story.truth.value, at=told.at)
    if incident is None:
        return found
    found.incident, found.said, found.verb = incident.id, incident.verdict.fault.value, str(incident.verb or "watch")
    found.detect_s = max(0.0, incident.at - told.at)
    found.located = incident.verdict.fault == story.truth and _is_located(told, incident)
    ended = incident.state is State.RESOLVED or (incident.state is State.NEEDS_HUMAN and story.name == "user_error")
    found.recovered = ended
    found.recover_s = incident.ended_at - told.at if ended and incident.ended_at is not None else None
    return found


def _is_located(told: Struck, incident: Incident) -> bool:
    """Whether the place is named; where nobody is to blame the job is the place."""
    if not isinstance(told.story, OnRank) or incident.verdict.verdict is not Judgement.CULPRIT:
        return incident.job == told.story.job or told.node in {target.node for target in incident.targets}
    names = {culprit.id for culprit in incident.verdict.culprits} | {target.node for target in incident.targets}
    return str(told.story.rank) in names or told.node in names


def score(
    struck: Sequence[Struck], incidents: Sequence[Incident], *, seed: int, simulated_s: float, wall_s: float, devices: int,
    nodes: int, journal_sha256: str, ettr: float,
) -> dict[str, Any]:
    """The object of the contract; rates with their n."""  # fmt: skip
    found, false = match(struck, incidents)
    by_class: dict[str, dict[str, Any]] = {}
    for one in found:
        row = by_class.setdefault(one.truth, _row())
        row["injected"] += 1
        row["detected"] += one.said == one.truth
        row["located"] += one.located
        row["recovered"] += one.recovered
        row["_d"] += [one.detect_s] if one.detect_s is not None else []
        row["_r"] += [one.recover_s] if one.recover_s is not None else []
    for incident in false:
        row = by_class.setdefault(incident.verdict.fault.value, _row())
        row["false"] += 1
    for row in by_class.values():
        row["detect_s"], row["recover_s"] = _percentiles(row.pop("_d")), _percentiles(row.pop("_r"))
    n, detected = len(found), sum(one.said == one.truth for one in found)
    verbs: dict[str, int] = {}
    for incident in incidents:
        if incident.verb is not None:
            verbs[incident.verb.value] = verbs.get(incident.verb.value, 0) + 1
    hours = nodes * simulated_s / 3600.0
    return {
        "seed": seed, "simulated": True, "simulated_s": simulated_s, "wall_s": round(wall_s, 2), "devices": devices, "faults": n,
        "by_class": dict(sorted(by_class.items())), "precision": round(detected / max(1, detected + len(false)), 4),
        "recall": round(detected / max(1, n), 4), "located": round(sum(one.located for one in found) / max(1, n), 4),
        "recovered": round(sum(one.recovered for one in found) / max(1, n), 4), "n": n, "observed_node_hours": round(hours, 1),
        "false_alarms": len(false), "false_alarms_per_1000_node_hours": round(1000.0 * len(false) / max(hours, 1e-9), 3),
        "actions": dict(sorted(verbs.items())), "ettr": round(ettr, 4), "stories": [msgspec.to_builtins(one) for one in found],
        "unexplained": [{"id": i.id, "check": i.check, "job": i.job, "fault": i.verdict.fault.value} for i in false],
        "journal_sha256": journal_sha256,
    }  # fmt: skip


def _row() -> dict[str, Any]:
    return {"injected": 0, "detected": 0, "located": 0, "recovered": 0, "false": 0, "_d": [], "_r": []}


def _percentiles(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    ranked = sorted(values)

    def at(share: float) -> float:
        return round(ranked[min(len(ranked) - 1, int(share * len(ranked)))], 2)

    return {"p50": at(0.5), "p90": at(0.9), "max": round(ranked[-1], 2)}

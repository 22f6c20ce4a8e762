"""The score of a simulation: what was injected against what was found, where, how soon, and how it ended."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.faults import Action, Fault, Judgement
from holdfast.incident import Incident, State
from holdfast.topology import Kind
from simulator.fabric import rail_of
from simulator.nodes import port_name
from simulator.rates import interval, per_thousand, percentiles, rate
from simulator.stories.story import OnRank, Struck

# An incident that opens so long after a story began no longer is its.
REACH_S = 900.0
_SLACK_S = 2.0
# So long after it was repaired a fault may still be heard of.
_ECHO_S = 60.0


class Found(msgspec.Struct, kw_only=True):
    """One story and the incident that tells of it. right: whether the verb was one of the right ones."""

    kind: str
    truth: str
    at: float
    incident: str = ""
    said: str = ""
    located: bool = False
    recovered: bool = False
    right: bool = False
    detect_s: float | None = None
    recover_s: float | None = None
    verb: str = ""

    @property
    def is_fault(self) -> bool:
        return self.truth != Fault.NONE.value


def match(struck: Sequence[Struck], incidents: Sequence[Incident], *, reach_s: float = REACH_S) -> tuple[list[Found], list[Incident]]:
    """Each story with its incident, and the incidents that no story explains.

    What else is said of the same place until a story's incident is over is its echo; anything later is false. Of what is no fault an
    incident may tell, as long as it blames nobody and does nothing.
    reach_s: an incident that opens so long after a story began is not its
    """
    own = _paired(struck, incidents, reach_s)
    found, until = [], []
    for n, told in enumerate(struck):
        best = own.get(n)
        found.append(_found(told, best))
        ended_at = best.ended_at if best is not None else told.at
        until.append(reach_s + told.at if ended_at is None else ended_at + _ECHO_S)
    taken = {i.id for i in own.values()}
    rest = [i for i in incidents if i.id not in taken]
    echoing = [(told, end) for told, end in zip(struck, until, strict=True) if told.story.truth.fault is not Fault.NONE]
    false = [i for i in rest if not any(_is_near(told, i, end) for told, end in echoing)]
    return found, false


def _paired(struck: Sequence[Struck], incidents: Sequence[Incident], reach_s: float) -> dict[int, Incident]:
    """Number of a story -> its incident: the last story of that class before it; else the last story of any, if that has none yet.

    Where all stories of its class have theirs it is an echo of one: another job behind the same switch.
    """
    own: dict[int, Incident] = {}
    rest: list[tuple[Incident, list[int]]] = []
    for incident in sorted(incidents, key=lambda i: (i.at, i.id)):
        near = [n for n, told in enumerate(struck) if _is_near(told, incident, told.at + reach_s) and _may_tell(told, incident)]
        alike = [n for n in near if struck[n].story.truth.fault == incident.verdict.fault]
        named = [n for n in alike if n not in own]
        if named:
            own[named[-1]] = incident
        elif near and not alike:
            rest.append((incident, near))
    for incident, near in rest:
        own.setdefault(near[-1], incident)
    return own


def _may_tell(told: Struck, incident: Incident) -> bool:
    """Of what is no fault only who blames nobody."""
    return told.story.truth.fault is not Fault.NONE or not _blames(incident)


def _blames(incident: Incident) -> bool:
    """Whether a machine is accused or something was done."""
    return incident.verdict.verdict is Judgement.CULPRIT or incident.verb is not None


def _is_near(told: Struck, incident: Incident, until: float) -> bool:
    nodes = {target.node for target in incident.targets} | {target.id for target in incident.targets}
    same = incident.job == told.story.job or bool(nodes & set(told.nodes)) or _is_same_switch(told, incident)
    return same and told.at - _SLACK_S <= incident.at <= until


def _found(told: Struck, incident: Incident | None) -> Found:
    truth = told.story.truth
    found = Found(kind=told.story.name, truth=truth.fault.value, at=told.at)
    if incident is None:
        return found
    found.incident, found.said, found.verb = incident.id, incident.verdict.fault.value, str(incident.verb or "watch")
    found.right = Action(found.verb) in (truth.verb, *truth.others)
    found.detect_s = max(0.0, incident.at - told.at)
    found.located = incident.verdict.fault == truth.fault and _is_located(told, incident)
    # where a person has to mend it the loop has done its part when it has stopped and called one
    ended = incident.state is State.RESOLVED or (incident.state is State.NEEDS_HUMAN and truth.verb is Action.STOP)
    found.recovered = ended
    found.recover_s = incident.ended_at - told.at if ended and incident.ended_at is not None else None
    return found


def _is_located(told: Struck, incident: Incident) -> bool:
    """Whether the place is named; where nobody is to blame the job is the place."""
    story, nodes = told.story, {target.node for target in incident.targets} | {target.id for target in incident.targets}
    if not isinstance(story, OnRank) or incident.verdict.verdict is not Judgement.CULPRIT:
        return incident.job == story.job or bool(nodes & set(told.nodes))
    names = {culprit.id for culprit in incident.verdict.culprits} | {culprit.node for culprit in incident.verdict.culprits} | nodes
    if story.truth.blames is Kind.LINK:
        return _is_same_switch(told, incident)
    if story.truth.blames is Kind.RANK and str(story.rank) in names:
        return True
    return str(story.rank) in names or bool(names & set(told.nodes))


def _is_same_switch(told: Struck, incident: Incident) -> bool:
    """A switch is named by the port of every node that ends at it."""
    story = told.story
    if not isinstance(story, OnRank) or story.truth.blames is not Kind.LINK:
        return False
    port = f"{port_name(rail_of(story.rank))}:"
    return any(culprit.kind is Kind.LINK and port in culprit.id for culprit in incident.verdict.culprits)


def score(
    struck: Sequence[Struck], incidents: Sequence[Incident], *, seed: int, simulated_s: float, wall_s: float, devices: int,
    node_hours: float, journal_sha256: str, ettr: float, evicted: Sequence[tuple[float, str]], reach_s: float = REACH_S,
) -> dict[str, Any]:  # fmt: skip
    """The object of the contract; rates with their n and interval.

    node_hours: those whose telemetry was written and looked at; evicted: when which node was taken out; reach_s: as in `match`
    """
    everything, false = match(struck, incidents, reach_s=reach_s)
    found = [one for one in everything if one.is_fault]
    n, detected = len(found), sum(one.said == one.truth for one in found)
    located, recovered = sum(one.located for one in found), sum(one.recovered for one in found)
    alarms = per_thousand(len(false), node_hours)
    healthy = sum(not _was_struck(struck, node, at) for at, node in evicted)
    verbs = Counter(incident.verb.value for incident in incidents if incident.verb is not None)
    return {
        "seed": seed, "simulated": True, "simulated_s": simulated_s, "wall_s": round(wall_s, 2), "devices": devices, "faults": n,
        "by_class": _by_class(found, false), "precision": rate(detected, detected + len(false)), "recall": rate(detected, n),
        "located": rate(located, n), "recovered": rate(recovered, n), "right_verb": rate(sum(one.right for one in found), n), "n": n,
        "no_faults": len(everything) - n,
        "intervals": {
            "precision": interval(detected, detected + len(false)), "recall": interval(detected, n), "located": interval(located, n),
            "recovered": interval(recovered, n), "false_alarms_per_1000_node_hours": alarms[1] if alarms else None,
        },
        "incidents": len(incidents), "observed_node_hours": round(node_hours, 1), "false_alarms": len(false),
        "false_alarms_per_1000_node_hours": alarms[0] if alarms else None, "healthy_nodes_evicted_per_fault": rate(healthy, n),
        "actions": dict(sorted(verbs.items())), "ettr": round(ettr, 4), "stories": [msgspec.to_builtins(one) for one in everything],
        "unexplained": [{"id": i.id, "check": i.check, "job": i.job, "fault": i.verdict.fault.value} for i in false],
        "journal_sha256": journal_sha256,
    }  # fmt: skip


def _was_struck(struck: Sequence[Struck], node: str, at: float) -> bool:
    return any(node in told.nodes and told.at <= at for told in struck)


def _by_class(found: Sequence[Found], false: Sequence[Incident]) -> dict[str, dict[str, Any]]:
    alarms = Counter(incident.verdict.fault.value for incident in false)
    rows: dict[str, dict[str, Any]] = {}
    for fault in sorted({*alarms, *(one.truth for one in found)}):
        own = [one for one in found if one.truth == fault]
        rows[fault] = {
            "injected": len(own), "detected": sum(one.said == fault for one in own), "located": sum(one.located for one in own),
            "recovered": sum(one.recovered for one in own), "false": alarms[fault],
            "detect_s": percentiles([one.detect_s for one in own if one.detect_s is not None]),
            "recover_s": percentiles([one.recover_s for one in own if one.recover_s is not None]),
        }  # fmt: skip
    return rows

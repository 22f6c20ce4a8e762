"""Joins the answers of several diagnosers into one verdict: what explains what, who is the same, what contradicts."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from holdfast.faults import Action, Fault, HangCause, Judgement, Symptom
from holdfast.topology import Kind
from holdfast.verdict import Culprit, Evidence, Json, Verdict

MOST_EVIDENCE = 400

# Who tells of machines, whatever the job did.
_MACHINES = ("logs", "node", "metrics")
_STOPPING = frozenset({Symptom.HANG, Symptom.CRASH, Symptom.SLOW})

# What a fault of a machine brings about. A fault of the job's own is told by the job, and explains nothing else.
EXPLAINS: Mapping[Fault, frozenset[Symptom]] = {
    Fault.GPU_HW: _STOPPING | {Symptom.SLO},
    Fault.GPU_MEM: _STOPPING | {Symptom.LOSS, Symptom.SLO},
    Fault.NVLINK: _STOPPING | {Symptom.SLO},
    Fault.PCIE: _STOPPING | {Symptom.SLO},
    Fault.NIC: _STOPPING | {Symptom.SLO},
    Fault.FABRIC: _STOPPING | {Symptom.SLO},
    Fault.HOST: _STOPPING | {Symptom.SLO},
    Fault.HOST_RESOURCE: _STOPPING | {Symptom.SLO},
    Fault.STORAGE: _STOPPING,
    Fault.PLATFORM: frozenset({Symptom.HANG, Symptom.CRASH}),
    Fault.GPU_THERMAL_POWER: frozenset({Symptom.SLOW, Symptom.SLO}),
    Fault.SDC: frozenset({Symptom.LOSS, Symptom.CRASH}),
}
# What reaches ranks on other nodes than its own.
_FAR = frozenset({Fault.STORAGE, Fault.FABRIC, Fault.NIC})
# What is said where the real fault is not known yet; anything else a machine does not overrule.
_VAGUE = frozenset({Fault.UNKNOWN, Fault.NONE, Fault.SOFTWARE, Fault.HOST, Fault.GPU_HW, Fault.FABRIC})
# Causes of a hang that no machine brings about.
_CHOREOGRAPHY = frozenset({HangCause.MISMATCH.value, HangCause.MISSING_SEND.value, HangCause.MISSING_RECV.value})
# Ends that somebody made of a job which was in trouble before.
_ENDED = ("signal.", "slurm.cancelled", "slurm.time_limit", "kubernetes.probe")

# Which answer about the job is nearest to the root: (who, whether it is sure) -> the more, the nearer.
_SURE: Mapping[str, int] = {"job": 60, "hang": 50, "slow": 40, "training": 35}
_UNSURE: Mapping[str, int] = {"hang": 22, "training": 21, "job": 20, "slow": 18}
_ENDED_SURE = 30
_SAME, _UNKNOWN, _OTHER = 1.0, 0.9, 0.7  # how far agreement about the place carries a confidence


class _Answer(NamedTuple):
    """What one diagnoser said."""

    who: str
    said: Verdict


def join(verdicts: Mapping[str, Verdict]) -> Verdict:
    """One verdict of several.

    The answer about the job that lies nearest to the root decides what is wrong; a machine's fault explains it if it
    can bring that about and sits where the job suffered. Each answer stays in `detail.answers`, all evidence is kept.
    """
    if not verdicts:
        return Verdict(verdict=Judgement.UNDECIDED, detail={"missing": ["no file of a kind that can be diagnosed"]})
    answers = [_Answer(who, said) for who, said in verdicts.items()]
    places = _places(verdicts)
    machines = [one for one in answers if _is_machine(one) and one.said.verdict is Judgement.CULPRIT]
    about_job = [one for one in answers if one.said.verdict is not Judgement.HEALTHY and one not in machines and one.who not in _MACHINES]
    if len(answers) > 1:  # who has seen no trouble, and no end either, adds nothing to what others say
        about_job = [one for one in about_job if one.said.verdict is not Judgement.UNDECIDED or one.said.symptom is not Symptom.NONE]
    if not about_job:
        return _of_machines(machines, answers, verdicts, places)
    about_job.sort(key=_nearness, reverse=True)
    main = about_job[0]
    machines.sort(key=lambda one: _MACHINE_ORDER.get(one.who, 9))
    near = [(one, place) for one in machines if (place := _explains(one.said, main.said, places)) is not None]
    found = _explained(main, near, places) if near else _alone(main, about_job[1:], places)
    explaining = [one for one, _ in near]
    against = [one for one in machines if one not in explaining and (found.culprits or one.said.fault is not found.fault)]
    decided = next((one.who for one, _ in near if one.who != "job"), near[0][0].who) if near else main.who
    order = [*explaining, main, *about_job[1:], *against]
    return _with_detail(found, verdicts, decided, order=order, explained=[one.who for one in explaining], against=against)


def _is_machine(one: _Answer) -> bool:
    """Whether an answer tells of a machine: a job's does where the kernel's word beside it was the root."""
    return one.who in _MACHINES or (one.who == "job" and _check(one.said).startswith("kernel."))


def _nearness(one: _Answer) -> int:
    if one.said.verdict is Judgement.UNDECIDED:
        return _UNSURE.get(one.who, 10)
    if one.who == "job" and _check(one.said).startswith(_ENDED):
        return _ENDED_SURE
    # what a job's output says of a hang are counters; the dumps say more
    return _SURE["hang"] - 1 if one.who == "job" and one.said.symptom is Symptom.HANG else _SURE.get(one.who, 15)


def _check(said: Verdict) -> str:
    return str(said.detail.get("check") or "")


# --- places


def _places(verdicts: Mapping[str, Verdict]) -> dict[str, tuple[str, str]]:
    """Rank -> node and device, as a job's output has told them."""
    told = verdicts["job"].detail.get("places") if "job" in verdicts else None
    rows = told.items() if isinstance(told, dict) else ()
    return {rank: (str(at[0]), _short(str(at[1]))) for rank, at in rows if isinstance(at, list) and len(at) == 2}


def _short(device: str) -> str:
    return ":".join(device.lower().split(".")[0].split(":")[-2:])


def _node(one: Culprit, said: Verdict, places: Mapping[str, tuple[str, str]]) -> str:
    """Where a culprit sits, "" unknown: as it says, as ranks are placed, or by the host or the name of its file."""
    if one.node or one.kind is Kind.NODE:
        return one.node or ("" if one.id == "this node" else one.id)
    if one.kind is Kind.RANK:
        return places.get(one.id, ("", ""))[0]
    rows = said.detail.get("findings")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("device") == one.id:
            return str(row.get("host") or "") or _named(str(row.get("file") or ""), places)
    return _named(one.evidence[0].split(":", 1)[0] if one.evidence else "", places)


def _named(file: str, places: Mapping[str, tuple[str, str]]) -> str:
    """The node of the job that a path names."""
    nodes = {node for node, _ in places.values() if node}
    return next((n for n in sorted(nodes, key=len, reverse=True) if re.search(rf"(?<![\w-]){re.escape(n)}(?![\w-])", file)), "")


def _explains(machine: Verdict, main: Verdict, places: Mapping[str, tuple[str, str]]) -> float | None:
    """How well a machine's fault explains what is wrong with the job, None if it does not."""
    if main.verdict is Judgement.NOBODY or main.symptom not in EXPLAINS.get(machine.fault, frozenset()):
        return None
    if main.verdict is Judgement.CULPRIT and main.fault not in _VAGUE | {machine.fault}:
        return None
    if any(one.cause in _CHOREOGRAPHY for one in main.culprits):
        return None
    suffered = {_node(one, main, places) for one in main.culprits} - {""}
    broken = {_node(one, machine, places) for one in machine.culprits} - {""}
    if not suffered or not broken or machine.fault in _FAR:
        return _UNKNOWN if not suffered & broken else _SAME
    return _SAME if suffered & broken else None


# --- verdicts


def _explained(main: _Answer, near: Sequence[tuple[_Answer, float]], places: Mapping[str, tuple[str, str]]) -> Verdict:
    """The job's trouble with the machine that explains it: who is named by both is surer."""
    near = sorted(near, key=lambda one: (-one[1], _MACHINE_ORDER.get(one[0].who, 9)))
    (best, place), said = near[0], main.said
    suffered = {_node(one, said, places) for one in said.culprits} - {""}
    same = [answer.said for answer, _ in near if answer.said.fault is best.said.fault]
    machines = [_placed(one, told, places) for told in same for one in told.culprits]
    where = {id(one): one.node or (one.id if one.kind is Kind.NODE else "") for one in machines}
    machines = [one for one in machines if not suffered or where[id(one)] in (*suffered, "")] or machines
    surest = max((one.confidence for one in machines), default=0.5)
    own = [msgspec.structs.replace(_placed(one, said, places), confidence=_joined(one.confidence, surest, place)) for one in said.culprits]
    if not own:
        machines = [msgspec.structs.replace(one, confidence=round(one.confidence * place, 3)) for one in machines]
    return Verdict(
        verdict=Judgement.CULPRIT, symptom=said.symptom, fault=best.said.fault, culprits=tuple(_distinct([*own, *machines])),
        action=best.said.action if best.said.action not in (Action.NONE, Action.WATCH) else said.action,
        detail={**best.said.detail, **said.detail},
    )  # fmt: skip


_MACHINE_ORDER = {"logs": 0, "node": 1, "metrics": 2, "job": 3}


def _joined(one: float, other: float, place: float) -> float:
    """The confidence of two that agree: independent where they tell of the same place, else the surer, with a doubt."""
    return round(min(0.98, 1.0 - (1.0 - one) * (1.0 - other)) if place == _SAME else max(one, other) * place, 3)


def _alone(main: _Answer, others: Sequence[_Answer], places: Mapping[str, tuple[str, str]]) -> Verdict:
    """The job's trouble by the answer that is nearest to its root; others confirm or contradict who is named."""
    said = main.said
    named = {one.id for one in said.culprits if one.kind is Kind.RANK}
    told = [{c.id for c in other.said.culprits if c.kind is Kind.RANK} | _suspects(other.said) for other in others]
    agree = any(named & ranks for ranks in told)
    against = not agree and any(other.said.symptom is said.symptom and ranks for other, ranks in zip(others, told, strict=True))
    factor = _OTHER if against and named else 1.0
    culprits = tuple(
        msgspec.structs.replace(
            _placed(one, said, places), confidence=_joined(one.confidence, 0.5, _SAME) if agree else round(one.confidence * factor, 3)
        )
        for one in said.culprits
    )
    return msgspec.structs.replace(said, culprits=culprits)


def _suspects(said: Verdict) -> set[str]:
    told = said.detail.get("suspects")
    return {str(one) for one in told} if isinstance(told, list) else set()


def _placed(one: Culprit, said: Verdict, places: Mapping[str, tuple[str, str]]) -> Culprit:
    node = _node(one, said, places)
    return msgspec.structs.replace(one, node=node) if node and not one.node and one.kind is not Kind.NODE else one


def _distinct(culprits: Iterable[Culprit]) -> list[Culprit]:
    return list({(one.kind, one.id, one.node if one.kind is not Kind.NODE else ""): one for one in reversed(list(culprits))}.values())[::-1]


def _of_machines(
    machines: Sequence[_Answer], answers: Sequence[_Answer], verdicts: Mapping[str, Verdict], places: Mapping[str, tuple[str, str]]
) -> Verdict:
    """Nothing else is said of a job, or all is well with it: what machines say stands alone."""
    # a fault of the application's own in a kernel log is none where the application is well
    says = {Judgement.CULPRIT: 0, Judgement.NOBODY: 2 if "job" in verdicts else 0, Judgement.HEALTHY: 1, Judgement.UNDECIDED: 3}
    order = sorted(machines or answers, key=lambda one: (says[one.said.verdict], _MACHINE_ORDER.get(one.who, 9), one.who))
    first = order[0].said
    if machines:
        named = (_placed(culprit, one.said, places) for one in order for culprit in one.said.culprits)
        symptom = next((one.said.symptom for one in order if one.said.symptom is not Symptom.NONE), first.symptom)
        told = {key: value for one in reversed(order) for key, value in one.said.detail.items()}
        first = msgspec.structs.replace(first, culprits=tuple(_distinct(named)), symptom=symptom, detail=told)
    decided = next((one.who for one in order if one.who != "job"), order[0].who) if machines else order[0].who
    return _with_detail(first, verdicts, decided, order=order)


def _with_detail(
    found: Verdict, verdicts: Mapping[str, Verdict], decided_by: str, *, order: Sequence[_Answer] = (), explained: Sequence[str] = (),
    against: Sequence[_Answer] = (),
) -> Verdict:  # fmt: skip
    """The verdict with what each diagnoser said, and all evidence, that of the root first."""
    told: Json = {
        who: {"verdict": v.verdict.value, "symptom": v.symptom.value, "fault": v.fault.value, "action": v.action.value,
              "culprits": [f"{one.kind.value} {one.id}" for one in v.culprits[:16]]}
        for who, v in verdicts.items()
    }  # fmt: skip
    detail: dict[str, Json] = {**found.detail, "answers": told, "decided_by": decided_by}
    if explained:
        detail["explained_by"] = [*explained]
    if against:
        detail["apart"] = [f"{one.who}: {one.said.fault.value} of {', '.join(c.id for c in one.said.culprits[:8])}" for one in against]
    if found.verdict is not Judgement.UNDECIDED:
        detail.pop("missing", None)
    ranked = [*(one.said for one in order), *(v for who, v in verdicts.items() if who not in {one.who for one in order})]
    evidence: dict[tuple[str, int], Evidence] = {}
    for line in (line for said in ranked for line in said.evidence):
        evidence.setdefault((line.file, line.line), line)
    healthy = found.verdict is Judgement.HEALTHY
    return msgspec.structs.replace(
        found, fault=Fault.NONE if healthy else found.fault, action=Action.NONE if healthy else found.action,
        evidence=tuple(evidence.values())[:MOST_EVIDENCE], detail=detail,
        skipped=tuple({(one.file, one.reason): one for v in verdicts.values() for one in v.skipped}.values()),
    )  # fmt: skip

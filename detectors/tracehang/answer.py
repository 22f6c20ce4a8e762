"""What a rule has found -> the verdict, with its chain of evidence and the tables of its detail."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from detectors.tracehang import words
from detectors.tracehang.blame import Blame
from detectors.tracehang.case import Case
from detectors.tracehang.waits import Graph
from holdfast.faults import Action, Fault, HangCause, Judgement, Symptom
from holdfast.topology import Kind
from holdfast.verdict import Culprit, Evidence, Json, Verdict

_MOST_CULPRITS = 256


@dataclass(kw_only=True)
class Finding:
    """What a rule says. edges: those that show the first of the blamed; missing: what would decide."""

    judgement: Judgement
    blames: Sequence[Blame] = ()
    fault: Fault = Fault.NONE
    symptom: Symptom = Symptom.HANG
    action: Action = Action.NONE
    why: str = ""
    missing: Sequence[str] = ()
    extra: dict[str, Json] = field(default_factory=dict)


def without(case: Case) -> list[int]:
    return [rank for rank in case.expected if rank not in case.recordings]


def verdict_of(case: Case, graph: Graph, found: Finding) -> Verdict:
    blames = list(found.blames)[:_MOST_CULPRITS]
    phase = ""
    for blame in blames:
        phase = phase or words.phase(case, blame.rank)
    culprits = tuple(
        Culprit(
            kind=Kind.RANK, id=str(b.rank), cause=b.cause.value, confidence=_sure(case, b), evidence=tuple(b.evidence)
        )
        for b in blames
    )
    chain = words.chain(case, graph, [b.rank for b in blames])
    stuck = words.first_stuck(case, graph, blames[0] if blames else None)
    empty = [r for r, recording in case.recordings.items() if not recording.entries]
    detail: dict[str, Json] = {
        "why": found.why,
        "first_stuck": stuck,
        "chain": list[Json](chain),
        "groups": words.groups(case),
        "ranks_seen": list[Json](case.seen),
        "ranks_expected": list[Json](case.expected),
        "ranks_without_dump": list[Json](without(case)),
        "ranks_with_empty_dump": list[Json](sorted(empty)),
        "waiting_for": words.edges(graph),
        **found.extra,
    }
    if found.missing:
        detail["missing"] = list[Json](found.missing)
    if phase:
        detail["phase"] = phase
    return Verdict(
        verdict=found.judgement, symptom=found.symptom, fault=found.fault, culprits=culprits, action=found.action,
        evidence=tuple(_evidence(case, blames, found.why, chain)), detail=detail,
    )  # fmt: skip


def _sure(case: Case, blame: Blame) -> float:
    """A rank found at work in a phase that takes long by nature may yet come."""
    stands_still = blame.cause in (HangCause.STOPPED, HangCause.EXITED)
    return min(blame.confidence, 0.5) if words.phase(case, blame.rank) and not stands_still else blame.confidence


def _evidence(case: Case, blames: Iterable[Blame], why: str, chain: Sequence[str]) -> Iterable[Evidence]:
    told = False
    for blame in blames:
        for text in blame.evidence:
            told = True
            yield Evidence(case.files.get(blame.rank, f"rank {blame.rank}"), 0, f"rank {blame.rank}: {text}")
    for text in chain[:20]:
        told = True
        yield Evidence("", 0, text)
    if not told:
        yield Evidence("", 0, why)

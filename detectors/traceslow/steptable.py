"""Judges step tables: with phases one rank can be told from the others, with step times alone only that it became slow."""

import re
from dataclasses import dataclass

import numpy as np

from detectors.peers import LEAST, robust_z
from detectors.traceslow.costs import MOST_ROWS, cause_of
from detectors.traceslow.series import change
from detectors.traceslow.trace import StepTable
from holdfast.faults import Action, Fault, Judgement, Symptom
from holdfast.topology import Kind
from holdfast.verdict import Culprit, Evidence, Json, Verdict

# As the online detector: so many robust standard deviations, and so much longer than the peers, in most of the steps.
_Z = 8.0
_LONGER = 0.08
_KEPT = 0.75
# A step so much over the usual is a spike.
_SPIKE = 1.5
# In these a rank waits for others: who waits longest is the victim.
_WAITING = re.compile(r"(?<!data_)wait|comm|sync|reduce|gather|idle|recv|send|barrier|bubble")
_MISSING = (
    "phases of each rank's steps (data_s, forward_s, ...): with step times alone all ranks of a synchronous job look alike",
    "or an operation trace (step, rank, dp, pp, tp, op, start_s, duration_s)",
)


@dataclass(frozen=True)
class Odd:
    """A rank (its place) that is longer in one phase than its peers, in seconds of a step."""

    who: int
    phase: str
    own_s: float
    peers_s: float
    kept: float


def judge(table: StepTable, file: str, *, threshold: float) -> Verdict:
    """The verdict on a step table. file: named in the evidence."""
    step_s = np.nanmax(table.step_s, axis=1)
    usual_s = float(np.median(step_s))
    odd = _odd_ones(table, usual_s)
    ideal_s = usual_s - max((one.own_s - one.peers_s for one in odd), default=0.0)
    slowdown = usual_s / max(ideal_s, 1e-12)
    if odd and slowdown >= threshold:
        return _culprits(table, file, odd, slowdown)
    for phase, times in table.phases.items():
        part = float(np.nansum(np.fmax.reduce(times, axis=1)) / max(float(step_s.sum()), 1e-12))
        if cause_of(phase.removesuffix("_s")) and part >= 1.0 - 1.0 / threshold:
            return _pause(table, file, phase, part)
    return _series(table, file, step_s, threshold)


def _odd_ones(table: StepTable, usual_s: float) -> list[Odd]:
    """Ranks that stand out in a phase of their own for most steps, or in the step itself where it is each rank's own."""
    phases = {name: times for name, times in table.phases.items() if not _WAITING.search(name)} or {"step_s": table.step_s}
    found = []
    for name, times in phases.items():
        if len(table.ranks) < LEAST:
            break
        known = np.isfinite(times)
        own = np.array([float(np.median(times[known[:, n], n])) if known[:, n].any() else np.nan for n in range(len(table.ranks))])
        middle = float(np.nanmedian(own)) if np.isfinite(own).any() else np.nan
        late = (robust_z(own, floor=0.005) > _Z) & (own - middle > _LONGER * usual_s)
        for who in np.flatnonzero(late).tolist():
            rows = known[:, who]
            peers = np.nanmedian(times[rows], axis=1)
            kept = float((times[rows, who] - peers > _LONGER / 2 * usual_s).mean())
            if kept >= _KEPT:
                found.append(Odd(who, name, float(own[who]), middle, kept))
    return sorted(found, key=lambda one: one.peers_s - one.own_s)


def _culprits(table: StepTable, file: str, odd: list[Odd], slowdown: float) -> Verdict:
    cause = cause_of(odd[0].phase.removesuffix("_s")) or "slow_worker"
    worst = odd[0].own_s - odd[0].peers_s
    seen: dict[int, Odd] = {}
    for one in odd:
        seen.setdefault(one.who, one)
    runner_up = sorted((one.own_s - one.peers_s for one in seen.values()), reverse=True)[1:2]
    culprits = []
    for one in list(seen.values())[:MOST_ROWS]:
        text = (
            f"rank {table.ranks[one.who]}: {one.phase} is {one.own_s:.3f} s, among its peers {one.peers_s:.3f} s, "
            f"in {one.kept:.0%} of the steps"
        )
        # the others of them hide the first: without it alone the job waits for the next
        share = (worst - sum(runner_up)) / worst if one is odd[0] else 0.0
        own = cause_of(one.phase.removesuffix("_s")) or "slow_worker"
        culprits.append(
            Culprit(kind=Kind.RANK, id=str(table.ranks[one.who]), cause=own, confidence=round(0.6 + 0.25 * one.kept, 3),
                    share=round(share, 4), evidence=(text,))
        )  # fmt: skip
    fault = Fault.STORAGE if cause in ("data_loading", "checkpoint") else Fault.UNKNOWN
    detail = _detail(table, slowdown, cause, {table.ranks[one.who]: one.own_s - one.peers_s for one in seen.values()})
    return Verdict(
        verdict=Judgement.CULPRIT, symptom=Symptom.SLOW, fault=fault, culprits=tuple(culprits), action=Action.REPLACE,
        evidence=tuple(Evidence(file, 0, c.evidence[0]) for c in culprits), detail=detail,
    )  # fmt: skip


def _pause(table: StepTable, file: str, phase: str, part: float) -> Verdict:
    cause = cause_of(phase.removesuffix("_s"))
    text = f"{phase} takes {part:.0%} of the time, on no rank more than on the others"
    return Verdict(
        verdict=Judgement.NOBODY, symptom=Symptom.SLOW, fault=Fault.WORKLOAD if cause == "gc" else Fault.STORAGE, action=Action.WATCH,
        evidence=(Evidence(file, 0, text),), detail=_detail(table, 1.0 / max(1.0 - part, 1e-9), cause, {}),
    )  # fmt: skip


def _series(table: StepTable, file: str, step_s: np.ndarray, threshold: float) -> Verdict:
    """Whether the job became slower, or is held up in some steps. What was slow from the first step on cannot be seen."""
    at, before, after = change(step_s)
    usual = float(np.median(step_s))
    spikes = step_s > _SPIKE * usual
    spiky = float(step_s.mean()) / max(usual, 1e-12)
    if after >= threshold * before:
        cause, slowdown = "global", after / max(before, 1e-12)
        text = f"from step {table.steps[at]} a step takes {after:.3f} s, before it took {before:.3f} s"
    elif spikes.any() and spiky >= threshold:
        cause, slowdown = "none", spiky
        text = f"{int(spikes.sum())} of {len(step_s)} steps take over {_SPIKE} times the usual {usual:.3f} s"
    else:
        detail = _detail(table, max(1.0, after / max(before, 1e-12)), "none", {})
        return Verdict(verdict=Judgement.HEALTHY, detail=detail)
    detail = {**_detail(table, slowdown, cause, {}), "missing": list[Json](_MISSING)}
    return Verdict(
        verdict=Judgement.UNDECIDED, symptom=Symptom.SLOW, fault=Fault.UNKNOWN, action=Action.WATCH,
        evidence=(Evidence(file, 0, text),), detail=detail,
    )  # fmt: skip


def _detail(table: StepTable, slowdown: float, cause: str, lost_s: dict[int, float]) -> dict[str, Json]:
    total = max(sum(lost_s.values()), 1e-12)
    rows: list[Json] = [{"rank": int(rank), "share": round(lost / total, 4)} for rank, lost in list(lost_s.items())[:MOST_ROWS]]
    return {
        "slowdown": round(slowdown, 4), "cause": cause, "by_worker": rows, "by_stage": [], "by_op": [],
        "steps": len(table.steps), "ranks": len(table.ranks),
    }  # fmt: skip

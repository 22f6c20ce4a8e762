"""The findings of the online detector in words: who, by how much, since when, and what the machine's sensors say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.traceslow.accuse import Accused, Places
from detectors.traceslow.jobpace import Shift
from detectors.traceslow.machine import Reason
from detectors.traceslow.own import middle
from detectors.traceslow.phases import DATA, TRANSFER, WAIT, WORK
from detectors.traceslow.watch import Late
from holdfast.events import Finding
from holdfast.faults import Action, Fault, Judgement, Perception, Severity, Symptom
from holdfast.topology import JobId, Kind, Target, job_of
from holdfast.verdict import Culprit, Evidence, Json

_MISSING = (
    "phases of each rank's steps (forward, backward, data, all_reduce): with step times alone all ranks of a synchronous job look alike",
    "an operation trace, or clocks, temperatures and link counters of the nodes",
)
_CAUSE = {"transfer": "slow_link", "data": "data_loading", "host": "host"}
_ADVICE = {
    "global": "all ranks compute longer: clocks and power limits, cooling, or a change of the workload",
    "slow_link": "all ranks communicate longer: the fabric, or one link in every ring",
    "data_loading": "all ranks wait longer for their data: storage or the loaders",
    "checkpoint": "steps hold longer pauses",
}


@dataclass(frozen=True, kw_only=True)
class Recent:
    """The last few steps. parts: mean of each, shape (WIDTH, ranks), NaN: not told; own_s: own work, shape (ranks,)"""

    parts: np.ndarray
    own_s: np.ndarray

    def excess_s(self, part: int, ranks: tuple[int, ...]) -> float:
        """By how many seconds a part of these ranks is over its usual; 0 where it is not told."""
        own = self.parts[part, list(ranks)]
        over = float(np.mean(own[np.isfinite(own)])) - middle(self.parts[part]) if np.isfinite(own).any() else 0.0
        return over if np.isfinite(over) else 0.0


def cause_in(recent: Recent, ranks: tuple[int, ...]) -> str:
    """Which part of their own time the ranks lose: slow_worker, data_loading or host."""
    work, data = recent.excess_s(WORK, ranks), recent.excess_s(DATA, ranks)
    own = recent.own_s[list(ranks)]
    left = float(np.nanmean(own)) - middle(recent.own_s) - work - data if np.isfinite(own).any() else 0.0
    if np.isnan(recent.parts[[WORK, DATA]]).all():
        return "slow_worker"
    return max((("slow_worker", work), ("data_loading", data), ("host", left)), key=lambda row: row[1])[0]


@dataclass(frozen=True, kw_only=True)
class Telling:
    """What all findings of a job have in common. said: number of the next"""

    job: str
    at: float
    step: int
    said: int
    act_share: float

    def culprit(
        self, accused: Accused, recent: Recent, places: Places, *, part: str, share: float, reason: Reason | None, among: int
    ) -> Finding:
        """Somebody slows the job. part: "own", or the side that is long; share: of the lost time; among: with how many compared"""
        transfer = part == "transfer"
        cause = _CAUSE.get(part) or cause_in(recent, accused.ranks)
        check = "slow_worker" if cause == "host" else cause
        texts = [self._text(accused, recent, transfer=transfer), *_waits(accused, recent)]
        if reason is not None:
            texts.append(reason.text)
        node = places.of(accused.ranks[0]) if accused.kind is not Kind.LINK else ""
        bad = accused.excess >= self.act_share
        confidence = round(min(0.95, 0.8 + 0.05 * (among >= 32) + 0.1 * (reason is not None)) - 0.2 * (not bad), 2)
        named = Culprit(
            kind=accused.kind, id=accused.id, cause=reason.cause if reason else check, confidence=confidence, share=share,
            evidence=tuple(texts), node=node,
        )  # fmt: skip
        fault = reason.fault if reason else {"slow_link": Fault.FABRIC, "data_loading": Fault.UNKNOWN}.get(check, Fault.UNKNOWN)
        target = Target(accused.kind, accused.id, node=node, job=self.job)
        more: dict[str, Json] = {"ranks": [int(rank) for rank in accused.ranks[:64]], "excess_share": round(accused.excess, 4)}
        if reason is not None:
            more |= {"why": reason.cause, "device": str(reason.target)}
        return self._finding(
            target, check, texts, culprits=(named,), fault=fault, confidence=confidence, share=share, more=more,
            severity=Severity.ERROR if bad else Severity.WARNING, action=Action.REPLACE if bad else Action.WATCH,
        )  # fmt: skip

    def _text(self, accused: Accused, recent: Recent, *, transfer: bool) -> str:
        times = recent.parts[TRANSFER] if transfer else recent.own_s
        known = times[list(accused.ranks)]
        own_s = float(np.mean(known[np.isfinite(known)])) if np.isfinite(known).any() else float("nan")
        does = "transfers" if transfer else "works"
        since = "it did not before" if accused.turned else "ever since it was compared" if accused.steps >= self.step else "for long"
        whose = f"the {len(accused.ranks)} ranks of " if accused.kind is Kind.NODE else ""
        return (
            f"{whose}{accused.kind} {accused.id} {does} {own_s:.3f} s a step, its peers {middle(times):.3f} s, "
            f"for {accused.steps} steps in a row ({since}); they wait for it"
        )

    def many(self, late: Sequence[Late], of: int, *, is_stage: bool) -> Finding:
        """Many ranks are slower than the others of their role. is_stage: they are one node, and would be one stage of the job"""
        text = f"{len(late)} of {of} ranks work at least {min(one.excess for one in late):.0%} longer than the others"
        missing: list[Json] = ["what the slow ranks share: a stage (`layout` in the job's facts), a rack, a switch, a power supply"]
        if is_stage:
            text += ", and have since the first step: ranks " + ", ".join(str(one.rank) for one in sorted(late, key=lambda o: o.rank))
            missing = ["whether they are a stage with more work, or a slow node: `layout` in the job's facts"]
        return self._finding(
            job_of(self.job), "many_slow", [text], judgement=Judgement.UNDECIDED, confidence=0.6, severity=Severity.WARNING,
            more={"ranks_slow": len(late), "ranks": of, "missing": missing}, action=Action.WATCH,
        )  # fmt: skip

    def shift(self, shift: Shift) -> Finding:
        """The whole job steps slower, and no rank stands out."""
        rate = shift.after / shift.before - 1.0
        grown = max(shift.parts, key=lambda name: shift.parts[name]) if shift.parts else ""
        told = grown and shift.parts[grown] > 0.4 * (shift.after - shift.before)
        cause = {"work": "global", "wait": "slow_link", "transfer": "slow_link", "data": "data_loading", "pause": "checkpoint"}.get(
            grown if told else "", "global"
        )
        text = f"from step {shift.step} a step takes {shift.after:.3f} s, before it took {shift.before:.3f} s ({rate:+.1%})"
        texts = [f"{text}; {_ADVICE[cause]}" if told else text]
        return self._finding(
            job_of(self.job), "global", texts, cause=cause, judgement=Judgement.UNDECIDED, confidence=0.7,
            severity=Severity.ERROR if rate >= 2 * self.act_share else Severity.WARNING, action=Action.WATCH,
            more={"missing": list[Json](_MISSING), "before_s": round(shift.before, 4), "after_s": round(shift.after, 4)},
        )  # fmt: skip

    def _finding(
        self, target: Target, cause_check: str, texts: list[str], *, more: dict[str, Json], confidence: float, severity: Severity,
        action: Action, judgement: Judgement = Judgement.CULPRIT, culprits: tuple[Culprit, ...] = (), fault: Fault = Fault.UNKNOWN,
        share: float | None = None, cause: str = "",
    ) -> Finding:  # fmt: skip
        who = f" {target.kind} {target.id}" if target.kind is not Kind.JOB else ""
        return Finding(
            at=self.at, id=f"traceslow/{self.job}/{self.said}", job=JobId(self.job), target=target, perception=Perception.SLOW,
            symptom=Symptom.SLOW, fault=fault, check=f"traceslow.{cause_check}", judgement=judgement, severity=severity,
            cause=cause or cause_check, confidence=confidence, share=share, culprits=culprits, action=action,
            evidence=tuple(Evidence("step reports", 0, text) for text in texts),
            detail={"step": self.step, "signature": f"traceslow.{cause_check}{who}", **more},
        )  # fmt: skip


def _waits(accused: Accused, recent: Recent) -> list[str]:
    """Who arrives last waits least."""
    waits = recent.parts[WAIT]
    own, usual = waits[list(accused.ranks)], middle(waits)
    if not np.isfinite(own).any() or not np.isfinite(usual):
        return []
    return [f"it waits {float(np.nanmean(own)):.3f} s a step for the others, they {usual:.3f} s"]

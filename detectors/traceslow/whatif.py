"""From the cost of each suspect to the verdict: a sick machine, a slow link, or an uneven workload that blames nobody.

Source: Understanding Stragglers in Large Model Training Using What-if Analysis (2025), with long-lasting and passing
differences told apart before anybody is named.
"""

import numpy as np

from detectors.traceslow.costs import MOST_ROWS, Costs, costs
from detectors.traceslow.factors import Spell
from detectors.traceslow.links import links
from detectors.traceslow.passing import Passing, passing
from detectors.traceslow.series import growth
from detectors.traceslow.trace import Operations
from detectors.traceslow.wording import op_rows, stage_rows, unnamed, worker_rows
from holdfast.faults import Action, Fault, Judgement, Symptom
from holdfast.topology import Kind
from holdfast.verdict import Culprit, Evidence, Json, Verdict

# The paper calls a job straggling from a slowdown of 1.1: noise alone costs a healthy job some percent, since every step
# waits for the unluckiest of many operations.
HEALTHY_BELOW = 1.1
# A cause is named when this part of the lost time is its doing.
_EXPLAINS = 0.3
# More of the workers than this are no stragglers: what they share is the suspect.
_FEW = 0.25
# All stages of a replica are slower alike when the most is so many times the least; a node holds so many ranks at most.
_REPLICA_ALIKE, _NODE = 1.6, 8
# Up to so many steps there is no late part to look at for itself.
_LATE_FROM = 8

_FAULT = {
    "stage_imbalance": Fault.WORKLOAD, "sequence_imbalance": Fault.WORKLOAD, "gc": Fault.WORKLOAD,
    "checkpoint": Fault.STORAGE, "data_loading": Fault.WORKLOAD, "global": Fault.UNKNOWN, "none": Fault.UNKNOWN,
}  # fmt: skip
_ADVICE = {
    "stage_imbalance": "give the heavy stage fewer layers, or part of its work to the others",
    "sequence_imbalance": "balance the sequence lengths among data ranks and micro-batches",
    "gc": "collect garbage on all ranks in the same step, or seldom",
    "data_loading": "more loader workers, prefetching or faster storage",
    "checkpoint": "write checkpoints beside the training, or less often",
}


def judge(ops: Operations, file: str, *, threshold: float = HEALTHY_BELOW) -> Verdict:
    """The verdict on an operation trace. file: named in the evidence."""
    return _Answer(costs(ops), file, threshold).verdict()


class _Answer:
    """One verdict in the making."""

    def __init__(self, found: Costs, file: str, threshold: float) -> None:
        self.costs, self.file, self.threshold = _where_it_is_slow(found, threshold), file, threshold
        self.ops = found.replay.ops
        self.passing: Passing = passing(self.ops, found.factors)
        self.growth = growth(found.times["actual"])
        self.texts: list[str] = []

    def verdict(self) -> Verdict:
        said = self.costs
        self.texts.append(
            f"a step takes {said.mean('actual'):.3f} s in the replay ({said.replay.measured_s[said.first :].mean():.3f} s as recorded) "
            f"and {said.mean('ideal'):.3f} s without stragglers: slowdown {said.slowdown:.3f}"
        )
        shares = self._shares()
        if said.slowdown >= self.threshold:
            cause = max(shares, key=lambda cause: shares[cause])
            if shares[cause] >= _EXPLAINS:
                return self._named(cause, shares)
        if self.growth >= self.threshold:
            return self._global(shares)
        launch = float(said.replay.measured_s.sum() / max(said.times["actual"].sum(), 1e-12))
        if said.slowdown >= self.threshold or launch * said.slowdown >= self.threshold + 0.05:
            return self._unexplained(shares, launch)
        return self._say(Judgement.HEALTHY, "none", shares)

    def _shares(self) -> dict[str, float]:
        """Cause -> part of the lost time that is its doing, the most first."""
        known = ("slow_worker", "stage_imbalance", "slow_link", "data_loading", "gc", "checkpoint", "global")
        shares = {cause: self.costs.weight(cause) for cause in known if cause in self.costs.times}
        rest = self.costs.weight("uneven")
        shares[self.passing.cause] = max(rest, shares.get(self.passing.cause, 0.0))
        return dict(sorted(shares.items(), key=lambda row: -row[1]))

    def _named(self, cause: str, shares: dict[str, float]) -> Verdict:
        share = shares[cause]
        if cause == "slow_worker":
            passes = self.passing.cause == cause and self.costs.weight("uneven") > self.costs.weight(cause)
            return self._now_and_then(shares) if passes else self._workers(shares)
        if cause == "global":
            return self._global(shares)
        if cause == "slow_link":
            named, texts = links(self.costs, self.costs.share("slow_link"))
            self.texts.extend(texts)
            if not named:
                return self._say(Judgement.UNDECIDED, cause, shares, fault=Fault.FABRIC, missing=[
                    "which member of the slow group: a bandwidth test between pairs of its ranks, or counters of their NICs"])  # fmt: skip
            return self._say(Judgement.CULPRIT, cause, shares, culprits=named, fault=Fault.FABRIC, action=Action.REPLACE)
        if cause == "data_loading" and self.costs.loading and self.costs.share("loading") >= 0.5 * share:
            return self._loaders(shares)
        if cause == "stage_imbalance" and len(self.ops.ranks) == len(set(self.ops.pp.tolist())):
            return self._lonely_stage(shares)
        if cause == "none":
            return self._unexplained(shares, 1.0)
        self.texts.append(f"{share:.0%} of the lost time goes to {_words(cause)}; {_ADVICE[cause]}")
        if cause in ("sequence_imbalance", "gc") and self.passing.text:
            self.texts.append(self.passing.text)
        if cause == "stage_imbalance":
            self.texts.append(self._stages())
        fault = Fault.STORAGE if cause == "data_loading" and self.passing.loads_together else _FAULT[cause]
        return self._say(Judgement.NOBODY, cause, shares, fault=fault)

    def _workers(self, shares: dict[str, float]) -> Verdict:
        costed = [s for s in self.costs.factors.spells if ("spell", s.who) in self.costs.times]
        alone = {s.who: self.costs.alone(("spell", s.who)) - 1.0 for s in costed}
        costed.sort(key=lambda s: -alone[s.who])
        least = 0.1 * max(alone.values())
        blamed = [s for s in costed if alone[s.who] >= least > 0] or costed[:1]
        places = {(int(self.ops.dp[s.who]), int(self.ops.pp[s.who])) for s in blamed}
        everywhere = len(set(zip(self.ops.dp.tolist(), self.ops.pp.tolist(), strict=True)))
        if len(places) > max(1, _FEW * everywhere):
            self.texts.append(f"{len(blamed)} of {len(self.ops.ranks)} ranks are slower than their peers for long")
            return self._say(Judgement.UNDECIDED, "slow_worker", shares, missing=["what the slow ranks share: node, rack, switch, power"])
        if self._is_one_replica(blamed):
            replica = int(self.ops.dp[blamed[0].who])
            self.texts.append(
                f"all stages of data rank {replica} compute longer by about as much, on machines of their own: its sequences are longer"
            )
            return self._say(Judgement.NOBODY, "sequence_imbalance", shares, fault=Fault.WORKLOAD)
        total = max(sum(alone[s.who] for s in blamed), 1e-12)
        share, together = self.costs.share("slow_worker"), len(blamed) / len(places)
        culprits = tuple(self._worker(s, share * alone[s.who] / total, together=together) for s in blamed[:MOST_ROWS])
        return self._say(Judgement.CULPRIT, "slow_worker", shares, culprits=culprits, action=Action.REPLACE)

    def _is_one_replica(self, blamed: list[Spell]) -> bool:
        """Whether they are all stages of one data rank, slower alike, and too far apart to be one node's ranks."""
        ops, stages = self.ops, len(set(self.ops.pp.tolist()))
        of = [int(ops.pp[spell.who]) for spell in blamed]
        alike = max(s.excess for s in blamed) <= _REPLICA_ALIKE * min(s.excess for s in blamed)
        apart = len({int(ops.ranks[spell.who]) // _NODE for spell in blamed})
        return stages > 1 and len(set(of)) == stages and len({int(ops.dp[s.who]) for s in blamed}) == 1 and alike and apart > 1

    def _worker(self, spell: Spell, share: float, *, together: float) -> Culprit:
        factors, ops = self.costs.factors, self.ops
        own, peers, steps = factors.usual_s[spell.who], factors.peers_s[spell.who], ops.steps
        texts = [
            f"rank {ops.ranks[spell.who]} (stage {ops.pp[spell.who]}, data rank {ops.dp[spell.who]}) computes {own:.3f} s a step, "
            f"half of its stage {peers:.3f} s or less: {own / peers - 1.0:+.0%}, in steps {steps[spell.first]} to {steps[spell.last]}",
            f"without its slowness {share:.0%} of the lost time would come back",
        ]
        if together > 1:
            texts.append("ranks of a tensor group wait for one another within an operation: it may be any of them")
        confidence = (0.55 + 0.25 * min(1.0, 2 * share) + 0.15 * spell.kept) / (1.0 if together <= 1 else 1.5)
        return Culprit(
            kind=Kind.RANK, id=str(ops.ranks[spell.who]), cause="slow_worker", confidence=round(confidence, 3),
            share=round(share, 4), evidence=tuple(texts),
        )  # fmt: skip

    def _now_and_then(self, shares: dict[str, float]) -> Verdict:
        """One rank alone is held up, in some steps only."""
        rank, share = str(self.ops.ranks[self.passing.who]), round(self.costs.share("uneven"), 4)
        one = Culprit(kind=Kind.RANK, id=rank, cause="slow_worker", confidence=0.7, share=share, evidence=(self.passing.text,))
        return self._say(Judgement.CULPRIT, "slow_worker", shares, culprits=(one,), action=Action.REPLACE)

    def _loaders(self, shares: dict[str, float]) -> Verdict:
        stages = set(self.ops.pp[[spell.who for spell in self.costs.loading]].tolist())
        few = max(1, int(_FEW * np.isin(self.ops.pp, list(stages)).sum()))
        if len(self.costs.loading) > few:
            self.texts.append(f"{len(self.costs.loading)} ranks wait longer for data than the others for long")
            return self._say(Judgement.NOBODY, "data_loading", shares, fault=Fault.STORAGE)
        share = self.costs.share("loading") / len(self.costs.loading)
        culprits = tuple(
            Culprit(
                kind=Kind.RANK, id=str(self.ops.ranks[spell.who]), cause="data_loading", confidence=0.8, share=round(share, 4),
                evidence=(f"rank {self.ops.ranks[spell.who]} waits {spell.excess:.0%} of a step longer for its data than the others",),
            )
            for spell in self.costs.loading
        )  # fmt: skip
        return self._say(Judgement.CULPRIT, "data_loading", shares, culprits=culprits, fault=Fault.STORAGE, action=Action.REPLACE)

    def _lonely_stage(self, shares: dict[str, float]) -> Verdict:
        """Each stage has one worker: a heavy stage and a slow worker look alike, unless it was quick before."""
        stages = [stage for stage in sorted(set(self.ops.pp.tolist())) if ("stage", stage) in self.costs.times]
        heavy = max(stages, key=lambda stage: self.costs.alone(("only", "stage", stage)))
        who = int(np.flatnonzero(self.ops.pp == heavy)[0])
        self.texts.append(self._stages())
        work = self.costs.factors.work_s
        others = np.delete(np.arange(len(self.ops.ranks)), who)
        peers_s = np.maximum(np.median(work[:, others], axis=1), 1e-12) if len(others) else work[:, who]
        turned = growth(work[:, who] / np.maximum(peers_s, 1e-12))
        if turned >= self.threshold:
            text = f"rank {self.ops.ranks[who]} computes {turned - 1.0:+.0%} longer than at the beginning, against the other stages"
            one = Culprit(kind=Kind.RANK, id=str(self.ops.ranks[who]), cause="slow_worker", confidence=0.8, evidence=(text,),
                          share=round(self.costs.share("stage_imbalance"), 4))  # fmt: skip
            return self._say(Judgement.CULPRIT, "slow_worker", shares, culprits=(one,), action=Action.REPLACE)
        if heavy in (stages[0], stages[-1]):
            self.texts.append("the first and the last stage carry embedding and loss, and the times do not change in the trace")
            return self._say(Judgement.NOBODY, "stage_imbalance", shares, fault=Fault.WORKLOAD)
        rank = self.ops.ranks[who]
        missing = [f"a second worker of stage {heavy}, or its share of the layers: rank {rank} may be slow or its stage heavy"]
        return self._say(Judgement.UNDECIDED, "stage_imbalance", shares, missing=missing)

    def _global(self, shares: dict[str, float]) -> Verdict:
        self.texts.append(
            f"steps take {self.growth:.2f} times as long at the end of the trace as at its beginning, and no rank, stage or link stands out"
        )
        missing = ["what all ranks share: device clocks and power limits, cooling, the fabric's load, other jobs, a change of the workload"]
        return self._say(Judgement.UNDECIDED, "global", shares, missing=missing, slowdown=max(self.growth, self.costs.slowdown))

    def _unexplained(self, shares: dict[str, float], launch: float) -> Verdict:
        missing, text = unnamed(self.passing, launch)
        self.texts.append(text)
        return self._say(Judgement.UNDECIDED, "none", shares, missing=missing, slowdown=self.costs.slowdown * max(1.0, launch))

    def _stages(self) -> str:
        rows = [f"stage {s} {self.costs.alone(('only', 'stage', s)):.2f}" for s in sorted(set(self.ops.pp.tolist()))[:MOST_ROWS]]
        return f"slowdown of a job in which one stage alone keeps its times: {', '.join(rows)}"

    def _say(
        self, judgement: Judgement, cause: str, shares: dict[str, float], *, culprits: tuple[Culprit, ...] = (),
        fault: Fault = Fault.UNKNOWN, action: Action = Action.WATCH, missing: list[str] | None = None, slowdown: float = 0.0,
    ) -> Verdict:  # fmt: skip
        healthy = judgement is Judgement.HEALTHY
        detail: dict[str, Json] = {
            "slowdown": round(slowdown or self.costs.slowdown, 4),
            "cause": cause,
            "by_cause": [{"cause": name, "share": round(share, 4)} for name, share in shares.items() if share >= 0.005 and name != "none"],
            "by_worker": worker_rows(self.costs),
            "by_stage": stage_rows(self.costs),
            "by_op": op_rows(self.costs),
            "steps": len(self.ops.steps),
            "ranks": len(self.ops.ranks),
            "operations": len(self.ops.op),
            "measured_step_s": round(float(self.costs.replay.measured_s[self.costs.first :].mean()), 6),
            "replayed_step_s": round(self.costs.mean("actual"), 6),
            "ideal_step_s": round(self.costs.mean("ideal"), 6),
            "forward_backward_correlation": self.passing.correlation,
        }
        if missing:
            detail["missing"] = list[Json](missing)
        if self.ops.left_out:
            detail["left_out"] = list[Json](self.ops.left_out)
        if self.costs.replay.loose:
            detail["contradicting_meetings"] = self.costs.replay.loose
        return Verdict(
            verdict=judgement, symptom=Symptom.NONE if healthy else Symptom.SLOW, fault=Fault.NONE if healthy else fault,
            culprits=culprits, action=Action.NONE if healthy else action,
            evidence=tuple(Evidence(self.file, 0, text) for text in self.texts), detail=detail,
        )  # fmt: skip


def _words(cause: str) -> str:
    return {"stage_imbalance": "the heavy stage", "sequence_imbalance": "uneven sequences", "gc": "pauses for garbage collection",
            "data_loading": "waiting for data", "checkpoint": "waiting for checkpoints"}[cause]  # fmt: skip


def _where_it_is_slow(found: Costs, threshold: float) -> Costs:
    """The whole trace, or its last quarter where only that is slow."""
    steps = len(found.replay.ops.steps)
    if found.slowdown >= threshold or steps < _LATE_FROM:
        return found
    late = found.since(steps - steps // 4)
    return late if late.slowdown >= threshold else found

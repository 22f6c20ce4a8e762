"""Tracehang in the live line: the claim that a job is still, and the verdict once the evidence has come."""

from collections.abc import Iterator

import msgspec

from detectors.tracehang.claim import Claim, Limits
from detectors.tracehang.evidence import Evidence
from detectors.tracehang.rhythm import PACE_KEPT
from holdfast.events import Beats, Changes, Dumps, Finding, Observation, Samples, Steps

# Below this a culprit found in a phase that takes long by nature is not yet one.
_SURE = 0.6


class Tracehang:
    """Claims silence, asks for evidence by its claim, and says which rank it is.

    The arguments are those of `claim.Limits`; evidence_s: how long the parts of one collection may take to come
    readers: processes that read them beside the line; 0 reads in the line, which many dumps, or a hostile one, hold up
    """

    consumes = (Beats, Steps, Changes, Dumps, Samples)
    # then the pace is learned of the same steps, whatever was before, and the usual power of several pages
    warmup_s, warmup_steps = 60.0, PACE_KEPT + 2

    def __init__(
        self, *, factor: float = 5.0, floor_s: float = 8.0, startup_s: float = 1800.0, phase_s: float = 900.0,
        evidence_s: float = 15.0, readers: int = 1,
    ) -> None:  # fmt: skip
        self.claim = Claim(Limits(factor=factor, floor_s=floor_s, startup_s=startup_s, phase_s=phase_s))
        self.evidence = Evidence(patience_s=evidence_s, readers=readers, rests_at=self.claim.rests_at)
        self._verdicts: dict[str, Finding] = {}

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Dumps):
            yield from self._judged(self.evidence.observe(seen))
        else:
            if isinstance(seen, Beats) and seen.job:
                self.evidence.hear(seen)
            elif isinstance(seen, Samples) and seen.job:
                self.evidence.pages.take(seen)
            for claim in self.claim.observe(seen):
                yield claim
                if claim.cleared and (verdict := self._verdicts.pop(claim.job, None)) is not None:
                    yield msgspec.structs.replace(verdict, at=claim.at, cleared=True)

    def tick(self, now: float) -> Iterator[Finding]:
        yield from self.claim.tick()
        yield from self._judged(self.evidence.tick(now))

    def _judged(self, verdicts: Iterator[Finding]) -> Iterator[Finding]:
        for verdict in verdicts:
            phase = verdict.detail.get("phase")
            if isinstance(phase, str) and phase and verdict.confidence < _SURE:
                granted = self.claim.grant(verdict.job, phase)
                if granted is not None:
                    yield granted
                    continue
            placed = self._placed(verdict)
            if placed.job in self.claim.jobs:  # so there are never more than jobs
                self._verdicts[placed.job] = placed
            yield placed

    def _placed(self, verdict: Finding) -> Finding:
        """Add the step at which it hangs, which the dumps do not know, so that a second time can be told from the first."""
        job = self.claim.jobs.get(verdict.job)
        who = ",".join(culprit.id for culprit in verdict.culprits)
        detail = {**verdict.detail, "step": job.step if job else -1, "signature": f"{verdict.check} rank {who}"}
        return msgspec.structs.replace(verdict, detail=detail)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self.claim.snapshot(), self.evidence.snapshot(), self._verdicts))

    def restore(self, memory: bytes) -> None:
        claim, evidence, self._verdicts = msgspec.msgpack.decode(memory, type=tuple[bytes, bytes, dict[str, Finding]])
        self.claim.restore(claim)
        self.evidence.restore(evidence)

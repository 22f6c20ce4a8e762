"""What a job's interruptions have cost it: its wall clock cut into useful time and the parts of time lost.

A machine over (time, event). At any moment everything up to `mark` is accounted for; the next event says what the time since
then was. Intervals never overlap and never go back, so the parts cannot be negative and cannot add up to more than the wall
clock, whatever comes in whatever order.
"""

from dataclasses import dataclass, field
from enum import StrEnum

FAULT_PARTS = ("detect", "decide", "schedule", "initialise", "recompute")
PARTS = (*FAULT_PARTS, "checkpoint")


class Phase(StrEnum):
    """What a job that steps, or is about to, does with its time."""

    USEFUL = "useful"
    INITIALISE = "initialise"
    RECOMPUTE = "recompute"


@dataclass
class Gap:
    """What is known of the time since the mark.

    still: a claim says that the job stands still; down_at: when its attempt was known to have ended
    """

    claimed_at: float | None = None
    decided_at: float | None = None
    down_at: float | None = None
    still: bool = False
    counted: bool = False

    @property
    def open(self) -> bool:
        """Whether the job is known to be interrupted now."""
        return self.still or self.down_at is not None

    def parts(self, since: float, until: float) -> dict[str, float]:
        """Cut the time from the last step's end until now, or until the next attempt's processes, at the claim and the decision."""
        known = [at for at in (self.claimed_at, self.decided_at, self.down_at) if at is not None]
        # Nobody here has noticed anything: then whoever started the job again has found, decided and scheduled in one.
        claimed, decided = (min(known), self.decided_at) if known else (since, since)
        claimed = min(max(claimed, since), until)
        decided = until if decided is None else min(max(decided, claimed), until)
        return {"detect": claimed - since, "decide": decided - claimed, "schedule": until - decided}


@dataclass
class Interruptions:
    """One job's account. Times are Unix seconds; one that is earlier than what is accounted for counts as just now.

    count: how often the job was interrupted
    """

    count: int = 0
    _lost: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    _began_at: float | None = None
    _mark: float = 0.0
    _paused_s: float = 0.0
    _phase: Phase = Phase.USEFUL
    _step: int = -1
    _best: int = -1
    _stall_s: float = 0.0
    _stalled_until: float = 0.0
    _stopped: bool = False
    _gap: Gap = field(default_factory=Gap)

    # --- what happens

    def started(self, at: float) -> None:
        """The processes of an attempt were started: the job's first, or another one."""
        if self._began_at is None:
            self._began_at = self._mark = at
            return
        at = max(at, self._mark)
        if self._stopped and not self._gap.open:
            self._paused_s += at - self._mark  # stopped on purpose: neither lost nor part of the wall clock
            self._phase = Phase.USEFUL
        else:
            self._count()
            self._lose(self._gap.parts(self._mark, at))
            self._phase = Phase.INITIALISE
        self._best, self._step = max(self._best, self._step), -1
        self._mark, self._gap, self._stall_s, self._stopped = at, Gap(), 0.0, False

    def stepped(self, at: float, step: int, stall_s: float | None = None) -> bool:
        """A step has ended; return whether it is news of the present attempt.

        stall_s: seconds of it that a checkpoint held it up, None where the job does not say
        """
        if self._began_at is None:
            self._began_at, self._mark, self._step = at, at, step
            return True
        if self._stopped or at <= self._mark or step <= self._step:
            return False  # told late, or known already
        gap = self._gap
        if gap.down_at is not None and at <= gap.down_at:
            self._pass(at, stall_s)  # the last words of the attempt that has ended
            self._best = max(self._best, step)
            return False
        if gap.down_at is not None or (gap.still and gap.claimed_at is not None and at > gap.claimed_at):
            self._lose(gap.parts(self._mark, at))
            self._mark, self._stall_s = at, 0.0
        else:
            self._pass(at, stall_s)
        if self._phase is not Phase.USEFUL or gap.down_at is not None:
            self._phase = Phase.USEFUL if step > self._best else Phase.RECOMPUTE
        self._step = step
        if at > max(gap.claimed_at or 0.0, gap.decided_at or 0.0):
            self._gap = Gap()
        return True

    def stalled(self, at: float, since: float) -> None:
        """A checkpoint has held up the job from `since` until `at`; what was told before is not counted again."""
        since = max(since, self._stalled_until)
        if at > since:
            self._stall_s += at - since
            self._stalled_until = at

    def claimed(self, at: float, *, still: bool) -> None:
        """Something is wrong with the job. still: it makes no steps (a hang, a crash), which only now may be known."""
        if self._began_at is None or self._stopped:
            return
        gap = self._gap
        gap.claimed_at = max(at, self._mark) if gap.claimed_at is None else gap.claimed_at
        gap.still = gap.still or still
        if still:
            self._count()

    def decided(self, at: float) -> None:
        """A repair was ordered; the first order since the claim counts, those that failed are part of the scheduling."""
        if self._began_at is not None and not self._stopped and self._gap.decided_at is None:
            self._gap.decided_at = max(at, self._mark)

    def down(self, at: float, *, decided: bool = False) -> None:
        """The attempt has ended and the job with it. decided: because it is to be started again."""
        if self._began_at is None or self._stopped:
            return
        self._count()
        if self._gap.down_at is None:
            self._gap.down_at = max(at, self._mark)
            self._best, self._step = max(self._best, self._step), -1
        if decided:
            self.decided(at)

    def ended(self, at: float) -> None:
        """The job has finished or was stopped. What a fault has stopped is still its doing when the job is started again."""
        if self._began_at is None or self._stopped:
            return
        at = max(at, self._mark)
        if self._gap.open:
            self._lose(self._gap.parts(self._mark, at))
            self._gap = Gap(claimed_at=at, still=True, counted=True)
        else:
            self._pass(at, None)
        self._mark, self._stopped = at, True

    # --- what it comes to

    def wall_s(self, now: float) -> float:
        """Seconds since the job began, without those in which it was stopped on purpose."""
        if self._began_at is None:
            return 0.0
        until = self._mark if self._stopped else max(now, self._mark)
        return until - self._began_at - self._paused_s

    def lost_s(self, now: float) -> dict[str, float]:
        """Seconds lost by part, the interruption that lasts now included."""
        lost = dict(self._lost)
        until = max(now, self._mark)
        if self._began_at is None or self._stopped:
            return lost
        if self._gap.open:
            for part, seconds in self._gap.parts(self._mark, until).items():
                lost[part] += seconds
        elif self._phase is not Phase.USEFUL:
            lost[self._phase.value] += until - self._mark
        return lost

    def ratio(self, now: float, *, checkpoints: bool) -> float:
        """1 - time lost over the wall clock, 0..1. checkpoints: their stalls count as lost too."""
        lost, wall_s = self.lost_s(now), self.wall_s(now)
        seconds = sum(lost[part] for part in (PARTS if checkpoints else FAULT_PARTS))
        return min(1.0, max(0.0, 1.0 - seconds / wall_s)) if wall_s > 0 else 1.0

    # --- how it is booked

    def _count(self) -> None:
        self.count += not self._gap.counted
        self._gap.counted = True

    def _lose(self, parts: dict[str, float]) -> None:
        for part, seconds in parts.items():
            self._lost[part] += seconds

    def _pass(self, at: float, stall_s: float | None) -> None:
        """Book the time up to `at` as what the job was doing; what is lost already is not lost to a checkpoint as well."""
        seconds = at - self._mark
        if self._phase is Phase.USEFUL:
            self._lost["checkpoint"] += min(seconds, max(0.0, self._stall_s if stall_s is None else stall_s))
        else:
            self._lost[self._phase.value] += seconds
        self._mark, self._stall_s = at, 0.0

"""What a judge of a hang should have said."""

from dataclasses import dataclass, field

from holdfast.faults import HangCause, Judgement
from simulator.evidence.course import Course
from simulator.evidence.stall import CAUSES, Kind


@dataclass(frozen=True)
class Truth:
    """verdict: `culprit` or `nobody`; causes: culprit -> cause; seen: what it takes to see it, "" for dumps alone"""

    verdict: Judgement
    causes: dict[int, HangCause] = field(default_factory=dict)
    seen: str = ""


def truth(course: Course) -> Truth:
    """The truth of a scene: whose trouble has really come and holds the others up."""
    if course.scene.muddle is not None:
        return Truth(Judgement.NOBODY)
    causes = {rank: CAUSES[stall.kind] for rank, stall in course.stalls.items() if course.holds_up(rank)}
    hidden = any(course.stalls[rank].kind in (Kind.DEVICE_BEFORE, Kind.NETWORK) for rank in causes)
    return Truth(Judgement.CULPRIT, causes, "devices" if hidden else "")

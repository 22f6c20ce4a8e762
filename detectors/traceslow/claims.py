"""The claims that stand about one job: made once, withdrawn when what was claimed is over."""

import msgspec

from detectors.traceslow.accuse import Accused
from holdfast.events import Finding
from holdfast.faults import Severity

# A claim is over when what is left of it is under this share of it for so many steps.
_LEFT, _CALM = 0.4, 10
_FADE = 0.8
# A warning that has grown so much is another claim.
_GROWN = 2.0


class Claim(msgspec.Struct):
    """What stands. ranks: whose; part: "own", or the side that is long; level: excess when it was claimed

    recent: fading mean of it since; calm: steps without it
    """

    finding: Finding
    ranks: list[int]
    level: float
    part: str
    recent: float = 0.0
    calm: int = 0
    steps: int = 0

    def follow(self, excess: float) -> None:
        """Take in one more step."""
        self.steps += 1
        self.recent = _FADE * self.recent + (1.0 - _FADE) * excess
        self.calm = self.calm + 1 if excess < _LEFT * self.level else 0

    @property
    def over(self) -> bool:
        return self.calm >= _CALM and self.recent < 2 * _LEFT * self.level

    def grown(self, act_share: float) -> bool:
        """Whether what was worth watching has become worth acting on."""
        warned = self.finding.severity is Severity.WARNING
        return warned and self.steps >= _CALM and self.recent >= max(act_share, _GROWN * self.level)


def claim_of(finding: Finding, accused: Accused, *, part: str) -> Claim:
    """A claim that has just been made."""
    return Claim(finding=finding, ranks=list(accused.ranks), level=accused.excess, part=part, recent=accused.excess)


def withdrawn(claim: Claim, at: float, why: str) -> Finding:
    """The same claim, no longer standing. why: "recovered", "moved", "ended", ..."""
    detail = {**claim.finding.detail, "withdrawn": why}
    return msgspec.structs.replace(claim.finding, at=at, cleared=True, evidence=(), detail=detail)

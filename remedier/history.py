"""What each job has gone through: causes, the steps at which they struck, and how far it ever came."""

from collections.abc import Iterable, Mapping

import msgspec

from holdfast.events import Finding
from holdfast.verdict import Json

MOST_CAUSES = 32
MOST_JOBS = 4096

# Steps are reported about once a second, so the last one before a crash may be told one or two short.
_SAME_STEP = 2


class Struck(msgspec.Struct):
    """A cause and the last step completed when it struck, -1 if none."""

    signature: str
    step: int


class Life(msgspec.Struct):
    """One job: the furthest step of all attempts, and the causes so far, oldest first."""

    best: int = -1
    struck: list[Struck] = []


class History(msgspec.Struct):
    """The lives of the jobs, bounded; the longest unheard is forgotten first."""

    lives: dict[str, Life] = {}

    def progress(self, job: str, detail: Mapping[str, Json]) -> None:
        """Take in how far a job has come."""
        step = detail.get("step")
        if isinstance(step, int):
            life = self._life(job)
            life.best = max(life.best, step)

    def note(self, job: str, best: Finding, findings: Iterable[Finding]) -> tuple[bool, int]:
        """Note a cause.

        returns whether the job has had it before at the same step, and how often it has now struck since the job last
        gained new ground, this time included
        """
        if not job:
            return False, 1
        steps = [step for f in findings if isinstance(step := f.detail.get("step"), int)]
        now = Struck(signature_of(best), max(steps, default=-1))
        life = self._life(job)
        alike = [s for s in life.struck if s.signature == now.signature]
        repeated = any(abs(s.step - now.step) <= _SAME_STEP for s in alike)
        times = 1 + sum(s.step >= max(life.best, now.step) - _SAME_STEP for s in alike)
        life.struck.append(now)
        del life.struck[:-MOST_CAUSES]
        return repeated, times

    def mended(self, job: str) -> None:
        """A repair has cleared what was claimed. What has no steps, a service, shows its progress by that alone."""
        life = self.lives.get(job)
        if life is not None and life.best < 0:
            life.struck = [struck for struck in life.struck if struck.step >= 0]

    def _life(self, job: str) -> Life:
        life = self.lives.pop(job, None) or Life()
        self.lives[job] = life
        if len(self.lives) > MOST_JOBS:
            del self.lives[next(iter(self.lives))]
        return life


def signature_of(finding: Finding) -> str:
    """The cause without what changes from time to time: what the finding says of itself, else its check."""
    said = finding.detail.get("signature")
    return said if isinstance(said, str) and said else finding.check

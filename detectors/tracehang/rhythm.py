"""How a job usually steps: its pace, and the pauses it makes at expected places. Plain numbers, learned as they come."""

import msgspec

PACE_KEPT = 64
_PAUSES_KEPT = 64

# A gap this many times the usual one is a pause (evaluation, checkpoint), not a slow step.
_PAUSE_FACTOR = 3.0

# Two pauses are of one kind when their lengths differ by less than this.
_ALIKE_FACTOR = 1.6

# After so many pauses at no expected step the job is taken to pause by the clock.
_UNEXPECTED_MOST = 3


class Pause(msgspec.Struct):
    """A gap that ended by itself. step: the last completed before it; expected: whether it was foreseen."""

    step: int
    length_s: float
    expected: bool


class Rhythm(msgspec.Struct):
    """What is learned of one job. gaps_s: the latest ordinary times between steps; pauses: the latest, oldest first."""

    gaps_s: list[float] = []
    pauses: list[Pause] = []

    def learn(self, step: int, gap_s: float, *, announced: bool) -> None:
        """Take in one gap: the time from the end of `step` until the next step had ended.

        An announced pause says nothing of the job's pace; a gap that is no usual one is a pause and keeps the pace normal.
        """
        if announced:
            return
        if len(self.gaps_s) >= 3 and gap_s > _PAUSE_FACTOR * self.pace_s():
            self.pauses.append(Pause(step, gap_s, self.expected_s(step) > 0.0))
            del self.pauses[:-_PAUSES_KEPT]
            return
        self.gaps_s.append(gap_s)
        del self.gaps_s[:-PACE_KEPT]

    def pace_s(self) -> float:
        """The usual time between two steps: a high quantile of the latest gaps, 0.0 before any is known."""
        if not self.gaps_s:
            return 0.0
        ordered = sorted(self.gaps_s)
        return ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]

    def expected_s(self, step: int) -> float:
        """How long a pause after `step` may last by what was seen, 0.0 if none is expected there.

        A pause is expected where two earlier ones of about the same length, `d` steps apart, are continued by this step;
        one step either way is allowed, and several kinds of pause may meet at one step.
        """
        found: dict[int, float] = {}
        known = self.pauses
        for n, first in enumerate(known):
            for second in known[n + 1 :]:
                apart = second.step - first.step
                if apart <= 1 or not _alike(first.length_s, second.length_s):
                    continue
                ahead = step - second.step
                if ahead > 0 and min(ahead % apart, apart - ahead % apart) <= 1:
                    found[apart] = max(found.get(apart, 0.0), second.length_s)
        if not found:
            return 0.0
        return max(found.values()) + max((p.length_s for p in known), default=0.0)

    def by_the_clock_s(self) -> float:
        """How long pauses last that come at no foreseeable step, 0.0 while there are too few to say so."""
        lengths = [pause.length_s for pause in self.pauses[_UNEXPECTED_MOST:] if not pause.expected]
        return max(lengths) if len(lengths) >= _UNEXPECTED_MOST else 0.0


def _alike(one: float, other: float) -> bool:
    return max(one, other) < _ALIKE_FACTOR * min(one, other)

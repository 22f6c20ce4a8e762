"""What time it is for whoever only hears events: the latest of their times, one wrong clock aside."""

import time
from dataclasses import dataclass, field

# A source that is this far ahead of all others is believed only when another one, or enough of its own events in a row, agree.
LEAP_S = 300.0
CONFIRM = 20


@dataclass
class Present:
    """The time of the events. goes_on: it runs on while nothing is heard, as it does outside a simulation."""

    goes_on: bool
    at: float = field(default=float("-inf"), init=False)
    _leaper: str = field(default="", init=False)
    _leaps: int = field(default=0, init=False)
    _asked: tuple[float, float] = field(default=(float("-inf"), 0.0), init=False)

    def hear(self, source: str, at: float) -> None:
        """An event of `source` speaks of the time `at`."""
        if self.at < at <= self.at + LEAP_S or self.at == float("-inf"):
            self.at, self._leaps = at, 0
        elif at <= self.at:
            self._leaps = 0
        elif self._leaps and (source != self._leaper or self._leaps >= CONFIRM):
            self.at, self._leaps = at, 0
        else:
            self._leaper, self._leaps = source, self._leaps + 1

    def know(self, at: float) -> None:
        """The service itself says what time it is."""
        self.at = max(self.at, at)

    def now(self) -> float:
        """Unix seconds; simulated ones where the events are."""
        if not self.goes_on:
            return self.at
        here = time.monotonic()
        if self.at > self._asked[0]:
            self._asked = (self.at, here)
        return self.at + here - self._asked[1]

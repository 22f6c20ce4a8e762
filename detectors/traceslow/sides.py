"""Parts of a step that are seldom to blame, watched for themselves: loading, transfers, and what no phase tells."""

from collections.abc import Callable

import msgspec
import numpy as np

from detectors.traceslow.own import middle, sum_of
from detectors.traceslow.peers import Peers
from detectors.traceslow.phases import DATA, TRANSFER, WORK
from detectors.traceslow.watch import Memory, Watch

# A part is compared when somebody was long in it three times in a row, and for so many steps after.
_TIMES, _GOES_ON = 3, 6


def _left(parts: np.ndarray, own_s: np.ndarray) -> np.ndarray:
    """What a rank spends beside its work and its data, where its own time tells of more than those."""
    told = sum_of(parts, WORK, DATA)
    return own_s if told is None else np.asarray(own_s - told)


# Part -> its seconds, from the parts of a step and each rank's own time.
PARTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "transfer": lambda parts, own_s: parts[TRANSFER],
    "data": lambda parts, own_s: parts[DATA],
    "host": _left,
}


class SideMemory(msgspec.Struct):
    """A `Side` as it is kept."""

    watch: Memory
    times: bytes
    due: int
    missed: list[tuple[bytes, float, float]]


class Side:
    """One part of the step of a job's ranks."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._times = np.zeros(0, dtype=np.uint8)  # how many times in a row each rank was long, up to `_TIMES`
        self._due = 0
        self._missed: list[tuple[np.ndarray, float, float]] = []  # the last steps not compared: seconds, usual seconds, begin

    @property
    def active(self) -> bool:
        return self._due > 0

    def judge(self, seconds: np.ndarray, peers: Peers, *, usual_s: float, began: float, claimed: list[int]) -> None:
        """Take in one step; see `Watch.judge`."""
        usual = middle(seconds)
        if np.isnan(usual):
            self._due = 0
            return
        if len(seconds) > self.watch.ranks:
            self.watch.grow(len(seconds))
        long = seconds > usual + self.watch.share * usual_s
        times = self._times if len(self._times) == len(long) else np.zeros(len(long), dtype=np.uint8)
        self._times = np.minimum(times + np.uint8(1), np.uint8(_TIMES)) * long
        if self._times.max() == _TIMES:
            self._due = _GOES_ON
        if self._due == 0 and not claimed:
            self._missed = [*self._missed[2 - _TIMES :], (seconds.astype(np.float32), usual_s, began)]
            return
        missed, self._missed = self._missed, []
        for before_s, usual_then_s, begun in missed:
            if len(before_s) == len(seconds):
                self.watch.judge(before_s, peers, usual_s=usual_then_s, began=begun, claimed=claimed)
        self._due = max(0, self._due - 1)
        self.watch.judge(seconds, peers, usual_s=usual_s, began=began, claimed=claimed)
        if self._due == 0:
            self.watch.rest()

    def memory(self) -> SideMemory:
        missed = [(seconds.tobytes(), usual_s, began) for seconds, usual_s, began in self._missed]
        return SideMemory(self.watch.memory(), self._times.tobytes(), self._due, missed)

    def remember(self, kept: SideMemory) -> None:
        self.watch.remember(kept.watch)
        self._times = np.frombuffer(kept.times, dtype=np.uint8)
        self._due = kept.due
        self._missed = [(np.frombuffer(seconds, dtype=np.float32), usual_s, began) for seconds, usual_s, began in kept.missed]

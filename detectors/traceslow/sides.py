"""Parts of a step that are seldom to blame, watched for themselves: loading, transfers, and what no phase tells."""

from collections.abc import Callable

import msgspec
import numpy as np

from detectors.traceslow.own import middle
from detectors.traceslow.peers import Peers
from detectors.traceslow.phases import DATA, TRANSFER, WORK
from detectors.traceslow.watch import Memory, Watch

# A part is compared when somebody was long in it twice in a row, and for so many steps after.
_GOES_ON = 6


def _left(parts: np.ndarray, own_s: np.ndarray) -> np.ndarray:
    """What a rank spends beside its work and its data, where its own time tells of more than those."""
    return np.asarray(own_s - np.nan_to_num(parts[WORK]) - np.nan_to_num(parts[DATA]))


# Part -> its seconds, from the parts of a step and each rank's own time.
PARTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "transfer": lambda parts, own_s: parts[TRANSFER],
    "data": lambda parts, own_s: parts[DATA],
    "host": _left,
}


class SideMemory(msgspec.Struct):
    """A `Side` as it is kept."""

    watch: Memory
    before: bytes
    due: int


class Side:
    """One part of the step of a job's ranks."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._before = np.zeros(0, dtype=bool)
        self._due = 0

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
        if len(long) == len(self._before) and bool((long & self._before).any()):
            self._due = _GOES_ON
        self._before = long
        if self._due == 0 and not claimed:
            return
        self._due = max(0, self._due - 1)
        self.watch.judge(seconds, peers, usual_s=usual_s, began=began, claimed=claimed)
        if self._due == 0:
            self.watch.rest()

    def memory(self) -> SideMemory:
        return SideMemory(self.watch.memory(), self._before.astype(np.uint8).tobytes(), self._due)

    def remember(self, kept: SideMemory) -> None:
        self.watch.remember(kept.watch)
        self._before = np.frombuffer(kept.before, dtype=np.uint8).astype(bool)
        self._due = kept.due

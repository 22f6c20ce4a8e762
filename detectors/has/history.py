"""Health with memory: what a device or node has said before decides what its next error asks for.

A device that shows the same fault after two reboots is not mended by a third; an error that is harmless once is not when
it comes back all day, or for one job after another. The rows are data (`bursts.toml`).
"""

import tomllib
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Literal, TypeVar

import msgspec

from holdfast.faults import Action, Fault, NodeAction, Severity

MOST_PLACES = 65_536
_MOST_TIMES = 512
_MERGED_S = 1.0
_T = TypeVar("_T")


class Burst(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row: `most` of `counted` of a check within `within_s` become something else.

    check: a name, with * and ?; counted: messages, claims (each time it came anew), jobs (different ones) or boots
    """

    check: str
    counted: Literal["messages", "claims", "jobs", "boots"]
    most: int
    within_s: float
    fault: Fault | None = None
    severity: Severity
    action: Action
    node_action: NodeAction
    why: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    burst: tuple[Burst, ...]


class Past(msgspec.Struct):
    """One check of one place. said: times and counts, Unix seconds, merged by the second; boots: the node's boots it was seen in."""

    said: list[tuple[float, int]] = []
    claims: list[float] = []
    jobs: list[tuple[float, str]] = []
    boots: list[tuple[float, int]] = []


@cache
def bursts() -> tuple[Burst, ...]:
    """The rows that come with the package."""
    text = (resources.files("detectors.has") / "bursts.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _File).burst


class History:
    """What every place has said; bounded: of too many places those that were silent longest are forgotten.

    reboots: a fault that a reset or reboot should mend, seen again after so many, is a person's matter
    places: so many devices and checks are remembered
    """

    def __init__(self, *, reboots: int = 2, places: int = MOST_PLACES) -> None:
        self.reboots, self.places = reboots, places
        self._past: dict[str, Past] = {}
        self._boots: dict[str, int] = {}

    def on_boot(self, node: str) -> None:
        """The node has been booted, or one of its devices was reset."""
        self._boots[node] = self._boots.pop(node, 0) + 1
        while len(self._boots) > self.places:
            del self._boots[next(iter(self._boots))]

    def on_said(self, place: str, check: str, node: str, *, at: float, count: int, job: str, is_new: bool) -> Past:
        """Note that a check was said; place: device or node, its node's name in it; is_new: it is claimed with this."""
        key = f"{place} {check}"
        past = self._past.pop(key, None) or Past()
        self._past[key] = past
        while len(self._past) > self.places:
            del self._past[next(iter(self._past))]
        if past.said and at - past.said[-1][0] < _MERGED_S:
            past.said[-1] = (past.said[-1][0], past.said[-1][1] + count)
        else:
            past.said = _kept(past.said, (at, count))
        if is_new:
            past.claims = _kept(past.claims, at)
        if job and all(job != known for _, known in past.jobs):
            past.jobs = _kept(past.jobs, (at, job))
        boot = self._boots.get(node, 0)
        if all(boot != known for _, known in past.boots):
            past.boots = _kept(past.boots, (at, boot))
        return past

    def outgrown(self, past: Past, check: str, node_action: NodeAction, *, at: float) -> Burst | None:
        """What the past makes of an error of this check, None if it stays what it is."""
        if node_action in (NodeAction.RESET_DEVICE, NodeAction.REBOOT) and len(past.boots) > self.reboots:
            why = f"again after {len(past.boots) - 1} reboots or resets: another one will not mend it"
            return Burst(
                check=check, counted="boots", most=self.reboots + 1, within_s=0.0, severity=Severity.FATAL, action=Action.REPLACE,
                node_action=NodeAction.INSPECT, why=why,
            )  # fmt: skip
        for row in bursts():
            if fnmatchcase(check, row.check) and _counted(past, row, at) >= row.most:
                return row
        return None

    def memory(self) -> tuple[dict[str, Past], dict[str, int]]:
        """What is remembered, to be kept elsewhere."""
        return self._past, self._boots

    def recall(self, memory: tuple[dict[str, Past], dict[str, int]]) -> None:
        """Go on from what was kept."""
        self._past, self._boots = memory


def _kept(known: list[_T], new: _T) -> list[_T]:
    return [*known[1 - _MOST_TIMES :], new]


def _counted(past: Past, row: Burst, at: float) -> int:
    since = at - row.within_s
    if row.counted == "messages":
        return sum(count for when, count in past.said if when >= since)
    if row.counted == "claims":
        return sum(when >= since for when in past.claims)
    return sum(when >= since for when, _ in (past.jobs if row.counted == "jobs" else past.boots))

"""Which nodes do the same work: the job on each and its part of it, by what whoever started the job told."""

from collections.abc import Mapping

import msgspec

from detectors.traceslow.peers import told_roles
from holdfast.events import Change
from holdfast.verdict import Json

MOST_JOBS = 4096
_MOST_NODES = 65_536
_MOST_RANKS = 131_072
# A job in one of these states is not compared: nothing is expected of it.
_OVER = frozenset({"failed", "stopped", "finished", "suspended"})


class JobPlaces(msgspec.Struct):
    """One job. roles: node -> what its ranks do ("" where that is not told); since: its last change; over: it does nothing"""

    roles: dict[str, str] = {}
    since: float = 0.0
    over: bool = False


class Places(msgspec.Struct):
    """All jobs by name, those that changed longest ago forgotten first. nodes: the job of each node that was told; version: of all this"""

    jobs: dict[str, JobPlaces] = {}
    nodes: dict[str, str] = {}
    version: int = 0

    def on_job(self, job: str, change: Change) -> JobPlaces:
        """Note a job's new state."""
        before = self.jobs.pop(job, None) or JobPlaces()
        roles = roles_of(change.detail) or before.roles
        self._place(job, before, {} if change.state in _OVER else roles)
        self.version += 1
        self.jobs[job] = after = JobPlaces(roles, change.at, change.state in _OVER)
        while len(self.jobs) > MOST_JOBS:
            gone = next(iter(self.jobs))
            self._place(gone, self.jobs.pop(gone), {})
        return after

    def _place(self, job: str, before: JobPlaces, roles: Mapping[str, str]) -> None:
        for node in before.roles:
            if self.nodes.get(node) == job:
                del self.nodes[node]
        for node in roles:
            if len(self.nodes) < _MOST_NODES:
                self.nodes[node] = job

    def job_of(self, node: str, read: str) -> str:
        """The job on a node. read: which one its telemetry came with, "" none"""
        return self.nodes.get(node) or read

    def role(self, job: str, node: str) -> str:
        """What a node does in a job."""
        known = self.jobs.get(job)
        return known.roles.get(node, "") if known is not None else ""

    def unsettled(self, before: float) -> frozenset[str]:
        """Jobs that are over, or have changed since."""
        return frozenset(job for job, known in self.jobs.items() if known.over or known.since > before)


def roles_of(facts: Mapping[str, Json]) -> dict[str, str]:
    """Node -> which roles its ranks have, from `ranks` (node -> [first, last]), `world_size` and `layout`; {}: not told."""
    ranges = facts.get("ranks")
    if not isinstance(ranges, Mapping):
        return {}
    spans = {str(node): span for node, told in list(ranges.items())[:_MOST_NODES] if (span := _span(told)) is not None}
    world = facts.get("world_size")
    roles = told_roles(facts, world) if isinstance(world, int) and 0 < world <= _MOST_RANKS else None
    found = {}
    for node, span in spans.items():
        own = sorted(set(roles[span[0] : span[1] + 1].tolist())) if roles is not None else []
        found[node] = ",".join(map(str, own))
    return found


def _span(told: object) -> tuple[int, int] | None:
    if not isinstance(told, list | tuple) or len(told) != 2:
        return None
    first, last = told
    is_span = isinstance(first, int) and isinstance(last, int) and 0 <= first <= last < _MOST_RANKS
    return (first, last) if is_span else None

"""Claims about switches: ports of one rail that lose their link, or begin to damage packets, on several nodes at once.

In a rail-optimised fabric port `k` of all nodes of a pod ends at one leaf switch (NVIDIA DGX SuperPOD reference architecture, H100,
network fabrics). Ports of one name that fail together on several machines are therefore one switch, and no port is to be replaced.
Where all ports of some nodes fail together it is what those nodes share: a switch of their rack, its power, a roll-out.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec
import numpy as np

from holdfast.events import Changes, Claims, Finding, Observation, Samples
from holdfast.faults import Action, Fault, NodeAction, Perception, Severity
from holdfast.topology import JobId, Kind, Target
from holdfast.verdict import Culprit, Evidence

MOST_PORTS, MOST_SOURCES = 65_536, 16_384
DOWN, ERRORS = "down", "errors"

# What a port counts of its own link. Losses further away (sequence errors, timeouts) are left out: a peer's bad port makes them too.
_COUNTERS = ("nic.rx_errors_total", "nic.symbol_errors_total", "nic.integrity_errors_total")
# A gap between two pages after which a growth says nothing of when it began.
_FRESH_S = 120.0
_NAMED = 8
_TEXTS = {DOWN: "have lost their link", ERRORS: "have begun to receive damaged packets"}


class Trouble(msgspec.Struct):
    """One port in trouble. since: when it was first seen so; seen_at: when last; job: whose node it is, "" nobody's"""

    target: Target
    job: str
    since: float
    seen_at: float


class Counted(msgspec.Struct):
    """What one source read last. errors: of each target, so far; quiet: whether they stood still; both as bytes"""

    at: float
    targets: tuple[Target, ...]
    errors: bytes
    quiet: bytes


class Standing(msgspec.Struct):
    """A claim that was said. what: `DOWN` or `ERRORS`; rails: names of ports"""

    what: str
    rails: tuple[str, ...]
    claim: Finding


class _Memory(msgspec.Struct):
    said: int
    troubles: dict[str, dict[str, Trouble]]
    counted: dict[str, Counted]
    standing: list[Standing]


class Fabric:
    """Reads ports of all nodes, from pages and from what the agents of nodes claim.

    nodes: so many of one rail make a switch; window_s: they begin within so long of each other
    errors_per_s: damaged packets and symbols a second beyond which a port is in trouble
    quiet_s: errors that were not seen for so long are over
    """

    consumes = (Samples, Claims, Changes)
    warmup_s, warmup_steps = 60.0, 0

    def __init__(self, *, nodes: int = 3, window_s: float = 60.0, errors_per_s: float = 2.0, quiet_s: float = 120.0) -> None:
        self.nodes, self.window_s, self.errors_per_s, self.quiet_s = nodes, window_s, errors_per_s, quiet_s
        self._troubles: dict[str, dict[str, Trouble]] = {DOWN: {}, ERRORS: {}}
        self._counted: dict[str, Counted] = {}
        self._standing: list[Standing] = []
        self._said = 0

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Samples):
            changed = self._on_samples(seen)
        elif isinstance(seen, Claims):
            changed = self._on_claims(seen)
        elif isinstance(seen, Changes):
            changed = self._forget({c.target.id for c in seen.changes if c.target.kind is Kind.NODE and c.state in ("ready", "deleted")})
        else:
            return
        for what in sorted(changed):
            yield from self._judge(what, seen.at)

    def tick(self, now: float) -> Iterator[Finding]:
        troubles = self._troubles[ERRORS]
        over = [key for key, one in troubles.items() if now - one.seen_at > self.quiet_s]
        for key in over:
            del troubles[key]
        if over:
            yield from self._judge(ERRORS, now)

    # --- ports in trouble

    def _on_samples(self, seen: Samples) -> set[str]:
        changed = set[str]()
        if "nic.up" in seen.signals:
            up = seen.values[:, seen.signals.index("nic.up")]
            changed |= self._on_links(seen, up)
        counters = [seen.signals.index(name) for name in _COUNTERS if name in seen.signals]
        if counters and seen.targets:
            changed |= self._on_errors(seen, seen.values[:, counters].sum(axis=1))
        return changed

    def _on_links(self, seen: Samples, up: np.ndarray) -> set[str]:
        down, troubles, changed = np.flatnonzero(up == 0.0).tolist(), self._troubles[DOWN], set[str]()
        for n in down:
            if self._note(DOWN, seen.targets[n], seen.job, seen.at):
                changed.add(DOWN)
        if troubles:
            for n in np.flatnonzero(up > 0.0).tolist():
                if troubles.pop(_key(seen.targets[n]), None) is not None:
                    changed.add(DOWN)
        return changed

    def _on_errors(self, seen: Samples, errors: np.ndarray) -> set[str]:
        key = f"{seen.source} {seen.node} {seen.targets[0].kind}"
        before = self._counted.pop(key, None)
        quiet, changed = np.zeros(len(errors), dtype=bool), set[str]()
        if before is not None and before.targets == seen.targets and 0.0 < seen.at - before.at <= _FRESH_S:
            per_s = (errors - np.frombuffer(before.errors)) / (seen.at - before.at)
            growing, quiet = per_s > self.errors_per_s, per_s <= self.errors_per_s
            was_quiet = np.frombuffer(before.quiet, dtype=bool)
            for n in np.flatnonzero(growing).tolist():
                # of what was noisy from the first page on nobody knows when it began
                known = _key(seen.targets[n]) in self._troubles[ERRORS]
                if (known or was_quiet[n]) and self._note(ERRORS, seen.targets[n], seen.job, seen.at):
                    changed.add(ERRORS)
        while len(self._counted) >= MOST_SOURCES:
            del self._counted[next(iter(self._counted))]
        self._counted[key] = Counted(seen.at, seen.targets, errors.tobytes(), quiet.tobytes())
        return changed

    def _on_claims(self, seen: Claims) -> set[str]:
        changed, troubles = False, self._troubles[DOWN]
        links = [one for one in seen.findings if one.check == "nic.down" and one.target.kind is Kind.NIC]
        down = {_key(one.target) for one in links if not one.cleared}
        over = [_key(one.target) for one in links if one.cleared]
        if seen.whole:  # what its agent does not claim any more is over
            over += [key for key, one in troubles.items() if one.target.node == seen.node and key not in down]
        for key in over:
            changed |= troubles.pop(key, None) is not None
        for finding in links:
            changed |= not finding.cleared and self._note(DOWN, finding.target, finding.job or seen.job, finding.at)
        return {DOWN} if changed else set()

    def _note(self, what: str, target: Target, job: str, at: float) -> bool:
        """Keep a port that is in trouble; returns whether that is news."""
        troubles, key = self._troubles[what], _key(target)
        if (one := troubles.get(key)) is not None:
            one.seen_at, one.job = at, job
            return False
        while len(troubles) >= MOST_PORTS:
            del troubles[next(iter(troubles))]
        troubles[key] = Trouble(target=target, job=job, since=at, seen_at=at)
        return True

    def _forget(self, nodes: set[str]) -> set[str]:
        changed = set[str]()
        for what, troubles in self._troubles.items() if nodes else ():
            for key in [key for key, one in troubles.items() if one.target.node in nodes]:
                del troubles[key]
                changed.add(what)
        return changed

    # --- what they have in common

    def _judge(self, what: str, at: float) -> Iterator[Finding]:
        """Claim what is new, withdraw what no longer holds. A claim stands while more than one of its ports is in trouble."""
        rails: dict[str, list[Trouble]] = {}
        for one in self._troubles[what].values():
            rails.setdefault(one.target.id, []).append(one)
        switches = {rail: found for rail, ports in rails.items() if (found := self._together(ports))}
        for named, ports in _places(switches):
            for job in sorted({one.job for one in ports}):
                known = {rail for one in self._standing if one.what == what and one.claim.job == job for rail in one.rails}
                if known.isdisjoint(named) and (job or not any(one.job for one in ports)):
                    self._said += 1
                    finding = _finding(what, named, job, ports, at, id=f"fabric/{self._said}")
                    self._standing.append(Standing(what, named, finding))
                    yield finding
        for stood in [one for one in self._standing if one.what == what]:
            if len({port.target.node for rail in stood.rails for port in rails.get(rail, ())}) <= 1:
                self._standing.remove(stood)
                yield msgspec.structs.replace(stood.claim, at=at, cleared=True, evidence=())

    def _together(self, ports: list[Trouble]) -> list[Trouble]:
        """The largest number of them that began within the window, if they are of enough nodes."""
        ports = sorted(ports, key=lambda one: (one.since, one.target))
        best: list[Trouble] = []
        first = 0
        for last, one in enumerate(ports):
            while one.since - ports[first].since > self.window_s:
                first += 1
            if last - first + 1 > len(best):
                best = ports[first : last + 1]
        return best if len({one.target.node for one in best}) >= self.nodes else []

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(_Memory(self._said, self._troubles, self._counted, self._standing))

    def restore(self, memory: bytes) -> None:
        kept = msgspec.msgpack.decode(memory, type=_Memory)
        self._said, self._troubles, self._counted, self._standing = kept.said, kept.troubles, kept.counted, kept.standing


def _places(switches: Mapping[str, list[Trouble]]) -> list[tuple[tuple[str, ...], list[Trouble]]]:
    """(rails, their ports) of each place: rails that share most of their nodes are one, the others each their own."""
    found: list[tuple[list[str], list[Trouble]]] = []
    for rail, ports in sorted(switches.items()):
        nodes = _nodes(ports)
        for rails, others in found:
            if 2 * len(nodes & _nodes(others)) > len(nodes | _nodes(others)):
                rails.append(rail)
                others.extend(ports)
                break
        else:
            found.append(([rail], list(ports)))
    return [(tuple(rails), ports) for rails, ports in found]


def _nodes(ports: Iterable[Trouble]) -> set[str]:
    return {one.target.node for one in ports}


def _key(target: Target) -> str:
    return f"{target.node} {target.id}"


def _finding(what: str, rails: tuple[str, ...], job: str, ports: list[Trouble], at: float, *, id: str) -> Finding:
    nodes = sorted(_nodes(ports))
    listed = ", ".join(nodes[:_NAMED]) + (f" and {len(nodes) - _NAMED} more" if len(nodes) > _NAMED else "")
    within_s = max(one.since for one in ports) - min(one.since for one in ports)
    shared = "the switch they are plugged into" if len(rails) == 1 else "what they share: a switch of their rack, its power, a roll-out"
    text = f"port {', '.join(rails[:_NAMED])} of {len(nodes)} nodes {_TEXTS[what]} within {within_s:.0f} s ({listed}): {shared}"
    name, cause, sure = f"switch of {rails[0]}" if len(rails) == 1 else f"switch of {len(rails)} rails", f"switch_{what}", 0.9
    culprit = Culprit(kind=Kind.LINK, id=name, cause=cause, confidence=sure, evidence=(text,))
    return Finding(
        at=at, id=id, job=JobId(job), target=Target(Kind.LINK, name, job=job), perception=Perception.NODE_FAULT, fault=Fault.FABRIC,
        check=f"fabric.{cause}", cause=cause, severity=Severity.ERROR if job else Severity.WARNING, confidence=sure, culprits=(culprit,),
        action=Action.WATCH if what == ERRORS else Action.RESUBMIT, node_action=NodeAction.NONE,
        evidence=(Evidence("nodes", 0, text),),
    )  # fmt: skip

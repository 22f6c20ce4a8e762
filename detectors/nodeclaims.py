"""Takes over what the agents of nodes claim: what they found themselves is said here once, until they say that it is over."""

from collections.abc import Iterator

import msgspec

from holdfast.events import Changes, Claims, Finding, Observation
from holdfast.topology import Kind

MOST_NODES, MOST_CLAIMS = 65_536, 256


class NodeClaims:
    """Reads `Claims`. A node that is back in service, or an agent that says all its claims, withdraws what is not among them."""

    consumes = (Claims, Changes)

    def __init__(self) -> None:
        self._claims: dict[str, dict[str, Finding]] = {}
        self._said = 0

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Claims):
            yield from self._on_claims(seen)
        elif isinstance(seen, Changes):
            for change in seen.changes:
                if change.target.kind is Kind.NODE and change.state == "ready":
                    for claim in self._claims.pop(change.target.id, {}).values():
                        yield msgspec.structs.replace(claim, at=change.at, cleared=True, evidence=())

    def tick(self, now: float) -> Iterator[Finding]:
        return iter(())

    def _on_claims(self, seen: Claims) -> Iterator[Finding]:
        standing = self._claims.setdefault(seen.node, {})
        while len(self._claims) > MOST_NODES:
            del self._claims[next(iter(self._claims))]
        told = set[str]()
        for finding in seen.findings:
            key = f"{finding.check} {finding.target}"
            told.add(key)
            if finding.cleared:
                if key in standing:
                    yield msgspec.structs.replace(standing.pop(key), at=finding.at, cleared=True, evidence=())
            elif key not in standing and len(standing) < MOST_CLAIMS:
                self._said += 1
                job = finding.job or seen.job
                standing[key] = msgspec.structs.replace(finding, id=f"agent/{seen.node}/{self._said}", job=job)
                yield standing[key]
        for key in [key for key in standing if key not in told] if seen.whole else ():
            yield msgspec.structs.replace(standing.pop(key), at=seen.at, cleared=True, evidence=())
        if not standing:
            self._claims.pop(seen.node, None)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self._said, self._claims))

    def restore(self, memory: bytes) -> None:
        self._said, self._claims = msgspec.msgpack.decode(memory, type=tuple[int, dict[str, dict[str, Finding]]])

"""The agents of the simulated nodes: numbered batches of JSON as docs/agent-protocol.md has them, sent again when in doubt."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import msgspec

from simulator.nodes import Node

TELL_S = 2.0
IDLE_TELL_S = 10.0
# What says how something ended goes at once and in a batch of its own.
_VITAL = frozenset({"job", "process", "dump"})
_MOST_RECORDS = 500
_MOST_DUMP_BYTES = 8 << 20

Record = dict[str, Any]


@dataclass
class Agent:
    """One node's agent.

    pending: (job, attempt, record) not yet in a batch; spool: batches not yet acknowledged; last: the one sent last
    """

    node: Node
    boot: str = ""
    sequence: int = 0
    pending: list[tuple[str, int, Record]] = field(default_factory=list)
    spool: list[bytes] = field(default_factory=list)
    last: bytes = b""
    told_at: float = float("-inf")
    away: bool = False

    def begin(self, seed: int) -> None:
        """Start with the node: a word and numbers of its own for each boot, nothing left in the spool."""
        word = f"{seed}/{self.node.id}/{self.node.booted_at:.0f}"
        self.boot = hashlib.blake2b(word.encode(), digest_size=6).hexdigest()
        self.sequence, self.last = 0, b""
        self.pending.clear()
        self.spool.clear()

    def news(self) -> bool:
        return any(record["type"] in _VITAL for _, _, record in self.pending)

    def tell(self, now: float) -> None:
        """Make batches of what is pending, an empty one if nothing is: what is vital first and apart."""
        told, self.pending = self.pending or [(self.node.job, self.node.attempt, {})], []
        for (job, attempt), group in groupby(told, key=lambda one: one[:2]):
            records = [record for _, _, record in group if record]
            vital = [record for record in records if record["type"] in _VITAL]
            rest = [record for record in records if record["type"] not in _VITAL]
            for part in (*_parts(vital), *((rest,) if rest or not vital else ())):
                self.sequence += 1
                batch = {
                    "agent": self.node.id, "boot": self.boot, "sequence": self.sequence, "job": job, "node": self.node.id,
                    "attempt": attempt, "sent_at": now, "dropped": 0, "records": part,
                }  # fmt: skip
                self.spool.append(msgspec.json.encode(batch))

    def send(self) -> Iterator[bytes]:
        """What reaches the service. After an outage the batch whose answer was lost comes once more."""
        if self.node.silent:
            self.away = True
            return
        if self.away and self.last:
            yield self.last
        self.away = False
        yield from self.spool
        self.last = self.spool[-1] if self.spool else self.last
        self.spool.clear()


class Agents:
    """The agents of all nodes by the node's name, and what they have sent that nobody has fetched yet."""

    def __init__(self, nodes: dict[str, Node], seed: int) -> None:
        self._seed = seed
        self._agents = {id: Agent(node) for id, node in nodes.items()}
        for agent in self._agents.values():
            agent.begin(seed)
        self._sent: list[bytes] = []

    def say(self, node: Node, *records: Record) -> None:
        """Have a node's agent tell something."""
        if not node.dead:
            self._agents[node.id].pending += [(node.job, node.attempt, record) for record in records]

    def boot(self, node: Node) -> None:
        """The node has started anew, and its agent with it."""
        self._agents[node.id].begin(self._seed)

    def due(self, node: Node, now: float) -> bool:
        """Whether it is time for a node's agent to tell how things stand."""
        every_s = TELL_S if node.job else IDLE_TELL_S
        return not node.dead and now - self._agents[node.id].told_at >= every_s

    def advance(self, now: float) -> None:
        """Send what is due, and news at once."""
        for agent in self._agents.values():
            if agent.node.dead:
                continue
            if self.due(agent.node, now):
                agent.told_at = now
                agent.tell(now)
            elif agent.pending and agent.news():
                agent.tell(now)
            self._sent.extend(agent.send())

    def fetch(self) -> list[bytes]:
        """What was sent since the last time, in its order."""
        sent, self._sent = self._sent, []
        return sent


def dump_record(order: str, rank: int | None, name: str, data: bytes, error: str, at: float) -> Record:
    """A piece of evidence as a record: a recorder's dump is bytes, everything else is text."""
    record: Record = {"type": "dump", "at": at, "order": order, "rank": rank, "name": name, "error": error, "complete": False}
    if name.startswith("fr_"):
        return {**record, "encoding": "base64", "data": base64.b64encode(data).decode()}
    return {**record, "encoding": "utf8", "data": data.decode("utf-8", "replace")}


def _parts(records: list[Record]) -> Iterator[list[Record]]:
    """Portions that the service takes: so many records, and so many bytes of dumps."""
    part: list[Record] = []
    size = 0
    for record in records:
        weight = len(record.get("data", "")) + 1000
        if part and (len(part) >= _MOST_RECORDS or size + weight > _MOST_DUMP_BYTES):
            yield part
            part, size = [], 0
        part.append(record)
        size += weight
    if part:
        yield part

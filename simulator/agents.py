"""The agents of the simulated nodes: numbered batches of JSON as docs/agent-protocol.md has them, sent again when in doubt."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import msgspec

from holdfast.events import Received
from holdfast.topology import JobId, NodeId
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
    away: bool = False
    crashes: int = 0

    def begin(self, seed: int) -> None:
        """Start with the node: a word and numbers of its own for each boot, nothing left in the spool."""
        word = f"{seed}/{self.node.id}/{self.node.booted_at:.0f}/{self.crashes}"
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
        self._waiting: dict[int, Agent] = {}  # by the node's number: those with something to say or to send
        self._late: list[tuple[float, bytes]] = []
        self._sent: list[bytes] = []

    def say(self, node: Node, *records: Record) -> None:
        """Have a node's agent tell something."""
        if node.dead:
            return
        agent = self._agents[node.id]
        self._waiting[node.index] = agent
        told = (_by_its_clock(record, node.skew_s) for record in records) if node.skew_s else records
        agent.pending += [(node.job, node.attempt, record) for record in told]

    def tell(self, node: Node, now: float) -> None:
        """It is time for a node's agent to say how things stand: a batch, be it empty."""
        if not node.dead:
            agent = self._agents[node.id]
            self._waiting[node.index] = agent
            agent.tell(now + node.skew_s)

    def number(self, node: Node, now: float) -> Received | None:
        """A batch that needs no text: only its number is heard, and what it holds comes as columns. None: nothing can be heard."""
        if node.dead:
            return None
        agent = self._agents[node.id]
        agent.sequence += 1
        return Received(
            at=now, source=f"agent:{node.id}", job=JobId(node.job), node=NodeId(node.id), agent=node.id, boot=agent.boot,
            sequence=agent.sequence, attempt=node.attempt,
        )  # fmt: skip

    def boot(self, node: Node) -> None:
        """The node has started anew, and its agent with it."""
        self._agents[node.id].begin(self._seed)

    def away(self, node: Node) -> bool:
        """Whether a node's agent has batches that could not be sent yet."""
        agent = self._agents[node.id]
        return agent.away or bool(agent.spool)

    def crash(self, node: Node) -> None:
        """A node's agent dies and is started again: what it had not sent is lost, its numbers begin anew."""
        agent = self._agents[node.id]
        agent.crashes += 1
        agent.begin(self._seed)

    def advance(self, now: float) -> None:
        """Send what is due, and news at once."""
        for index in sorted(self._waiting):
            agent = self._waiting[index]
            if agent.node.dead:
                del self._waiting[index]
                continue
            if agent.pending and agent.news():
                agent.tell(now + agent.node.skew_s)
            self._deliver(agent, now)
            if not agent.pending and not agent.spool and not agent.away:
                del self._waiting[index]
        if self._late:
            self._sent.extend(body for due, body in self._late if due <= now)
            self._late = [(due, body) for due, body in self._late if due > now]

    def _deliver(self, agent: Agent, now: float) -> None:
        if agent.node.lag_s > 0.0:
            self._late.extend((now + agent.node.lag_s, body) for body in agent.send())
        else:
            self._sent.extend(agent.send())

    def fetch(self) -> list[bytes]:
        """What was sent since the last time, in its order."""
        sent, self._sent = self._sent, []
        return sent


_MOMENTS = ("at", "since", "begun_at")


def _by_its_clock(record: Record, skew_s: float) -> Record:
    """A record as an agent writes it whose clock is ahead by so much."""
    told = {key: value + skew_s if key in _MOMENTS and value else value for key, value in record.items()}
    if "ended_at" in told:
        told["ended_at"] = [at + skew_s for at in told["ended_at"]]
    if record["type"] == "beat":
        ahead = ("stepped_at", "phase_at")
        told["ranks"] = [{k: v + skew_s if k in ahead and v else v for k, v in rank.items()} for rank in record["ranks"]]
    return told


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

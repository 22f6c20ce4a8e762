"""The simulated cluster: its nodes, what speaks for them, and everything written that nobody has fetched yet."""

from dataclasses import dataclass

from holdfast.events import Observation
from simulator.agents import Agents
from simulator.chance import stream
from simulator.fabric import Fabric
from simulator.nodes import IDLE_BYTES_PER_S, Node, make_node
from simulator.scheduler import Scheduler


@dataclass(frozen=True, kw_only=True)
class Writing:
    """In which form the streams are written.

    text_share: share of the nodes whose steps, beats and pages go through the real text formats and their parsers; what is
        rare (kernel messages, logs, states, dumps) always does. The others' streams are columns from the beginning.
    """

    text_share: float = 1.0


class Cluster:
    """Nodes by name.

    agents: batches over the agents' protocol; scheduler: watch events; `kernel` and `write` fill the kernel logs and log files
    now, start: simulated Unix seconds
    """

    def __init__(self, nodes: int, *, seed: int, start: float, fabric: Fabric | None = None, writing: Writing | None = None) -> None:
        self.seed, self.now, self.start = seed, start, start
        self.fabric, self.writing = fabric or Fabric(), writing or Writing()
        self.nodes = {node.id: node for node in (make_node(n, seed) for n in range(nodes))}
        for node in self.nodes.values():
            self.fabric.stand(node)
            node.booted_at = start - 86_400.0 * (1 + stream(seed, "boot", node.id).random() * 30)
            node.sent = (0.0, start, IDLE_BYTES_PER_S)
        self.agents = Agents(self.nodes, seed)
        self.scheduler = Scheduler(seed)
        for node in self.nodes.values():
            self.scheduler.add_node(node, start)
        self.columns: list[Observation] = []
        self._kernel: list[tuple[str, bytes, str]] = []
        self._logs: list[tuple[str, bytes, str, str]] = []

    def in_text(self, node: Node) -> bool:
        """Whether a node's streams are written as text: it is one of the share, or its telemetry is in trouble."""
        share = self.writing.text_share
        return share >= 1.0 or node.silent or node.lag_s > 0.0 or node.skew_s != 0.0 or node.key / 2.0**64 < share or self.agents.away(node)

    def kernel(self, node: Node, *messages: str, level: int = 3, device: str = "") -> None:
        """Kernel messages as /dev/kmsg gives them, one record each. device: PCI address that a driver's message is tied to."""
        if node.dead:
            return
        for n, message in enumerate(messages):
            uptime_us = int((self.now - node.booted_at) * 1e6) + n
            tied = f" SUBSYSTEM=pci\n DEVICE=+pci:{device}\n" if device else ""
            record = f"{level},{node.logged},{uptime_us},-;{message}\n{tied}"
            self._kernel.append((node.id, record.encode(), node.job))
            node.logged += 1

    def write(self, file: str, *lines: str, node: Node) -> None:
        """Append lines to a log file of the job on a node."""
        self._logs.append((file, "".join(f"{line}\n" for line in lines).encode(), node.id, node.job))

    def mend(self, node: Node) -> None:
        """Repair a node: it comes back booted anew, with nothing wrong."""
        node.renew(self.now)
        self.agents.boot(node)
        self.kernel(node, "Linux version 6.8.0-60-generic (build@host) #63-Ubuntu SMP", level=5)
        self.scheduler.take_back(node, self.now)

    def fetch_columns(self) -> list[Observation]:
        """Streams written as columns since the last time."""
        written, self.columns = self.columns, []
        return written

    def fetch_kernel(self, now: float) -> list[tuple[str, bytes, str]]:
        """(node, record, job) written to kernel logs since the last time."""
        written, self._kernel = self._kernel, []
        return written

    def fetch_logs(self, now: float) -> list[tuple[str, bytes, str, str]]:
        """(file, bytes, node, job) appended to log files since the last time."""
        written, self._logs = self._logs, []
        return written

    def fetch_watch(self, now: float) -> list[bytes]:
        """Watch events written since the last time."""
        return self.scheduler.fetch()

"""One look at all exporters: pages of the nodes whose streams are written as text, columns of the others."""

from collections.abc import Iterator
from typing import NamedTuple

from simulator.loads import loads_of
from simulator.nodes import Node
from simulator.pages import device_page, node_page
from simulator.readings import Readings, Table
from simulator.serving import Service
from simulator.training import TrainingJob
from simulator.world import World

SWEEP_S = 15.0


class Page(NamedTuple):
    """An exporter's page. source: "dcgm:<node>", "node:<node>" or "engine:<instance>"; text: None: it cannot be read."""

    source: str
    text: str | None
    node: str
    job: str


class Columns(NamedTuple):
    """The readings of many nodes of one job (or of none) that were not written as pages."""

    source: str
    table: Table
    job: str
    at: float


class Sweep:
    """Scrapes what is watched, every `SWEEP_S` seconds of simulated time."""

    def __init__(self, world: World) -> None:
        self._world, self._readings = world, Readings()

    def now(self) -> tuple[list[Page], list[Columns]]:
        """What there is to read at this moment, nothing between two turns."""
        cluster = self._world.cluster
        past_s = cluster.now - cluster.start
        if past_s % SWEEP_S >= 0.5 or not self._world.watched:
            return [], []
        groups: dict[str, list[Node]] = {}
        for node in cluster.nodes.values():
            owner = self._owner(node)
            if not node.dead and (owner is None or self._world.is_watched(owner)):
                groups.setdefault(node.job, []).append(node)
        pages: list[Page] = []
        columns: list[Columns] = []
        for job, nodes in groups.items():
            plain = [node for node in nodes if not self._is_text(node)]
            pages += [page for node in nodes if self._is_text(node) for page in self._pages(node, moment=round(past_s))]
            columns += self._columns(job, plain, moment=round(past_s)) if plain else []
        for service in self._world.services.values():
            if self._world.is_watched(service):
                alive = [engine for engine in service.engines if not engine.node.dead]
                pages += [Page(f"engine:{e.name}", service.page(e) or None, e.node.id, service.name) for e in alive]
        return pages, columns

    def _is_text(self, node: Node) -> bool:
        return self._world.cluster.in_text(node) or not node.scraped

    def _owner(self, node: Node) -> TrainingJob | Service | None:
        return self._world.jobs.get(node.job) or self._world.services.get(node.job)

    def _pages(self, node: Node, *, moment: int) -> Iterator[Page]:
        now, loads = self._world.cluster.now, loads_of([node], self._owner(node))
        if not node.scraped:
            yield from (Page(f"{name}:{node.id}", None, node.id, node.job) for name in ("dcgm", "node"))
            return
        yield Page(f"dcgm:{node.id}", device_page(self._readings.devices([node], loads, now=now, moment=moment), node), node.id, node.job)
        ports, host = self._readings.nics([node], now=now), self._readings.hosts([node], loads, now=now, moment=moment)
        yield Page(f"node:{node.id}", node_page(ports, host), node.id, node.job)

    def _columns(self, job: str, nodes: list[Node], *, moment: int) -> Iterator[Columns]:
        now, loads = self._world.cluster.now, loads_of(nodes, self._owner(nodes[0]))
        name = job or "idle"
        yield Columns(f"dcgm:{name}", self._readings.devices(nodes, loads, now=now, moment=moment), job, now)
        yield Columns(f"node:{name}", self._readings.nics(nodes, now=now), job, now)
        yield Columns(f"node:{name}", self._readings.hosts(nodes, loads, now=now, moment=moment), job, now)

"""A simulated inference service in the world: its instances on nodes, its router, and what they show of themselves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar, overload

import msgspec
import numpy as np

from simulator.cluster import Cluster
from simulator.inference import sglang, vllm
from simulator.inference.arrivals import Counted, means
from simulator.inference.deployment import Deployment
from simulator.inference.engine import Engine as Stepped
from simulator.inference.expected import Expected, Lot
from simulator.inference.spec import ServiceSpec, check, deployment
from simulator.inference.view import SIGNALS, View, readings
from simulator.nodes import DEVICES, Node

_PAGES = {"vllm": vllm.page, "sglang": sglang.page}

Value = TypeVar("Value")


class Breakable(Generic[Value]):
    """An attribute of an instance that a story sets; the model of its engine feels it from this moment on."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, engine: None, owner: type) -> "Breakable[Value]": ...
    @overload
    def __get__(self, engine: "Engine", owner: type) -> Value: ...
    def __get__(self, engine: "Engine | None", owner: type) -> "Breakable[Value] | Value":
        if engine is None:
            return self
        value: Value = getattr(engine.core, self.name)
        return value

    def __set__(self, engine: "Engine", value: Value) -> None:
        engine.service.catch_up()
        setattr(engine.core, self.name, value)
        engine.service.balance()


@dataclass(eq=False)
class Engine:
    """One instance. core: the model of it, step by step or in closed form.

    stalled: requests run, no token comes and the page stands still; slow: times as long per step; leaked_blocks: KV blocks lost
    (exhaustion, then preemption storms); link: share of the fabric left for KV transfers (events only); dead: the process is gone and
    its page with it
    """

    name: str
    node: Node
    core: Stepped | Expected
    service: "Service"

    stalled = Breakable[bool]()
    slow = Breakable[float]()
    leaked_blocks = Breakable[int]()
    link = Breakable[float]()
    dead = Breakable[bool]()

    @property
    def state(self) -> str:
        """healthy, degraded, stalled or dead."""
        return self.core.state

    @property
    def view(self) -> View:
        """What it shows of itself now."""
        self.service.catch_up()
        return self.core.view(self.service.model)

    @property
    def running(self) -> int:
        return self.view.running

    @property
    def waiting(self) -> int:
        return self.view.waiting


@dataclass
class Service:
    """Engines of one model behind a router, one to a node. rate: requests per second and engine, where `spec` says nothing of a load.

    spec: what it is made of; None is vLLM with the model of the smallest shape, in closed form
    """

    name: str
    model: str
    cluster: Cluster
    rate: float = 6.0
    spec: ServiceSpec | None = None
    engines: list[Engine] = field(default_factory=list)
    restart_at: float = 0.0
    state: str = "pending"
    attempt: int = 0
    _run: Deployment | None = None
    _weights: tuple[float, ...] = ()

    # --- its life

    def place(self, nodes: list[Node]) -> None:
        """Take these nodes, an instance each; once it has as many, those whose node changes begin anew there.

        raises SpecError: so many instances cannot be this service; TraceError: its load's trace cannot be read
        """
        if len(nodes) == len(self.engines):
            self._move(nodes)
            return
        names = [f"{self.name}-{n}" for n in range(len(nodes))]
        self.engines = [Engine(name, node, core, self) for name, node, core in zip(names, nodes, self._cores(names), strict=True)]
        for engine in self.engines:
            self._occupy(engine)

    def advance(self, now: float) -> None:
        """Serve until `now`; whether once a second or once an hour changes nothing but the cost."""
        if self.state == "pending":
            self.state = "running"
            facts = {"devices": DEVICES * len(self.engines), "nodes": [e.node.id for e in self.engines], "model": self.model}
            record = {"type": "job", "at": now, "state": "started", "attempt": self.attempt, "pid": 19_000, "facts": facts}
            self.cluster.agents.say(self.engines[0].node, record)
            self.cluster.scheduler.run(self.name, now)
        if self.restart_at and now >= self.restart_at:
            self.restart_at = 0.0
            for engine in self.engines:
                self.restart(engine)
        self.catch_up()

    def restart(self, engine: Engine) -> None:
        """End the process of one instance and begin it anew: what it had is lost, its counters are 0, nothing is wrong with it."""
        self.catch_up()
        if self._run is not None and isinstance(engine.core, Stepped):
            self._run.restart(engine.core)
        elif isinstance(engine.core, Expected):
            engine.core.restart(self.cluster.now)
        self.balance()

    def catch_up(self) -> None:
        """Live every step up to now, where steps are lived; in closed form nothing is to be done until somebody looks."""
        if self._run is not None and self.cluster.now > self._run.now:
            self._run.run(self.cluster.now)

    # --- how requests are spread

    def route(self, weights: Sequence[float] = ()) -> None:
        """Give each front instance its relative share of the requests, in the order of `engines`; none is the usual way again."""
        self.catch_up()
        self._weights = tuple(weights)
        if self._run is not None:
            self._run.router.weights = self._weights
        self.balance()

    def balance(self) -> None:
        """Share out what comes among the instances that answer; an event model's router does so itself."""
        if self._run is not None:
            return
        for role in ("both", "prefill", "decode"):
            cores = [e.core for e in self.engines if isinstance(e.core, Expected) and e.core.role == role]
            weights = [(self._weights[n] if role != "decode" and n < len(self._weights) else 1.0) for n in range(len(cores))]
            whole = sum(weight for weight, core in zip(weights, cores, strict=True) if not core.dead)
            for weight, core in zip(weights, cores, strict=True):
                share = weight * len(cores) / whole if whole and not core.dead else 0.0
                if core.share != share:
                    core.share = share

    # --- what it shows

    def page(self, engine: Engine) -> str:
        """The engine's /metrics now; empty when its process is dead and nothing answers."""
        view = engine.view
        return "" if engine.dead else _PAGES[view.flavour](view, now=self.cluster.now)

    def readings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Signals and their values now, shape (engines that answer, signals), NaN where a page says nothing: as read from the pages."""
        rows = [readings(engine.view) for engine in self.engines if not engine.dead]
        return SIGNALS, np.array(rows).reshape(len(rows), len(SIGNALS))

    # --- making it

    def _spec(self, count: int) -> ServiceSpec:
        if self.spec is None:
            spec = ServiceSpec()
            self.spec = msgspec.structs.replace(spec, load=msgspec.structs.replace(spec.load, rate=self.rate * max(1, count)))
        return self.spec

    def _cores(self, names: list[str]) -> Sequence[Stepped | Expected]:
        spec, seed, begin = self._spec(len(names)), self.cluster.seed, self.cluster.now
        if spec.mode == "events":
            self._run = deployment(spec, names, seed=seed, name=self.name, begin=begin)
            return self._run.engines
        check(spec, len(names))
        roles = [spec.role(n) for n in range(len(names))]
        prompt, output = means(spec.load)
        return [
            Expected(name, Lot(
                cost=spec.cost(role), limits=spec.limits_of(role), role=role, flavour=spec.engine, prompt=prompt, output=output, seed=seed,
                came=Counted(spec.load, share=1.0 / roles.count(role), seed=seed, name=name, begin=begin), clock=self._now,
            ))
            for name, role in zip(names, roles, strict=True)
        ]  # fmt: skip

    def _now(self) -> float:
        return self.cluster.now

    def _move(self, nodes: list[Node]) -> None:
        for engine, node in zip(self.engines, nodes, strict=True):
            if engine.node is not node:
                engine.node.job = ""
                engine.node = node
                self.restart(engine)
                self._occupy(engine)

    def _occupy(self, engine: Engine) -> None:
        engine.node.job = self.name
        labels = {"app": self.name, "model": self.model}  # of no job: whoever watches workers passes it over
        self.cluster.scheduler.create(engine.name, self.name, engine.node, self.cluster.now, labels=labels)

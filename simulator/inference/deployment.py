"""Engines behind a router, and the client before it: what happens next, event after event.

Aggregated instances do everything. Disaggregated (Zhong et al., "DistServe", OSDI 2024; Qin et al., "Mooncake", FAST 2025): prefill
instances compute prompts, their KV crosses the fabric, decode instances make the tokens.
"""

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from simulator.inference.engine import Done, Engine
from simulator.inference.request import Request
from simulator.inference.router import Router

RETRY_S = 1.0
"""After a refusal the client waits so long before it sends another in its place."""
FABRIC_SHARE = 0.5
"""Part of the fabric's data-sheet rate that a transfer achieves."""


@dataclass
class Client:
    """Who sends requests. most: under way at once, 0 without limit; keep: whether every ended request is kept.

    Latency counts from sending: a request that waits because of the limit has not begun.
    """

    requests: Iterator[Request]
    most: int = 0
    keep: bool = False
    under_way: int = 0
    done: int = 0
    failed: int = 0
    ended: list[Request] = field(default_factory=list)
    upcoming: Request | None = None

    def ready(self, now: float) -> Request | None:
        """The next request if it may be sent now."""
        if self.upcoming is None:
            self.upcoming = next(self.requests, None)
        request = self.upcoming
        if request is None or request.due_at > now or (self.most and self.under_way >= self.most):
            return None
        self.upcoming = None
        self.under_way += 1
        request.sent_at = now
        return request

    def end(self, request: Request) -> None:
        """A request has ended, well or not."""
        self.under_way -= 1
        self.done += request.reason != "error"
        self.failed += request.reason == "error"
        if self.keep:
            self.ended.append(request)


class Deployment:
    """engines: all instances; those of role "prefill" and "decode" work together, those of role "both" alone.

    router, decode_router: for arrivals and for handed-on prompts; a fault sets their `weights`
    handover_s: what handing a prompt on takes beside moving its KV: the handshake, places on the other side, the front end
    """

    def __init__(
        self, engines: Sequence[Engine], client: Client, *, router: Router, decode_router: Router | None = None, handover_s: float = 0.02,
    ) -> None:  # fmt: skip
        self.engines, self.client, self.router = list(engines), client, router
        self.decode_router = decode_router or Router()
        self.front = [engine for engine in engines if engine.role != "decode"]
        self.back = [engine for engine in engines if engine.role == "decode"]
        if any(engine.role == "prefill" for engine in engines) != bool(self.back) or not self.front:
            raise ValueError("prefill instances need decode instances, and the other way round")
        self.handover_s, self.now = handover_s, 0.0
        self._due: list[tuple[float, int, object]] = []
        self._turn = itertools.count()
        self._called = -1

    def run(self, until: float) -> float:
        """Live until `until`, or until nothing more can happen; returns the moment of the last event."""
        self._take_stock()
        last = self.now
        while self._due and self._due[0][0] <= until:
            at, _, what = heapq.heappop(self._due)
            if isinstance(what, Engine) and what.next_at != at:
                continue  # it has been planned anew since
            self.now = last = at
            self._happen(what)
        self.now = max(self.now, until) if until != float("inf") else self.now
        for engine in self.engines:
            engine.now = max(engine.now, self.now)
            engine.cut(self.now)
            self._on_done(engine, engine.settle(self.now))
            self._plan(engine)
        return last

    def restart(self, engine: Engine) -> None:
        """The process is ended and begins anew; what it had is lost to its clients."""
        for request in engine.lose(self.now):
            self._fail(request)
        engine.dead = engine.stalled = False
        engine.slow, engine.link, engine.leaked_blocks = 1.0, 1.0, 0

    # --- events

    def _happen(self, what: object) -> None:
        if isinstance(what, Engine):
            self._on_done(what, what.settle(self.now))
            self._begin(what)
        elif isinstance(what, Transfer):
            self._arrive(what)
        elif isinstance(what, Request):
            self.client.end(what)
        self._send()

    def _take_stock(self) -> None:
        """See what was done to the engines since the last time."""
        for engine in self.engines:
            engine.now = self.now
            if engine.dead and (engine.outstanding or engine.plan is not None):
                for request in engine.lose(self.now):
                    self._fail(request)
            self._begin(engine)
            self._plan(engine)
        self._send()

    def _send(self) -> None:
        while (request := self.client.ready(self.now)) is not None:
            place = self.router.pick(request, self.front)
            if place is None or not self.front[place].accepts(request):
                self._fail(request)
                continue
            self._give(self.front[place], request)
        upcoming = self.client.upcoming
        if upcoming is not None and upcoming.due_at > self.now and upcoming.number != self._called:
            self._called = upcoming.number
            self._at(upcoming.due_at, None)

    def _give(self, engine: Engine, request: Request) -> None:
        engine.take(request, self.now)
        self._begin(engine)
        self._plan(engine)

    def _begin(self, engine: Engine) -> None:
        if engine.plan is None:
            engine.begin(self.now)
            self._plan(engine)

    def _plan(self, engine: Engine) -> None:
        if engine.next_at != float("inf"):
            self._at(engine.next_at, engine)

    def _on_done(self, engine: Engine, done: Done | None) -> None:
        if done is None:
            return
        for request in done.ended:
            self.client.end(request)
        for request in done.handed:
            self._hand_on(engine, request)

    def _hand_on(self, engine: Engine, request: Request) -> None:
        place = self.decode_router.pick(request, self.back)
        if place is None:
            engine.release(request)
            self._fail(request)
            return
        target = self.back[place]
        hardware = engine.cost.hardware
        rate = hardware.fabric_bytes_s * hardware.devices * FABRIC_SHARE * max(1e-6, min(engine.link, target.link))
        begin = max(self.now, engine.link_free_at)
        engine.link_free_at = begin + request.context * engine.cost.model.kv_bytes / rate
        target.coming += 1
        self._at(engine.link_free_at + self.handover_s, Transfer(request, engine, target, engine.lives, target.lives))

    def _arrive(self, moved: "Transfer") -> None:
        if moved.source.lives == moved.source_life:
            moved.source.release(moved.request)
        else:
            self._fail(moved.request)
            return
        if moved.target.lives != moved.target_life or moved.target.dead:
            self._fail(moved.request)
            return
        moved.target.coming -= 1
        moved.request.computed = moved.request.context
        self._give(moved.target, moved.request)

    def _fail(self, request: Request) -> None:
        request.reason, request.ended_at = "error", self.now
        self._at(self.now + RETRY_S, request)

    def _at(self, at: float, what: object) -> None:
        heapq.heappush(self._due, (at, next(self._turn), what))


@dataclass(frozen=True)
class Transfer:
    """KV on its way. source_life, target_life: which life of each instance; a restart in between loses it."""

    request: Request
    source: Engine
    target: Engine
    source_life: int
    target_life: int


def intervals(engines: Sequence[Engine]) -> np.ndarray:
    """Seconds between all streamed chunks, as a client saw them; for engines that keep their `chunks`."""
    kept = [seconds for engine in engines for seconds, _ in engine.chunks or ()]
    return np.concatenate(kept) if kept else np.zeros(0, dtype=np.float32)

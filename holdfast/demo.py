"""`holdfast demo` without its screen: the service over a simulated cluster, in step with real time, and its API on loopback."""

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from aiohttp import web

from holdfast.api.actions import Actions
from holdfast.api.app import application
from holdfast.api.tokens import Tokens
from holdfast.config import Config, Token
from holdfast.events import Request, Said
from holdfast.journal import Journal
from holdfast.plugins import installed
from holdfast.preview import Twin
from holdfast.simulation import STEP_S, Simulation, settings
from simulator.scenario import Scenario

HOST = "127.0.0.1"
PORT = 8642

# What the demo promises; slower than this it is late, and says by how much.
LEAST_SPEED = 20.0
# After a pause of the machine the clock makes up for so much and no more, so that it never runs away.
_MADE_UP_S = 0.25
_MEASURED_S = 5.0
# A request takes a few turns of the loop; a step must not stand between each two of them.
_TURNS = 8
_CLOSE_S = 2.0

Clock = Callable[[], float]


@runtime_checkable
class Lagging(Protocol):
    """An exporter that shows how late the newest step is."""

    def lag(self, seconds: float) -> None: ...


class Pace:
    """When the next step is due.

    speed: the most simulated seconds in a real one, 0: no bound; clock: real seconds
    """

    def __init__(self, speed: float, *, clock: Clock) -> None:
        self.speed, self._clock = speed, clock
        self._begun = self._due = clock()
        self._steps = 0
        self._seen: deque[tuple[float, int]] = deque([(self._begun, 0)])

    def wait_s(self) -> float:
        """A step has been made: real seconds until the next one is due."""
        now = self._clock()
        self._steps += 1
        self._seen.append((now, self._steps))
        while now - self._seen[0][0] > _MEASURED_S and len(self._seen) > 2:
            self._seen.popleft()
        if self.speed <= 0:
            return 0.0
        self._due = max(self._due + STEP_S / self.speed, now - _MADE_UP_S)
        return max(0.0, self._due - now)

    def measured(self) -> float:
        """Simulated seconds in a real one, over the last few."""
        (since, first), (now, last) = self._seen[0], self._seen[-1]
        return (last - first) * STEP_S / (now - since) if now > since else 0.0

    def lag_s(self) -> float:
        """Real seconds behind the speed that is promised, 0 while it is kept."""
        promised = min(self.speed, LEAST_SPEED) if self.speed > 0 else LEAST_SPEED
        return max(0.0, self._seen[-1][0] - self._begun - self._steps * STEP_S / promised)


class Demo:
    """One simulation, served.

    folder: private, holds the journal; tokens: who may look and act
    endless: go on with a healthy cluster once the scenario is over
    """

    def __init__(
        self, scenario: Scenario, *, folder: Path, tokens: Sequence[Token], speed: float, endless: bool, clock: Clock
    ) -> None:
        path = folder / "journal.sqlite"
        self.config: Config = settings(path)
        if "prometheus" in installed("exporters"):
            self.config.exporters["prometheus"] = {"simulated": True}
        self.simulation = Simulation(scenario, Journal(path, snapshots_kept=0), self.config)
        self.port = 0
        self._tokens, self._speed, self._endless, self._clock = Tokens(tokens), speed, endless, clock
        self._begun = clock()
        self.pace = Pace(speed, clock=clock)
        self._stop = asyncio.Event()
        self._serving: web.AppRunner | None = None

    # --- being served

    async def open(self, port: int) -> None:
        """Listen on loopback, on a free port where this one is taken."""
        self._serving = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1.0)
        await self._serving.setup()
        try:
            await web.TCPSite(self._serving, HOST, port).start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            await web.TCPSite(self._serving, HOST, 0).start()
        self.port = self._serving.addresses[0][1]

    def _application(self) -> web.Application:
        parts = self.simulation.parts
        twin = Twin(self.config, parts.pipeline)

        def preview(request: Request) -> Sequence[Said]:
            return twin.decide([request])

        # what people ask for comes in with the next step: no later than one is due anyway
        actions = Actions(lambda: None, board=parts.board, preview=preview, now=lambda: self.simulation.now)
        parts.pipeline.collectors = (*parts.pipeline.collectors, actions)
        return application(tokens=self._tokens, board=parts.board, actions=actions, about=self.about, metrics=parts.metrics)

    def about(self) -> dict[str, Any]:
        """What `/api/v1/about` answers."""
        return {
            "now": self.simulation.now, "simulated": True, "mode": self.config.remedier.mode, "seed": self.simulation.scenario.seed,
            "since": self.simulation.start, "speed": round(self.pace.measured(), 1), "lag_s": round(self.pace.lag_s(), 2),
            "over": self.simulation.over,
        }  # fmt: skip

    # --- its life

    async def play(self) -> None:
        """Step until it is over (or, if endless, until `stop`); the API is answered between the steps."""
        self._begun = self._clock()
        self.pace = Pace(self._speed, clock=self._clock)
        while not self._stop.is_set() and (self._endless or not self.simulation.over):
            self.simulation.step()
            wait_s = self.pace.wait_s()
            for exporter in self.simulation.parts.exporters.values():
                if isinstance(exporter, Lagging):
                    exporter.lag(self.pace.lag_s())
            await self._rest(wait_s)

    async def _rest(self, seconds: float) -> None:
        """Let others go on; a word to stop ends it."""
        if seconds <= 0:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            return
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    def stop(self) -> None:
        """End after the present step."""
        self._stop.set()

    async def close(self) -> dict[str, Any]:
        """End what is open; return the score."""
        score = self.simulation.score(self._clock() - self._begun)
        if self._serving is not None:
            await self._serving.cleanup()
        for part in self.simulation.parts.closing():
            part.close(_CLOSE_S)
        self.simulation.journal.close()
        return score


def passed(score: dict[str, Any]) -> bool:
    """Whether every fault was detected, located and recovered, and nothing was called one that is none."""
    stories = score["stories"]
    met = all(one["said"] == one["truth"] and one["located"] and one["recovered"] for one in stories)
    return met and score["false_alarms"] == 0

"""A door of the service: what comes in over HTTP waits for the next step, and is answered when that step is committed."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from holdfast.events import Observation
from holdfast.wire import Heard

MOST_WAITING = 256
ANSWER_S = 30.0


class DoorError(Exception):
    """Nothing was taken in. status: of the HTTP answer; the message says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Door:
    """A collector whose source is HTTP.

    wake: tells the service that something has come
    """

    durable = True

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: list[tuple[Sequence[Heard], asyncio.Future[None]]] = []
        self._polled: list[tuple[Sequence[Heard], asyncio.Future[None]]] = []

    async def bring(self, heard: Sequence[Heard]) -> None:
        """Hand events in; returns once they are in the journal.

        raises DoorError: too much is waiting (429), or no step was committed in time (503)
        """
        if len(self._waiting) >= MOST_WAITING:
            raise DoorError(429, "too much is waiting")
        safe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((heard, safe))
        self._wake()
        try:
            await asyncio.wait_for(safe, ANSWER_S)
        except TimeoutError:
            raise DoorError(503, "not committed in time") from None

    def poll(self, now: float) -> Iterator[Observation]:
        """Everything that came since the last step, in order."""
        self._polled, self._waiting = self._waiting, []
        for heard, _ in self._polled:
            yield from self.fresh(heard)

    def fresh(self, heard: Sequence[Heard]) -> Iterator[Observation]:
        """Of one hand-in what has an effect; a door that knows repeats leaves them out."""
        yield from heard  # type: ignore[misc]  # an outcome is heard like an observation

    def committed(self) -> None:
        """What the last `poll` gave is safe: answer whoever waits."""
        for _, safe in self._polled:
            if not safe.done():
                safe.set_result(None)
        self._polled = []

"""The agents' door: takes numbered batches, gives them to the pipeline, acknowledges them once they are committed."""

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from aiohttp import web

from holdfast.api.door import Door, DoorError
from holdfast.api.records import Batch, RecordError, batch_of, observations_of
from holdfast.api.routes import CALLER
from holdfast.events import Observation, Order, Received
from holdfast.wire import Heard

log = structlog.get_logger()

MOST_BYTES = 32 * 1024 * 1024


class Answer(msgspec.Struct, omit_defaults=True):
    """What an agent is told.

    release: its job is over and nothing more will be ordered; resync: say all states again
    """

    acknowledged: int
    orders: list[dict[str, Any]] = []
    release: bool = False
    resync: bool = False


class Ingest(Door):
    """The door of agents.

    acknowledged: (agent, boot) -> last committed sequence, as the journal knows it
    orders_for: job -> orders an agent shall carry out; released: whether a job is over
    """

    def __init__(
        self,
        acknowledged: Mapping[tuple[str, str], int],
        *,
        orders_for: Callable[[str], Sequence[Order]],
        released: Callable[[str], bool],
        wake: Callable[[], None],
    ) -> None:
        super().__init__(wake)
        self._acknowledged = dict(acknowledged)
        self._orders_for, self._released = orders_for, released
        self.repeats = self.refused = 0

    def fresh(self, heard: Sequence[Heard]) -> Iterator[Observation]:
        """A batch, unless its number was committed before."""
        batch = heard[0]
        if isinstance(batch, Received):
            if batch.sequence <= self._acknowledged.get((batch.agent, batch.boot), 0):
                self.repeats += 1
                return
            self._acknowledged[(batch.agent, batch.boot)] = batch.sequence
        yield from super().fresh(heard)

    async def receive(self, request: web.Request) -> web.Response:
        """POST /api/v1/ingest."""
        try:
            batch = batch_of(await _body(request))
            heard = observations_of(batch)
        except RecordError as error:
            self.refused += 1
            log.warning("batch refused", remote=request.remote, reason=str(error))
            return web.json_response({"error": str(error)}, status=422)
        caller = request[CALLER]
        if not caller.speaks_for(batch.agent, batch.job):
            return web.json_response(
                {"error": f"{caller.name} does not speak for {batch.agent!r} of {batch.job!r}"}, status=403
            )
        first = (batch.agent, batch.boot) not in self._acknowledged
        try:
            await self.bring(heard)
        except DoorError as error:
            return web.json_response({"error": str(error)}, status=error.status)
        return self._answer(batch, first=first)

    def _answer(self, batch: Batch, *, first: bool) -> web.Response:
        orders = [_order(order) for order in self._orders_for(batch.job)] if batch.job else []
        released = bool(batch.job) and not orders and self._released(batch.job)
        resync = first and batch.sequence > 1
        answer = Answer(batch.sequence, orders, release=released, resync=resync)
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def _order(order: Order) -> dict[str, Any]:
    ranks = [target.id for target in order.targets]
    return {
        "id": order.id, "verb": order.verb, "job": order.job, "targets": ranks, "arguments": dict(order.arguments),
        "deadline_s": order.deadline_s,
    }  # fmt: skip


async def _body(request: web.Request) -> bytes:
    """The body, decompressed, bounded before and after.

    raises RecordError: too large, or not what Content-Encoding says
    """
    data = await request.read()  # the application bounds it
    if request.headers.get("Content-Encoding", "").lower() != "gzip" or not data.startswith(b"\x1f\x8b"):
        return data  # aiohttp may have decompressed it already
    try:
        plain = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data, MOST_BYTES + 1)
    except (zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise RecordError(f"not gzip: {error}") from error
    if len(plain) > MOST_BYTES:
        raise RecordError(f"over {MOST_BYTES} bytes")
    return plain

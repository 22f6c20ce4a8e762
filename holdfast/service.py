"""The live service: the clock, the door and the pipeline, from start through recovery to a graceful end."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web

from holdfast.api.actions import Actions
from holdfast.api.alerts import AlertDoor
from holdfast.api.app import application
from holdfast.api.ingest import Ingest
from holdfast.api.tokens import Tokens
from holdfast.assembly import Parts, assemble
from holdfast.board import Board
from holdfast.config import Config
from holdfast.events import Order, Request, Said
from holdfast.incident import State
from holdfast.journal import Journal
from holdfast.ports import Lagging, Relaying, Resuming
from holdfast.preview import Twin
from holdfast.replay import replay

log = structlog.get_logger()

# Batches that arrive together are decided together; a lone one does not wait longer than this.
_GATHER_S = 0.02

# What exporters still have to deliver at the end gets this long, each.
_CLOSE_S = 2.0


class Service:
    """One process: made, recovered, run until told to stop.

    raises ConfigError: from the settings; JournalError: from the journal file
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        keep = 0 if config.journal.keep == "all" else 2
        self.journal = Journal(Path(config.journal.path), snapshots_kept=keep)
        self.journal.set_meta("config", msgspec.json.encode(config).decode())
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self.ingest = Ingest(
            self.journal.acknowledged(), orders_for=self._orders_for, released=self._released, wake=self._wake.set
        )
        board = Board()
        self.actions = Actions(self._wake.set, board=board, preview=self._preview, now=time.time)
        self.alerts = AlertDoor(self._wake.set, now=time.time)
        self.parts: Parts = assemble(
            config, journal=self.journal, collectors=(self.ingest, self.actions, self.alerts), board=board
        )
        self._twin = Twin(config, self.parts.pipeline)
        self.tokens = Tokens(config.tokens)
        self._at = 0.0
        self._snapshot_at = 0.0

    def recover(self) -> None:
        """Decide again what came after the last snapshot, then hand unanswered orders to their backends once more."""
        done = replay(self.journal, self.parts.pipeline)
        self._at = done.at
        if done.difference is not None:
            log.error("the journal is not decided the same way again", **done.difference._asdict())
        orders = self.journal.unsettled()
        for order in orders:
            for backend in self.parts.backends.values():
                backend.submit(order)
        standing = [i for i in self.parts.board.incidents.values() if i.state is not State.RESOLVED]
        for exporter in self.parts.exporters.values():
            if isinstance(exporter, Resuming):
                exporter.resume(standing)
        if done.steps:
            log.info("recovered", steps=done.steps, unsettled=[order.id for order in orders])

    def step(self) -> None:
        """One round at the present time; time never goes back."""
        self._at = max(time.time(), self._at + 1e-6)
        self.parts.pipeline.step(self._at)
        if self._at - self._snapshot_at >= self.config.journal.snapshot_every_s:
            self._snapshot_at = self._at
            self.journal.snapshot(self.parts.pipeline.snapshot())

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or `stop`."""
        loop = asyncio.get_running_loop()
        for word in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(word, self.stop)
        self.recover()
        runner = web.AppRunner(self._application(), shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, self.config.service.host, self.config.service.port)
        await site.start()
        self._tell_port(runner)
        try:
            await self._rounds()
        finally:
            await site.stop()
            self.step()  # answers whoever is still waiting
            await runner.cleanup()
            for part in self.parts.closing():
                part.close(_CLOSE_S)
            self.journal.snapshot(self.parts.pipeline.snapshot())
            self.journal.close()

    def _application(self) -> web.Application:
        return application(
            tokens=self.tokens, ingest=self.ingest, board=self.parts.board, actions=self.actions, about=self._about,
            metrics=self._metrics, alerts=self.alerts,
        )  # fmt: skip

    def _about(self) -> dict[str, Any]:
        return {"now": self._at, "simulated": False, "mode": self.config.remedier.mode}

    def _metrics(self) -> bytes:
        for exporter in self.parts.exporters.values():
            if isinstance(exporter, Lagging):
                exporter.lag(max(0.0, time.time() - self._at))
        return self.parts.metrics()

    def _preview(self, request: Request) -> list[Said]:
        return self._twin.decide([request])

    def stop(self) -> None:
        """End after the present step."""
        self._stop.set()
        self._wake.set()

    async def _rounds(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self.config.service.period_s)
                await asyncio.sleep(_GATHER_S)
            self._wake.clear()
            self.step()

    def _tell_port(self, runner: web.AppRunner) -> None:
        port = runner.addresses[0][1]
        log.info("serving", host=self.config.service.host, port=port)
        if self.config.service.port_file:
            file = Path(self.config.service.port_file)
            fresh = file.with_suffix(".new")
            fresh.write_text(f"{port}\n", encoding="utf-8")
            fresh.replace(file)

    def _orders_for(self, job: str) -> list[Order]:
        relays = [backend for backend in self.parts.backends.values() if isinstance(backend, Relaying)]
        return [order for backend in relays for order in backend.orders_for(job)]

    def _released(self, job: str) -> bool:
        return self.parts.board.over(job)


def serve(config: Config) -> None:
    """Run the service until it is told to stop."""

    async def _run() -> None:
        await Service(config).run()

    asyncio.run(_run())

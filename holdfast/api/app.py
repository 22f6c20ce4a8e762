"""The HTTP face of the service."""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from holdfast.api.ingest import MOST_BYTES, Ingest
from holdfast.api.tokens import Caller, Role, Tokens
from holdfast.board import Board
from holdfast.plugins import ConfigError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

__all__ = ["Caller", "ConfigError", "application"]

# What each path asks of its caller; a path that is not here is open (health only).
_NEEDS: dict[str, Role] = {"/api/v1/ingest": Role.AGENT, "/api/v1/incidents": Role.READ, "/api/v1/jobs": Role.READ}


def application(*, tokens: Tokens, ingest: Ingest, board: Board) -> web.Application:
    """Build the application; it holds no state of its own."""

    @web.middleware
    async def authorise(request: web.Request, handler: Handler) -> web.StreamResponse:
        needed = next((role for path, role in _NEEDS.items() if request.path.startswith(path)), None)
        if needed is not None:
            caller = tokens.caller(request.headers.get("Authorization", ""))
            if caller is None:
                return web.json_response({"error": "a bearer token is needed"}, status=401)
            if not caller.may(needed):
                return web.json_response({"error": f"{caller.name} may not do this"}, status=403)
            request["caller"] = caller
        return await handler(request)

    async def jobs(request: web.Request) -> web.Response:
        rows = [
            {**msgspec.to_builtins(job), "over": board.over(id), "stuck": board.stuck(id)}
            for id, job in board.jobs.items()
        ]
        return web.json_response({"jobs": rows})

    async def incidents(request: web.Request) -> web.Response:
        rows = [msgspec.to_builtins(incident) for incident in board.incidents.values()]
        return web.json_response({"incidents": rows})

    async def health(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application(middlewares=[authorise], client_max_size=MOST_BYTES)
    app.router.add_post("/api/v1/ingest", ingest.receive)
    app.router.add_get("/api/v1/jobs", jobs)
    app.router.add_get("/api/v1/incidents", incidents)
    app.router.add_get("/healthz", health)
    return app

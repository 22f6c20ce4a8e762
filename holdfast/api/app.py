"""The HTTP face of the service: every path, made from one table."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from holdfast.api.actions import ActionAnswer, ActionBody, Actions
from holdfast.api.alerts import AlertAnswer, AlertBody, AlertDoor
from holdfast.api.ingest import MOST_BYTES, Answer, Ingest
from holdfast.api.page_files import add_page
from holdfast.api.records import Batch
from holdfast.api.routes import CALLER, Failure, Handler, Route, openapi
from holdfast.api.tokens import Role, Tokens
from holdfast.board import Board, Job, Node
from holdfast.incident import Incident

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class JobRow(Job, kw_only=True):
    """A job, whether nothing more will be done about it (over) and whether it needs a person (stuck)."""

    over: bool = False
    stuck: bool = False


class NodeRow(Node, kw_only=True):
    """A node and the ids of the incidents about it that are not resolved."""

    incidents: Sequence[str] = ()


class Jobs(msgspec.Struct):
    """All jobs."""

    jobs: Sequence[JobRow]


class Nodes(msgspec.Struct):
    """All nodes."""

    nodes: Sequence[NodeRow]


class Incidents(msgspec.Struct):
    """All incidents that are remembered, oldest first."""

    incidents: Sequence[Incident]


class ActionList(msgspec.Struct):
    """Everything that was asked for, oldest first."""

    actions: Sequence[ActionAnswer]


class Face:
    """What is shown of a board. about: facts of the service; metrics: the page for Prometheus."""

    def __init__(self, board: Board, *, about: Callable[[], dict[str, Any]], metrics: Callable[[], bytes]) -> None:
        self.board, self._about, self._metrics = board, about, metrics

    async def jobs(self, request: web.Request) -> web.Response:
        board = self.board
        rows = [JobRow(**_fields(job), over=board.over(id), stuck=board.stuck(id)) for id, job in board.jobs.items()]
        return _json(Jobs(rows))

    async def nodes(self, request: web.Request) -> web.Response:
        troubles = self.board.troubles()
        rows = [NodeRow(**_fields(node), incidents=troubles.get(id, ())) for id, node in sorted(self.board.nodes.items())]
        for row in rows:
            row.state = "silent" if row.silent and row.state == "ready" else row.state
        return _json(Nodes(rows))

    async def incidents(self, request: web.Request) -> web.Response:
        return _json(Incidents(list(self.board.incidents.values())))

    async def about(self, request: web.Request) -> web.Response:
        return _json(self._about())

    async def metrics(self, request: web.Request) -> web.Response:
        page = await asyncio.to_thread(self._metrics)  # a page of a thousand jobs takes a second
        return web.Response(body=page, headers={"Content-Type": _METRICS_TYPE})

    async def health(self, request: web.Request) -> web.Response:
        return _json({"status": "ok"})


def application(
    *, tokens: Tokens, board: Board, ingest: Ingest | None = None, actions: Actions | None = None,
    alerts: AlertDoor | None = None, about: Callable[[], dict[str, Any]] = dict, metrics: Callable[[], bytes] = bytes,
    more: Sequence[Route] = (),
) -> web.Application:  # fmt: skip
    """Build the application; it holds no state of its own.

    ingest, actions, alerts: the doors this service has; more: further routes
    """
    face = Face(board, about=about, metrics=metrics)
    routes = [*_reading(face), *_taking(ingest, actions, alerts), *more]
    document = msgspec.json.encode(openapi(routes))

    async def described(request: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    routes.append(Route(method="GET", path="/api/v1/openapi.json", handler=described, summary=""))
    app = web.Application(client_max_size=MOST_BYTES)
    for route in routes:
        app.router.add_route(route.method, route.path, _guarded(route, tokens))
    add_page(app)
    return app


def _reading(face: Face) -> list[Route]:
    read = Role.READ
    return [
        Route(method="GET", path="/api/v1/incidents", handler=face.incidents, summary="Incidents", role=read, gives=Incidents),
        Route(method="GET", path="/api/v1/jobs", handler=face.jobs, summary="Jobs", role=read, gives=Jobs),
        Route(method="GET", path="/api/v1/nodes", handler=face.nodes, summary="Nodes", role=read, gives=Nodes),
        Route(method="GET", path="/api/v1/about", handler=face.about, summary="What this service is", role=read, gives=dict[str, Any]),
        Route(method="GET", path="/metrics", handler=face.metrics, summary="Figures for Prometheus, text format"),
        Route(method="GET", path="/healthz", handler=face.health, summary="Whether it lives", gives=dict[str, str]),
    ]


def _taking(ingest: Ingest | None, actions: Actions | None, alerts: AlertDoor | None) -> list[Route]:
    wrong = {
        413: "too large", 422: "the body is wrong; the message names the field", 429: "too much is waiting",
        503: "not committed in time",
    }  # fmt: skip
    found = []
    if ingest is not None:
        found.append(Route(
            method="POST", path="/api/v1/ingest", handler=ingest.receive, summary="A batch of an agent", role=Role.AGENT,
            takes=Batch, gives=Answer, fails=wrong,
        ))  # fmt: skip
    if alerts is not None:
        found.append(Route(
            method="POST", path="/api/v1/alerts", handler=alerts.receive, summary="Alerts of an Alertmanager, its webhook of version 4",
            role=Role.ACT, takes=AlertBody, gives=AlertAnswer, fails=wrong,
        ))  # fmt: skip
    if actions is not None:
        found.append(Route(
            method="POST", path="/api/v1/actions", handler=actions.receive, summary="Have something done", role=Role.ACT,
            takes=ActionBody, gives=ActionAnswer, status=202, key=True,
            fails={**wrong, 404: "no such job or incident", 409: "the key was used for another request"},
        ))  # fmt: skip
        found.append(Route(
            method="GET", path="/api/v1/actions", handler=actions.listed, summary="What was asked for", role=Role.READ, gives=ActionList
        ))  # fmt: skip
    return found


def _guarded(route: Route, tokens: Tokens) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        if route.role is not None:
            caller = tokens.caller(request.headers.get("Authorization", ""))
            if caller is None:
                return _json(Failure(error="a bearer token is needed"), status=401)
            if not caller.may(route.role):
                return _json(Failure(error=f"{caller.name} may not do this"), status=403)
            request[CALLER] = caller
        return await route.handler(request)

    return handler


def _fields(row: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", status=status)

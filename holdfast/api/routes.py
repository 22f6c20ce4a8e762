"""The paths of the API as one table: who may call what, and what goes in and comes out; OpenAPI is made from it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from holdfast.api.tokens import Caller, Role

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

VERSION = "1.0.0"
CALLER = web.RequestKey("caller", Caller)


class Failure(msgspec.Struct, kw_only=True):
    """Why nothing was done; of a wrong body the message names the field."""

    error: str


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One path.

    role: what the caller's token must be good for, None: open to all; takes, gives: types of the bodies, None: not JSON
    fails: status -> when; key: whether it takes an `Idempotency-Key`
    """

    method: str
    path: str
    handler: Handler
    summary: str
    role: Role | None = None
    takes: Any = None
    gives: Any = None
    fails: Mapping[int, str] = {}
    key: bool = False
    status: int = 200


def openapi(routes: Iterable[Route]) -> dict[str, Any]:
    """An OpenAPI 3.1 document of these paths, its schemas from the types that the handlers decode and encode."""
    shown = [route for route in routes if route.summary]
    types = [kind for route in shown for kind in (route.takes, route.gives) if kind is not None]
    schemas, components = msgspec.json.schema_components([*types, Failure], ref_template="#/components/schemas/{name}")
    found = iter(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for route in shown:
        takes = next(found) if route.takes is not None else None
        gives = next(found) if route.gives is not None else None
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, takes, gives)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Holdfast", "version": VERSION, "description": "Incidents, jobs and nodes, and what is to be done about them."},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(route: Route, takes: Any, gives: Any) -> dict[str, Any]:
    barred = {401: "no token, or an unknown one", 403: "the token is not good for this"} if route.role is not None else {}
    fails = {**route.fails, **barred}
    failure = {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}}
    answer: dict[str, Any] = {"description": route.summary}
    if gives is not None:
        answer["content"] = {"application/json": {"schema": gives}}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{route.path.rsplit('/', 1)[-1].title().replace('.', '')}",
        "responses": {
            str(route.status): answer,
            **{str(status): {"description": why, "content": failure} for status, why in sorted(fails.items())},
        },
    }
    if route.status != 200:
        operation["responses"]["200"] = answer
    if route.role is not None:
        operation["security"] = [{"token": []}]
        operation["description"] = f"Needs a token of role `{route.role.name.lower()}`."
    if takes is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": takes}}}
    if route.key:
        operation["parameters"] = [{
            "name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string", "maxLength": 255},
            "description": "the same key again acts once and gives the same answer",
        }]  # fmt: skip
    return operation

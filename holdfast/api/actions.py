"""What people and scripts ask for: a verb for a job or a node, or a word about an incident; each key acts once."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec
from aiohttp import web

from holdfast.api.door import Door, DoorError
from holdfast.api.routes import CALLER
from holdfast.api.tokens import Caller, Role
from holdfast.board import Action, Board
from holdfast.events import Order, Outcome, Request, Said, Transition
from holdfast.topology import JobId, NodeId, Target

MOST_BYTES = 65_536
MOST_KEY = 255

# Who clears the breaker lets the loop take nodes again: more than acting once.
_ROLES: Mapping[str, Role] = {"clear_breaker": Role.ADMIN}
_OF_INCIDENT = frozenset({"approve", "reject", "close"})


class ActionBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is asked for.

    verb: restart, replace, resubmit and stop are for a job (or the targets of a job that has none); approve, reject and
    close for an incident; clear_breaker for the service. idempotency_key: as the header `Idempotency-Key`.
    dry_run: say what would be done, and do nothing.
    """

    verb: Literal["restart", "replace", "resubmit", "stop", "approve", "reject", "close", "clear_breaker"]
    job: str = ""
    targets: tuple[Target, ...] = ()
    incident: str = ""
    reason: str = ""
    idempotency_key: str = ""
    dry_run: bool = False


class ActionAnswer(Action, kw_only=True):
    """What became of it so far.

    dry_run: nothing was done; orders: what would be ordered, the reason why not is in `note`
    """

    dry_run: bool = False
    orders: tuple[Order, ...] = ()


class Actions(Door):
    """The door of `POST /api/v1/actions`.

    board: knows jobs, incidents and earlier actions; preview: decides a request on a copy of the line
    now: the service's time
    """

    def __init__(
        self, wake: Callable[[], None], *, board: Board, preview: Callable[[Request], Sequence[Said]], now: Callable[[], float]
    ) -> None:
        super().__init__(wake)
        self.board, self._preview, self._now = board, preview, now
        self._bodies: dict[str, bytes] = {}

    async def receive(self, request: web.Request) -> web.Response:
        """POST /api/v1/actions."""
        caller = request[CALLER]
        try:
            body = _decoded(await request.content.read(MOST_BYTES + 1))
            key = _key(request, body)
            if not caller.may(_ROLES.get(body.verb, Role.ACT)):
                raise DoorError(403, f"{caller.name} may not {body.verb}")
            asked = self._request(caller, body, key)
            if body.dry_run:
                return _json(_foreseen(asked, self._preview(asked)))
            return await self._act(asked, body, key)
        except DoorError as error:
            return web.json_response({"error": str(error)}, status=error.status)

    async def listed(self, request: web.Request) -> web.Response:
        """GET /api/v1/actions."""
        return _json({"actions": [_answer(action) for action in self.board.actions.values()]})

    async def _act(self, asked: Request, body: ActionBody, key: str) -> web.Response:
        digest = hashlib.sha256(msgspec.json.encode(body)).digest()
        known = asked.id in self.board.actions or asked.id in self._bodies
        if known and self._bodies.get(asked.id, digest) != digest:
            raise DoorError(409, f"Idempotency-Key {key!r} was used for another request")
        self._bodies[asked.id] = digest
        while len(self._bodies) > self.board.most_actions:
            del self._bodies[next(iter(self._bodies))]
        if asked.id not in self.board.actions:
            await self.bring([asked])  # of two at the same moment the book acts on one
        answer = _json(_answer(self.board.actions[asked.id]), status=200 if known else 202)
        answer.headers["Idempotent-Replayed"] = "true" if known else "false"
        return answer

    def _request(self, caller: Caller, body: ActionBody, key: str) -> Request:
        if body.verb in _OF_INCIDENT:
            if body.incident not in self.board.incidents:
                raise DoorError(404 if body.incident else 422, f"incident: no incident {body.incident!r}")
        elif body.verb != "clear_breaker":
            if not (body.job or body.targets or body.incident):
                raise DoorError(422, "job: a job, targets or an incident must be named")
            if body.job and body.job not in self.board.jobs:
                raise DoorError(404, f"job: no job {body.job!r}")
        incident = self.board.incidents.get(body.incident)
        job = body.job or (incident.job if incident else "") or next((t.job for t in body.targets if t.job), "")
        now = self._now()
        # a key is its caller's own; without one every request is another
        named = f"{caller.name}\0{key}" if key else f"{caller.name}\0{now!r}\0{len(self.board.actions)}"
        return Request(
            at=now, source=f"api:{caller.name}", job=JobId(job), node=NodeId(""), id=f"r{hashlib.sha256(named.encode()).hexdigest()[:16]}",
            actor=caller.name, verb=body.verb, targets=body.targets, incident=body.incident, reason=body.reason[:500],
        )  # fmt: skip


def _decoded(data: bytes) -> ActionBody:
    if len(data) > MOST_BYTES:
        raise DoorError(413, f"over {MOST_BYTES} bytes")
    try:
        return msgspec.json.decode(data, type=ActionBody)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DoorError(422, str(error)) from None


def _key(request: web.Request, body: ActionBody) -> str:
    key = request.headers.get("Idempotency-Key", body.idempotency_key)
    if len(key) > MOST_KEY:
        raise DoorError(422, f"Idempotency-Key: over {MOST_KEY} characters")
    return key


def _foreseen(asked: Request, said: Sequence[Said]) -> ActionAnswer:
    orders = tuple(event for event in said if isinstance(event, Order))
    refused = "; ".join(event.note for event in said if isinstance(event, Outcome) and not event.done)
    moves = any(isinstance(event, Transition) for event in said)
    state = "refused" if refused else "ordered" if orders else "done" if moves else "refused"
    return ActionAnswer(
        id=asked.id, verb=asked.verb, actor=asked.actor, at=asked.at, job=asked.job, incident=asked.incident, state=state,
        note=refused, dry_run=True, orders=orders,
    )  # fmt: skip


def _answer(action: Action) -> ActionAnswer:
    return ActionAnswer(**{name: getattr(action, name) for name in action.__struct_fields__})


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", status=status)

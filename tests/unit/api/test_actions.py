"""People and scripts ask for something: once for each key, only with the right token, and with a clear word when not."""

import asyncio
from typing import Any

import pytest

from holdfast.events import Request
from holdfast.journal import ORDERS, Journal
from tests.unit.api.calls import Api

RESTART: dict[str, Any] = {"verb": "restart", "job": "j", "reason": "it looks odd"}
KEY = {"Idempotency-Key": "k1"}


async def start_job(api: Api) -> None:
    started = {"type": "job", "at": 1.0, "state": "started", "attempt": 0}
    await api.agent_says(1, started, {"type": "beat", "at": 1.0, "ranks": [{"rank": 0, "step": 3, "stepped_at": 1.0}]})


def orders_in(api: Api) -> list[str]:
    journal = Journal(api.journal)
    found = [row.id for row in journal._db.execute(ORDERS.select())]
    journal.close()
    return found


async def test_one_key_acts_once_however_often_it_comes(api: Api) -> None:
    await start_job(api)
    first, *others = await asyncio.gather(*(api.post("/api/v1/actions", RESTART, **KEY) for _ in range(4)))
    answers = [first, *others, await api.post("/api/v1/actions", RESTART, **KEY)]
    assert sorted(status for status, _ in answers) == [200, 200, 200, 200, 202]
    assert {(body["id"], body["verb"], body["actor"]) for _, body in answers} == {(first[1]["id"], "restart", "act:act")}
    assert orders_in(api) == ["i1/restart/1"]
    assert [order["id"] for order in await api.agent_says(2)] == ["i1/restart/1"]


async def test_another_key_while_an_order_is_under_way_is_refused_with_the_reason(api: Api) -> None:
    await start_job(api)
    await api.post("/api/v1/actions", RESTART, **KEY)
    _, second = await api.post("/api/v1/actions", RESTART, **{"Idempotency-Key": "k2"})
    assert (second["state"], second["note"]) == ("refused", "incident i1: restart is under way")
    assert len(orders_in(api)) == 1


async def test_what_became_of_it_is_told_and_who_asked_is_in_the_journal(api: Api) -> None:
    await start_job(api)
    _, asked = await api.post("/api/v1/actions", RESTART, **KEY)
    await api.agent_says(2, {"type": "outcome", "at": 2.0, "order": "i1/restart/1", "done": True, "note": "attempt 1 runs"})
    _, listed = await api.get("/api/v1/actions")
    (action,) = listed["actions"]
    assert (action["id"], action["state"], action["order"], action["note"]) == (asked["id"], "done", "i1/restart/1", "attempt 1 runs")
    journal = Journal(api.journal)
    requests = [seen for written in journal.steps() for seen in written.inputs if isinstance(seen, Request)]
    journal.close()
    assert [(seen.actor, seen.verb, seen.job, seen.reason) for seen in requests] == [("act:act", "restart", "j", "it looks odd")]
    _, shown = await api.get("/api/v1/incidents")
    assert [(i["id"], i["state"], i["verb"], i["perception"]) for i in shown["incidents"]] == [("i1", "verifying", "restart", None)]


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(api: Api) -> None:
    await start_job(api)
    status, foreseen = await api.post("/api/v1/actions", {**RESTART, "dry_run": True}, **KEY)
    assert (status, foreseen["dry_run"], foreseen["state"]) == (200, True, "ordered")
    assert [(order["verb"], order["job"]) for order in foreseen["orders"]] == [("restart", "j")]
    assert (await api.get("/api/v1/incidents"))[1]["incidents"] == []
    assert orders_in(api) == []
    assert (await api.post("/api/v1/actions", RESTART, **KEY))[0] == 202


async def test_a_key_of_another_request_is_told(api: Api) -> None:
    await start_job(api)
    await api.post("/api/v1/actions", RESTART, **KEY)
    status, answer = await api.post("/api/v1/actions", {**RESTART, "verb": "stop"}, **KEY)
    assert (status, answer["error"]) == (409, "Idempotency-Key 'k1' was used for another request")


@pytest.mark.parametrize(
    ("role", "body", "status", "says"),
    [
        pytest.param("", RESTART, 401, "bearer token", id="no token"),
        pytest.param("wrong", RESTART, 401, "bearer token", id="an unknown token"),
        pytest.param("read", RESTART, 403, "may not", id="a reader's token"),
        pytest.param("agent", RESTART, 403, "may not", id="an agent's token"),
        pytest.param("act", {"verb": "clear_breaker"}, 403, "may not clear_breaker", id="what only an admin may"),
        pytest.param("act", {}, 422, "verb", id="a field is missing"),
        pytest.param("act", {**RESTART, "verb": "explode"}, 422, "$.verb", id="a word that is none"),
        pytest.param("act", {**RESTART, "job": 7}, 422, "$.job", id="a field of another type"),
        pytest.param("act", {**RESTART, "targets": [{"kind": "rank"}]}, 422, "targets[0]", id="a field inside a target"),
        pytest.param("act", {**RESTART, "spell": 1}, 422, "spell", id="a field that is none"),
        pytest.param("act", {"verb": "restart"}, 422, "job", id="nothing is named"),
        pytest.param("act", {**RESTART, "job": "x"}, 404, "no job 'x'", id="a job that is not there"),
        pytest.param("act", {"verb": "approve", "incident": "i9"}, 404, "no incident 'i9'", id="an incident that is not there"),
        pytest.param("act", b"[" * 10_000, 422, "", id="no JSON"),
        pytest.param("act", b"{" + b" " * 70_000, 413, "over", id="too large"),
    ],
)
async def test_what_is_wrong_is_refused_and_named(api: Api, role: str, body: object, status: int, says: str) -> None:
    await start_job(api)
    answered, answer = await api.post("/api/v1/actions", body, role=role)
    assert (answered, says in answer["error"]) == (status, True), answer
    assert orders_in(api) == []


async def test_the_description_of_the_api_is_whole(api: Api) -> None:
    status, document = await api.get("/api/v1/openapi.json", role="")
    assert (status, document["openapi"]) == (200, "3.1.0")
    assert {"/api/v1/actions", "/api/v1/incidents", "/api/v1/jobs", "/api/v1/nodes", "/api/v1/ingest", "/metrics"} <= set(document["paths"])
    named = set(_refs(document))
    assert named == {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    post = document["paths"]["/api/v1/actions"]["post"]
    assert {"202", "401", "403", "422"} <= set(post["responses"])
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


def _refs(part: object) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [ref for value in part.values() for ref in _refs(value)]
    return [ref for value in part for ref in _refs(value)] if isinstance(part, list) else []


async def test_nodes_tell_their_job_and_their_troubles(api: Api) -> None:
    await start_job(api)
    exited = {"type": "process", "at": 2.0, "pid": 7, "state": "exited", "rank": 0, "signal": 9, "since": 2.0}
    await api.agent_says(2, exited)
    _, shown = await api.get("/api/v1/nodes")
    (node,) = shown["nodes"]
    assert (node["id"], node["state"], node["job"], node["incidents"]) == ("n1", "ready", "j", ["i1"])


async def test_alerts_of_another_monitor_come_in_and_repair_nothing(api: Api) -> None:
    alert = {
        "status": "firing", "labels": {"alertname": "NodeDown", "instance": "n1:9100", "severity": "critical"},
        "annotations": {"summary": "n1 is down"}, "startsAt": "2026-11-01T10:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": "f1",
    }  # fmt: skip
    body = {"version": "4", "receiver": "holdfast", "alerts": [alert]}
    assert await api.post("/api/v1/alerts", body, role="read") == (403, {"error": "read:read may not do this"})
    assert await api.post("/api/v1/alerts", body) == (200, {"alerts": 1})
    _, shown = await api.get("/api/v1/incidents")
    assert [(i["check"], i["verdict"]["verdict"], i["verdict"]["fault"], i["orders"]) for i in shown["incidents"]] == [
        ("alert.NodeDown", "undecided", "host", [])
    ]
    resolved = {**alert, "status": "resolved", "endsAt": "2026-11-01T10:05:00Z"}
    assert (await api.post("/api/v1/alerts", {**body, "alerts": [resolved]}))[0] == 200
    _, shown = await api.get("/api/v1/incidents")
    assert [i["state"] for i in shown["incidents"]] == ["resolved"]


async def test_figures_are_open_and_lead_with_nothing_secret(api: Api) -> None:
    assert await api.get("/metrics", role="") == (200, "")

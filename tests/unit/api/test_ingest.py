"""The agents' door, as a real server on loopback."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from holdfast.config import Config, JournalTable, Token
from holdfast.config import Service as ServiceTable
from holdfast.events import Steps
from holdfast.journal import Journal
from holdfast.service import Service


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """A running service; tokens: agent of job "j", reader."""
    for name in ("agent", "read"):
        (tmp_path / name).write_text(f"{name}-secret\n")
    config = Config(
        service=ServiceTable(port=0, port_file=str(tmp_path / "port"), period_s=0.05),
        journal=JournalTable(path=str(tmp_path / "journal"), keep="all"),
        tokens=(
            Token(file=str(tmp_path / "agent"), role="agent", job="j"),
            Token(file=str(tmp_path / "read"), role="read"),
        ),
    )
    service = Service(config)
    task = asyncio.create_task(service.run())
    while not (tmp_path / "port").exists():
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{(tmp_path / 'port').read_text().strip()}"
    service.stop()
    await task


def batch(sequence: int = 1, *records: dict[str, Any], **known: Any) -> dict[str, Any]:
    return {
        "agent": "n",
        "boot": "b",
        "sequence": sequence,
        "job": "j",
        "node": "n",
        "sent_at": 1.0,
        "records": list(records),
        **known,
    }


STEP = {
    "type": "steps",
    "at": 5.0,
    "ranks": [0],
    "steps": [7],
    "ended_at": [5.0],
    "signals": ["loss"],
    "values": [[1.5]],
}


async def post(url: str, body: bytes, token: str = "agent-secret", **headers: str) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session:
        answer = await session.post(
            url + "/api/v1/ingest", data=body, headers={"Authorization": f"Bearer {token}", **headers}
        )
        return answer.status, await answer.json()


async def test_a_batch_is_acknowledged_after_it_is_in_the_journal(url: str, tmp_path: Path) -> None:
    assert await post(url, json.dumps(batch(1, STEP)).encode()) == (200, {"acknowledged": 1})
    kept = [
        seen for written in Journal(tmp_path / "journal").steps() for seen in written.inputs if isinstance(seen, Steps)
    ]
    assert [seen.steps.tolist() for seen in kept] == [[7]]


async def test_a_repeat_is_acknowledged_again_and_has_no_second_effect(url: str, tmp_path: Path) -> None:
    body = gzip.compress(json.dumps(batch(1, STEP)).encode())
    for _ in range(3):
        assert (await post(url, body, **{"Content-Encoding": "gzip"}))[0] == 200
    kept = [
        seen for written in Journal(tmp_path / "journal").steps() for seen in written.inputs if isinstance(seen, Steps)
    ]
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("body", "token", "status", "says"),
    [
        pytest.param(batch(), "wrong", 401, "token", id="an unknown token"),
        pytest.param(batch(), "read-secret", 403, "may not", id="a reader's token"),
        pytest.param(batch(job="other"), "agent-secret", 403, "does not speak", id="another job"),
        pytest.param(
            batch(1, {**STEP, "ranks": "all"}), "agent-secret", 422, "ranks", id="a field of another type is named"
        ),
        pytest.param(batch(1, {"type": "spell", "at": 1.0}), "agent-secret", 422, "spell", id="an unknown record"),
        pytest.param(batch(1, {**STEP, "values": [[1.0, 2.0]]}), "agent-secret", 422, "", id="a table that is not one"),
    ],
)
async def test_who_may_not_and_what_is_none_is_refused(
    url: str, body: dict[str, Any], token: str, status: int, says: str
) -> None:
    answered, said = await post(url, json.dumps(body).encode(), token)
    assert answered == status
    assert says in said["error"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\x00", b"[" * 10_000, b"null"], ids=["empty", "cut", "binary", "deep", "null"]
)
async def test_any_bytes_are_refused_and_stop_nothing(url: str, body: bytes) -> None:
    assert (await post(url, body))[0] == 422
    assert (await post(url, json.dumps(batch(1)).encode()))[0] == 200


async def test_people_see_jobs_and_incidents_with_their_own_token(url: str) -> None:
    change = {"type": "job", "at": 1.0, "state": "started", "attempt": 0}
    await post(url, json.dumps(batch(1, change)).encode())
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer read-secret"}) as session:
        jobs = await (await session.get(url + "/api/v1/jobs")).json()
        incidents = await (await session.get(url + "/api/v1/incidents")).json()
    assert [(job["id"], job["state"]) for job in jobs["jobs"]] == [("j", "started")]
    assert incidents["incidents"] == []

"""Calls of the API as its users make them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp


@dataclass(frozen=True)
class Api:
    """A running service. journal: its file."""

    url: str
    journal: Path

    async def get(self, path: str, role: str = "read") -> tuple[int, Any]:
        return await self._ask("GET", path, None, role)

    async def post(self, path: str, body: object, role: str = "act", **headers: str) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self._ask("POST", path, data, role, **headers)

    async def agent_says(self, sequence: int, *records: dict[str, Any]) -> list[dict[str, Any]]:
        """Bring a batch of the agent of job "j"; the orders it is answered with."""
        batch = {"agent": "n1", "boot": "b", "sequence": sequence, "job": "j", "node": "n1", "sent_at": 1.0, "records": list(records)}
        status, answer = await self.post("/api/v1/ingest", batch, role="agent")
        assert status == 200, answer
        orders: list[dict[str, Any]] = answer.get("orders", [])
        return orders

    async def _ask(self, method: str, path: str, data: bytes | None, role: str, **headers: str) -> tuple[int, Any]:
        known = {"Authorization": f"Bearer {role}-secret"} if role else {}
        async with aiohttp.ClientSession() as session:
            answer = await session.request(method, self.url + path, data=data, headers={**known, **headers})
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text

"""A real service on loopback, with a token for each role."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.config import Config, JournalTable, Remedier, Token
from holdfast.config import Service as ServiceTable
from holdfast.service import Service
from tests.unit.api.calls import Api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """A running service in mode `auto` whose jobs are repaired by their agents; agents may speak for job "j"."""
    roles = ("agent", "read", "act", "admin")
    for role in roles:
        (tmp_path / role).write_text(f"{role}-secret\n")
    config = Config(
        service=ServiceTable(port=0, port_file=str(tmp_path / "port"), period_s=0.05),
        journal=JournalTable(path=str(tmp_path / "journal"), keep="all"),
        tokens=tuple(Token(file=str(tmp_path / role), role=role, job="j" if role == "agent" else "*") for role in roles),
        remedier=Remedier(mode="auto", ladder=("restart",)),
        backends={"local": {}},
    )
    service = Service(config)
    task = asyncio.create_task(service.run())
    while not (tmp_path / "port").exists():
        await asyncio.sleep(0.01)
    yield Api(f"http://127.0.0.1:{(tmp_path / 'port').read_text().strip()}", tmp_path / "journal")
    service.stop()
    await task

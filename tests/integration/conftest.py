"""Fixtures of the tests of the whole daemon."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from daemon.demo.modeldb_v2.server import ModelDbV2StandIn
from tests.support.daemon_process import DaemonScene, daemon_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def modeldb() -> AsyncIterator[ModelDbV2StandIn]:
    async with ModelDbV2StandIn() as server:
        server.faults.database_answer_seconds = 0.05
        yield server


@pytest.fixture
async def scene(
    moto_endpoint: str, modeldb: ModelDbV2StandIn, tmp_path: Path
) -> AsyncIterator[DaemonScene]:
    """A scene with a queue of its own."""
    async with daemon_scene(moto_endpoint, modeldb.url, tmp_path) as made:
        await made.make_queues(f"q-{uuid.uuid4().hex[:8]}")
        yield made

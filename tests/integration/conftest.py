"""Fixtures of the integration tests."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from botocore.retries.standard import ExponentialBackoff

from tests.support.daemon_process import daemon_scene
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.daemon_process import DaemonScene


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Botocore retries without waiting."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda _self, _context: 0)


@pytest.fixture
async def modeldb_v1() -> AsyncIterator[ModelDbV1StandIn]:
    async with ModelDbV1StandIn() as server:
        yield server


@pytest.fixture
async def scene_v1(
    moto_endpoint: str, modeldb_v1: ModelDbV1StandIn, tmp_path: Path
) -> AsyncIterator[DaemonScene]:
    target = {
        "kind": "modeldb-v1",
        "host": "127.0.0.1",
        "port": modeldb_v1.port,
        "settle_seconds": 1,
    }
    async with daemon_scene(moto_endpoint, target, tmp_path) as made:
        await made.make_queues(f"q-{uuid.uuid4().hex[:8]}")
        yield made

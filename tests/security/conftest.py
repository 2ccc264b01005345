"""Fixtures of the security tests: a stage with the stand-ins of ModelDB, on real sockets."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from daemon.demo.modeldb_v2.server import ModelDbV2StandIn
from tests.support.daemon_process import Stage, stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def modeldb() -> AsyncIterator[ModelDbV2StandIn]:
    async with ModelDbV2StandIn() as server:
        yield server


@pytest.fixture
async def play(
    moto_endpoint: str, modeldb: ModelDbV2StandIn, tmp_path: Path
) -> AsyncIterator[Stage]:
    """A stage with a queue of its own."""
    async with stage(moto_endpoint, modeldb.url, tmp_path) as made:
        await made.make_queues(f"q-{uuid.uuid4().hex[:8]}")
        yield made

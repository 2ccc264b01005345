"""Fixtures of the integration tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from botocore.retries.standard import ExponentialBackoff

from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Botocore retries without waiting."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda _self, _context: 0)


@pytest.fixture
async def modeldb_v1() -> AsyncIterator[ModelDbV1StandIn]:
    async with ModelDbV1StandIn() as server:
        yield server

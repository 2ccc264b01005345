"""Fixtures of the ModelDB V1 target: the stand-in server, a target of it, and the check that each
test leaves nothing behind.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from tests.support.modeldb_v1_connections import nothing_left_behind
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
from tests.support.modeldb_v1_target import Permit, target_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from daemon.targets.modeldb_v1.target import ModelDBV1Target


@pytest.fixture(autouse=True)
def _no_leftovers(request: pytest.FixtureRequest) -> None:
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("_no_asyncio_leftovers")


@pytest.fixture
async def _no_asyncio_leftovers() -> AsyncIterator[None]:
    async with nothing_left_behind():
        yield


@pytest.fixture
def metadata_store() -> bool:
    """Whether the server has a MongoDB; tests of both parametrise it."""
    return True


@pytest.fixture
async def server(*, metadata_store: bool) -> AsyncIterator[ModelDbV1StandIn]:
    async with ModelDbV1StandIn(
        metadata_store=metadata_store, mongo_timeout_seconds=0.0, storage_busy_seconds=0.0
    ) as stand_in:
        yield stand_in


@pytest.fixture
def permit() -> Permit:
    return Permit()


@pytest.fixture
async def target(
    server: ModelDbV1StandIn, permit: Permit, *, metadata_store: bool
) -> AsyncIterator[ModelDBV1Target]:
    async with target_on(server.port, metadata_store=metadata_store, permit=permit) as made:
        yield made

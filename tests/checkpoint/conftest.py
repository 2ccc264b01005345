"""Every test of this folder runs on every store: what the protocol promises holds for all."""

from __future__ import annotations

import asyncio
import concurrent.futures
from functools import cache, partial
from typing import TYPE_CHECKING

import pytest

from tests.support.checkpoint_calls import TARGET, FakeClock
from tests.support.checkpoint_kinds import dynamodb_in_memory, dynamodb_on, sqlite
from tests.support.dynamodb_tables import SERVERS, make_table, place_on, set_credentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from daemon.aws.dynamodb import DynamoDbPlace
    from daemon.checkpoint.ports import Checkpoint
    from tests.support.checkpoint_kinds import CheckpointKind, OpenFor, Start


@pytest.fixture
def clock() -> FakeClock:
    """The wall clock of every checkpoint."""
    return FakeClock()


@pytest.fixture(params=["sqlite", "memory", *SERVERS])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> CheckpointKind:
    """SQLite, or DynamoDB: in memory, and on every server there is."""
    kinds: Mapping[str, CheckpointKind] = {"sqlite": sqlite, "memory": dynamodb_in_memory}
    if request.param in kinds:
        return kinds[request.param]
    set_credentials(monkeypatch)
    places: Callable[[str], DynamoDbPlace] = request.getfixturevalue("table_on")
    return partial(dynamodb_on, places(request.param))


@pytest.fixture(scope="session")
def table_on(moto_endpoint: str) -> Callable[[str], DynamoDbPlace]:
    """The table on a server, made once: every test has a part of it."""

    @cache
    def made(server: str) -> DynamoDbPlace:
        place = place_on(server, moto_endpoint)
        with concurrent.futures.ThreadPoolExecutor(1) as thread:  # a test's loop runs in this one
            thread.submit(lambda: asyncio.run(make_table(place))).result()
        return place

    return made


@pytest.fixture
async def open_for(
    kind: CheckpointKind, clock: FakeClock, tmp_path: Path
) -> AsyncIterator[OpenFor]:
    """Opens the checkpoint for a target, as one more process would."""
    async with kind(clock, tmp_path / "checkpoint.db") as open_for:
        yield open_for


@pytest.fixture
def start(open_for: OpenFor) -> Start:
    """Opens the checkpoint once more, as another process would."""
    return partial(open_for, TARGET)


@pytest.fixture
async def checkpoint(start: Start) -> Checkpoint:
    return await start()

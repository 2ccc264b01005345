"""Tables on every server there is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.dynamodb.aws_table import open_aws_table
from tests.support.dynamodb_tables import (
    SERVERS,
    aws_credentials,
    make_table,
    place_on,
    set_credentials,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from daemon.aws.dynamodb import DynamoDbPlace
    from daemon.checkpoint.dynamodb.aws_table import AwsTable

__all__ = ["aws_credentials"]

PARTITIONS = ("job#x", "job#other")
"""In which the tests write."""


@pytest.fixture(scope="session", params=SERVERS)
def place(request: pytest.FixtureRequest, moto_endpoint: str) -> DynamoDbPlace:
    """Of a table that all tests of a server share: they leave it empty."""
    place = place_on(request.param, moto_endpoint)
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_credentials(monkeypatch)
        asyncio.run(make_table(place))
    return place


@pytest.fixture
async def aws_table(place: DynamoDbPlace, aws_credentials: None) -> AsyncIterator[AwsTable]:
    table = await open_aws_table(place)
    yield table
    for partition in PARTITIONS:
        for item in await table.partition(partition):
            await table.delete(partition, str(item["sk"]), expected=int(item["version"]))
    await table.aclose()

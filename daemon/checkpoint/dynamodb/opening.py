"""Opens what `daemon.checkpoint.registry` gives out of a table, as the configuration says."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from daemon.aws.dynamodb import DynamoDbPlace
from daemon.aws.errors import unobserved
from daemon.checkpoint.dynamodb.aws_table import open_aws_table
from daemon.checkpoint.dynamodb.reader import DynamoDbReader
from daemon.checkpoint.dynamodb.store import open_dynamodb_checkpoint
from daemon.checkpoint.dynamodb.story_reader import dynamodb_story_reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from daemon.aws.errors import Observe
    from daemon.checkpoint.ports import Checkpoint
    from daemon.checkpoint.reading import CheckpointReader
    from daemon.config.settings import DynamoDbSettings
    from daemon.operations.job_story import StoryReader
    from daemon.targets.place import TargetPlace


def table_place(settings: DynamoDbSettings) -> DynamoDbPlace:
    """Where the table is."""
    return DynamoDbPlace(settings.table, settings.region, settings.endpoint_url)


async def open_checkpoint(
    settings: DynamoDbSettings, target: TargetPlace, observe: Observe = unobserved
) -> Checkpoint:
    """See `daemon.checkpoint.registry.open_checkpoint`."""
    table = await open_aws_table(table_place(settings), observe)
    try:
        return await open_dynamodb_checkpoint(
            table, target, keep_days=settings.keep_days, expires=await table.expires()
        )
    except BaseException:
        await table.aclose()
        raise


def reader(settings: DynamoDbSettings, observe: Observe = unobserved) -> CheckpointReader:
    """See `daemon.checkpoint.registry.checkpoint_reader`."""
    return DynamoDbReader(lambda: open_aws_table(table_place(settings), observe))


@asynccontextmanager
async def open_story_reader(
    settings: DynamoDbSettings, target: TargetPlace
) -> AsyncIterator[StoryReader]:
    """See `daemon.checkpoint.registry.open_story_reader`."""
    table = await open_aws_table(table_place(settings))
    try:
        yield dynamodb_story_reader(table, target)
    finally:
        await table.aclose()

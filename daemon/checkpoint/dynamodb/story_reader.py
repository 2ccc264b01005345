"""Reads what the DynamoDB checkpoint knows of single jobs: for `explain`, which may change
nothing, not even note that the table is in use for another target.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from daemon.checkpoint.dynamodb.claims import CLOCK_SKEW_SECONDS
from daemon.checkpoint.dynamodb.store import DynamoDbCheckpoint, clock_ahead
from daemon.clock import wall

if TYPE_CHECKING:
    from daemon.checkpoint.dynamodb.table import Table
    from daemon.operations.job_story import StoryReader
    from daemon.targets.place import TargetPlace


def dynamodb_story_reader(table: Table, target: TargetPlace) -> StoryReader:
    """The reading methods of the checkpoint about one job.

    Args:
        table: that has the checkpoint; the caller closes it.
        target: whose jobs are asked about.
    """
    return DynamoDbCheckpoint(  # its `open`, which notes the use, is not called
        table,
        target,
        keep_seconds=0.0,
        expires=True,
        clock_skew_seconds=CLOCK_SKEW_SECONDS,
        clock=wall,
        ahead=clock_ahead,
        jitter=random.Random(),  # noqa: S311 - jitter, no secret
    )

"""Reads what the SQLite checkpoint knows of single jobs, on a read-only connection: for `explain`,
which may change nothing, not even make a checkpoint known to a new target.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from daemon.checkpoint.ports import ClaimedElsewhere
from daemon.checkpoint.sqlite import claim_rows, job_rows, request_rows, story_rows, watched_rows
from daemon.checkpoint.sqlite.schema import MIGRATIONS, require_version
from daemon.clock import wall
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from daemon.checkpoint.ports import JobRecord, RejectedMessage, SyncRequest, WatchedJob
    from daemon.story import StoryEntry
    from daemon.targets.place import TargetPlace

T = TypeVar("T")

READ_SECONDS = 15.0


class SqliteStoryReader:
    """The reading methods of `daemon.checkpoint.ports.Checkpoint` about one job.

    Each raises `SetupFault` if the file is no checkpoint, or one of another version of this
    program, and `EdgeFault` if it cannot be read.

    Args:
        path: of the database.
        target: whose jobs are asked about.
    """

    def __init__(self, path: Path, target: TargetPlace) -> None:
        self._path = path
        self._target = target

    async def jobs_named(self, name: str) -> Sequence[JobRecord]:
        return await self._read(lambda connection: job_rows.named(connection, self._target, name))

    async def story(self, job_arn: str) -> Sequence[StoryEntry]:
        return await self._read(
            lambda connection: story_rows.find(connection, self._target, job_arn.lower())
        )

    async def rejected_about(self, job_arn: str) -> Sequence[RejectedMessage]:
        return await self._read(
            lambda connection: job_rows.messages_about(connection, job_arn.lower())
        )

    async def claim_on(self, job_arn: str) -> ClaimedElsewhere | None:
        held = await self._read(
            lambda connection: claim_rows.find(connection, self._target, job_arn.lower())
        )
        now = wall()
        if held is None or held.lease_until <= now:
            return None
        return ClaimedElsewhere(held.claim.owner, held.lease_until - now)

    async def watching(self, job_arn: str) -> Sequence[WatchedJob]:
        return await self._read(
            lambda connection: watched_rows.of_arn(connection, self._target, job_arn.lower())
        )

    async def requests_about(self, job: str) -> Sequence[SyncRequest]:
        rows = await self._read(
            lambda connection: request_rows.about(connection, self._target, job)
        )
        return [row.request for row in rows]

    async def _read(self, run: Callable[[sqlite3.Connection], T]) -> T:
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await asyncio.to_thread(self._with_connection, run)
        except (sqlite3.Error, OSError, TimeoutError) as error:
            why = str(error) or f"no answer within {READ_SECONDS:g} s"
            raise EdgeFault(
                Edge.CHECKPOINT,
                Reason.STORAGE,
                f"checkpoint {self._path}: cannot be read ({why}); let this user read the file and "
                "write in its directory",
            ) from error

    def _with_connection(self, run: Callable[[sqlite3.Connection], T]) -> T:
        with closing(
            sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro",
                uri=True,
                timeout=READ_SECONDS / 3,
                isolation_level=None,
            )
        ) as connection:
            connection.row_factory = sqlite3.Row
            require_version(connection, self._path, newest=len(MIGRATIONS))
            return run(connection)

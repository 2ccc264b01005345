"""Health probe of a ModelDB V1 server, on a connection of its own so that it delays no job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.targets.modeldb_v1.connection import Connection

PENDING_SECONDS = 900.0
"""How long an unanswered probe keeps its connection. While its metadata store hangs, each waiting
connection occupies one of the server's 100 threads even after it was closed, so later probes wait
on the same connection."""


class Probe:
    """Runs one probe at a time.

    Args:
        connect: opens a connection whose calls may take `PENDING_SECONDS`.
        call_seconds: deadline of one probe.
        metadata_store: whether to read from the metadata store, too.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        *,
        call_seconds: float,
        metadata_store: bool,
    ) -> None:
        self._connect = connect
        self._call_seconds = call_seconds
        self._metadata_store = metadata_store
        self._pending: Connection | None = None

    async def ask(self) -> None:
        """Reads from the server's database and metadata store.

        Raises:
            CallFailed: a read failed.
        """
        connection, self._pending = self._pending, None
        if connection is None or connection.closed:
            connection = await self._connect()
        try:
            async with asyncio.timeout(self._call_seconds):
                await connection.call(
                    "getProjectIds", keyValuePairs={"name": "sagemaker-modeldb-sync probe"}
                )
                if self._metadata_store:
                    await connection.call("getModelIds", keyValuePairs={"JOB.arn": "none"})
        except TimeoutError as error:
            self._pending = connection
            detail = f"no answer within {self._call_seconds:.0f} s"
            raise CallFailed(
                CallErrorKind.UNREACHABLE,
                "getModelIds" if self._metadata_store else "getProjectIds",
                detail,
            ) from error
        except BaseException:
            await connection.aclose()
            raise
        await connection.aclose()

    async def aclose(self) -> None:
        if self._pending is not None:
            await self._pending.aclose()

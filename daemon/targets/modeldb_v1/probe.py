"""Health probe of a ModelDB V1 server: reads that touch its database and its metadata store, and
the comparison of the two.
"""

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


async def read_stores(connection: Connection, *, metadata_store: bool) -> None:
    """Reads from the server's database and, if it has one, its metadata store. Both reads are
    cheap however much is stored: MongoDB always has an index on ``_id``.

    Raises:
        CallFailed: a read failed.
    """
    await connection.call("getProjectIds", keyValuePairs={"name": "sagemaker-modeldb-sync probe"})
    if metadata_store:
        await connection.call("getModelIds", keyValuePairs={"_id": "sagemaker-modeldb-sync probe"})


class Probe:
    """Runs one probe at a time, on connections of its own so that it delays no job. Several tasks
    may ask; each gets the answer to a probe that began after it asked.

    Args:
        connect: opens a connection whose calls may take `PENDING_SECONDS`.
        call_seconds: deadline of one probe.
        metadata_store: whether to read from the metadata store, too.
        compare: compares the two over a connection. Raises `CallFailed`.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        *,
        call_seconds: float,
        metadata_store: bool,
        compare: Callable[[Connection], Awaitable[object]] | None = None,
    ) -> None:
        self._connect = connect
        self._call_seconds = call_seconds
        self._metadata_store = metadata_store
        self._compare = compare
        self._asking = asyncio.Lock()
        self._pending: Connection | None = None

    async def ask(self) -> None:
        """Reads from the server's database and metadata store.

        Raises:
            CallFailed: a read failed, or there was no answer in time, which counts from now also
                while another task's probe is under way.
        """
        try:
            async with asyncio.timeout(self._call_seconds), self._asking:
                await self._ask()
        except TimeoutError as error:
            raise CallFailed(
                CallErrorKind.UNREACHABLE,
                "getModelIds" if self._metadata_store else "getProjectIds",
                f"no answer within {self._call_seconds:.0f} s",
            ) from error

    async def _ask(self) -> None:
        connection, self._pending = self._pending, None
        if connection is None or connection.closed:
            connection = await self._connect()
        try:
            await read_stores(connection, metadata_store=self._metadata_store)
            if self._metadata_store and self._compare is not None:
                await self._compare(connection)
        except asyncio.CancelledError:
            # if the server is still at it, the next probe waits for it on this connection
            self._pending = connection
            raise
        except BaseException:
            await connection.aclose()
            raise
        await connection.aclose()

    async def aclose(self) -> None:
        if self._pending is not None:
            await self._pending.aclose()

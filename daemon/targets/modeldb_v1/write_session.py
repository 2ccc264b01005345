"""The write session with a ModelDB V1 server.

ModelDB V1 is not safe for concurrent writers: rows written over two connections get mixed up. So
all writes of this process share one connection, in order, and only while it holds the writer lease.
The server may still execute requests of a lost connection. After every connect (also the first: the
previous writer may just have been killed) the session therefore waits until they have drained
(`settle_seconds`), then reads, and only then writes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from daemon.clock import monotonic
from daemon.errors import JobFault
from daemon.reasons import Reason
from daemon.targets.modeldb_v1.run_index import RunIndex

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.targets.modeldb_v1.connection import Connection
    from daemon.targets.ports import WritePermit

log = structlog.get_logger(__name__)

STAND_BY_SECONDS = 5.0
"""Visibility timeout of a message received while another process is the writer."""

SETTLE_STEP_SECONDS = 1.0
PROMPT_SECONDS = 2.0
"""A running server answers an empty call within this time even under load, because each connection
has its own thread."""


@dataclass(frozen=True, slots=True)
class Term:
    """A settled connection and the index of what has been read and written over it."""

    connection: Connection
    run_index: RunIndex


class WriteSession:
    """Provides the one write connection, reconnected when lost.

    Args:
        connect: opens a connection.
        permit: the writer lease.
        settle_seconds: how long the server may go on executing requests of an earlier connection.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        permit: WritePermit,
        *,
        settle_seconds: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connect = connect
        self._permit = permit
        self._settle_seconds = settle_seconds
        self._sleep = sleep
        self._connecting = asyncio.Lock()
        self._term: Term | None = None
        permit.on_end(self.cut)

    async def term(self) -> Term:
        """The current connection, settled; connects if there is none.

        Raises:
            JobFault: this process is not the writer.
            CallFailed: no connection, or it was lost while settling.
        """
        async with self._connecting:
            self._refuse_unless_writer()
            if self._term is None or self._term.connection.closed:
                self._term = await self._settled()
            return self._term

    def _refuse_unless_writer(self) -> None:
        if not self._permit.holds:
            raise JobFault(
                Reason.STANDING_BY,
                "another process is the writer of this ModelDB V1",
                delay_seconds=STAND_BY_SECONDS,
            )

    async def _settled(self) -> Term:
        connection = await self._connect()
        try:
            await self._settle(connection)
            self._refuse_unless_writer()
        except BaseException:
            await connection.aclose()
            raise
        log.debug("connected to ModelDB V1", settle_seconds=self._settle_seconds)
        return Term(connection, RunIndex(connection))

    async def _settle(self, connection: Connection) -> None:
        """Waits for the settle time. Only time during which the server answers promptly counts: a
        frozen server is not draining earlier requests either.
        """
        settled = 0.0
        while settled < self._settle_seconds:
            part = min(SETTLE_STEP_SECONDS, self._settle_seconds - settled)
            await self._sleep(part)
            self._refuse_unless_writer()
            asked = monotonic()
            await connection.call("testConnection")
            late = monotonic() - asked
            if late > PROMPT_SECONDS:
                log.warning(
                    "ModelDB V1 answers late; its settle time starts over",
                    late_seconds=round(late, 1),
                )
            settled = settled + part if late <= PROMPT_SECONDS else 0.0

    def cut(self) -> None:
        """Ends the connection at once; unanswered calls have an unknown outcome."""
        if self._term is not None:
            self._term.connection.abort()

    async def aclose(self) -> None:
        """Closes the connection; keeps the writer lease if the server may still execute a call."""
        term = self._term
        clean = term is None or (not term.connection.closed and not term.connection.unanswered)
        if term is not None:
            await term.connection.aclose()
        if clean:
            await self._permit.release()

"""The line to a ModelDB V1: the one connection on which this process writes, made anew when it is
lost.

ModelDB V1 serves each connection in a thread of its own and does not keep two writing threads
apart: the rows of jobs that are written over two connections get mixed up. So everything goes over
one, in order, and only while this process is the writer of the server. A connection that is lost
goes on writing for a moment: after each connect, also the first (the last writer may just have been
killed), the server is given `settle_seconds` of work before anything is read, and nothing is
written before it has been read.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from daemon.clock import monotonic
from daemon.errors import JobFault
from daemon.outcome import Reason
from daemon.targets.modeldb_v1.run_index import RunIndex

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.targets.modeldb_v1.connection import Connection
    from daemon.targets.ports import WritePermit

log = structlog.get_logger(__name__)

STAND_BY_SECONDS = 5.0
"""After which a message that came while this process is not the writer is shown again."""

SETTLE_STEP_SECONDS = 1.0
PROMPT_SECONDS = 2.0
"""A server at work answers the emptiest of calls within this time, also a loaded one: each
connection has a thread of its own."""


@dataclass(frozen=True, slots=True)
class Term:
    """A connection and what has been read and written over it."""

    connection: Connection
    projects: RunIndex


class WriteSession:
    """Gives every job the same connection.

    Args:
        connect: opens a connection.
        permit: says whether this process is the writer.
        settle_seconds: after a connect, until the server has ended what was sent on an earlier
            connection.
        sleep: waits so many seconds.
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
        """The living connection, settled.

        Raises:
            JobFault: this process is not the writer.
            CallFailed: no connection can be had.
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
        """Waits until the server has worked for the settle time: frozen, it does not carry out
        either what it was sent before.
        """
        settled = 0.0
        while settled < self._settle_seconds:
            part = min(SETTLE_STEP_SECONDS, self._settle_seconds - settled)
            await self._sleep(part)
            self._refuse_unless_writer()  # no longer, perhaps
            asked = monotonic()
            await connection.call("testConnection")
            late = monotonic() - asked
            if late > PROMPT_SECONDS:
                log.warning(
                    "ModelDB V1 answers late; it is given its settle time anew",
                    late_seconds=round(late, 1),
                )
            settled = settled + part if late <= PROMPT_SECONDS else 0.0

    def cut(self) -> None:
        """Ends the connection at once; what is under way on it stays without an answer."""
        if self._term is not None:
            self._term.connection.abort()

    async def aclose(self) -> None:
        """Ends the connection, and gives the right to write back, unless something is or may be
        under way on the server.
        """
        term = self._term
        clean = term is None or (not term.connection.closed and not term.connection.unanswered)
        if term is not None:
            await term.connection.aclose()
        if clean:
            await self._permit.release()

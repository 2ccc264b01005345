"""The write session with a ModelDB V1 server.

ModelDB V1 is not safe for concurrent writers: rows written over two connections get mixed up. So
all writes of this process share one connection, in order, and only while it holds the writer lease.

The server may still execute requests of a lost connection, of this process or of the previous
writer. So before every term the session probes the server, connects, waits until those requests
have drained (`settle_seconds`), then reads, and only then writes.

While MongoDB is away, they do not drain: a server thread waits for it for 30 s in storeFitEvent,
and then still executes the next request of its connection, long after the client has gone. That
does not show in an empty call, so the probe and each step of settling read from MongoDB, too. When
it comes back, the waiting threads go on within 0.2 s.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from daemon.clock import monotonic
from daemon.errors import JobFault
from daemon.reasons import Reason
from daemon.targets.modeldb_v1.errors import CallFailed
from daemon.targets.modeldb_v1.model_search import ModelIndex
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
"""A running server with its stores answers small reads within this time even under load, because
each connection has its own thread."""


@dataclass(frozen=True, slots=True)
class Term:
    """A settled connection and the indexes of what has been read and written over it."""

    connection: Connection
    run_index: RunIndex
    model_index: ModelIndex


class WriteSession:
    """Provides the one write connection, reconnected when lost.

    Args:
        connect: opens a connection.
        permit: the writer lease.
        probe: tests the server and its stores without the connection. Raises `CallFailed`.
        read_stores: the same over a connection.
        settle_seconds: how long the server may go on executing requests of an earlier connection.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        permit: WritePermit,
        *,
        probe: Callable[[], Awaitable[object]],
        read_stores: Callable[[Connection], Awaitable[object]],
        settle_seconds: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connect = connect
        self._permit = permit
        self._probe = probe
        self._read_stores = read_stores
        self._settle_seconds = settle_seconds
        self._sleep = sleep
        self._connecting = asyncio.Lock()
        self._term: Term | None = None
        self._failures = 0
        self._failure: CallFailed | None = None
        permit.on_end(self.cut)

    async def term(self) -> Term:
        """The current connection, settled; connects if there is none.

        Raises:
            JobFault: this process is not the writer.
            CallFailed: the server or one of its stores does not answer, or the connection was lost
                while settling. All who wait for an attempt get its failure.
        """
        failures = self._failures
        async with self._connecting:
            self._refuse_unless_writer()
            if self._term is not None and not self._term.connection.closed:
                return self._term
            if self._failure is not None and self._failures != failures:
                # attempts of all who wait, one after the other, could take 30 s each
                raise _copy(self._failure)
            try:
                self._term = await self._settled()
            except CallFailed as failed:
                self._failures, self._failure = self._failures + 1, failed
                raise
            return self._term

    def _refuse_unless_writer(self) -> None:
        if not self._permit.holds:
            raise JobFault(
                Reason.STANDING_BY,
                "another process is the writer of this ModelDB V1",
                delay_seconds=STAND_BY_SECONDS,
            )

    async def _settled(self) -> Term:
        # first, because a server thread is bound to each connection that waits for MongoDB
        await self._probe()
        self._refuse_unless_writer()
        connection = await self._connect()
        try:
            await self._settle(connection)
            self._refuse_unless_writer()
            term = await self._term_on(connection)
        except BaseException:
            await connection.aclose()
            raise
        log.debug("connected to ModelDB V1", settle_seconds=self._settle_seconds)
        return term

    async def _term_on(self, connection: Connection) -> Term:
        """A term whose indexes are new; what the last one knew of models holds unless the server
        was reset.
        """
        run_index, last = RunIndex(connection), self._term
        if last is None:
            return Term(connection, run_index, ModelIndex(connection))
        witness = last.run_index.newest()
        if witness is None or await run_index.still_has(*witness):
            return Term(connection, run_index, ModelIndex(connection, last.model_index.newest))
        marker, run = witness
        log.warning(
            "ModelDB V1 was reset: the newest run that this process knew is gone",
            run_id=run.run_id,
            project_id=run.project_id,
            mark=marker,
        )
        return Term(connection, RunIndex(connection), ModelIndex(connection))

    async def _settle(self, connection: Connection) -> None:
        """Waits for the settle time. Only time during which the server and its stores answer
        promptly counts: otherwise it is not draining earlier requests either.
        """
        settled = 0.0
        while settled < self._settle_seconds:
            part = min(SETTLE_STEP_SECONDS, self._settle_seconds - settled)
            await self._sleep(part)
            self._refuse_unless_writer()
            asked = monotonic()
            await self._read_stores(connection)
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


def _copy(failed: CallFailed) -> CallFailed:
    """For another caller: an exception has one traceback."""
    return CallFailed(
        failed.kind, failed.method, failed.detail, answered=failed.answered, sent=failed.sent
    )

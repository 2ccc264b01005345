"""Group commit: all operations requested during a commit share the next transaction, so the number
of fsyncs does not grow with the number of concurrent jobs.

A disk or network file system can hang for minutes, and then the thread hangs in a system call that
nothing can interrupt. So every call has a deadline, and the thread keeps no process alive.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from daemon.checkpoint.sqlite.daemon_thread import DaemonThread
from daemon.errors import EdgeFault, SetupFault
from daemon.log_context import context_about_no_job
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.checkpoint.sqlite.database import Answer, Database, Operation

T = TypeVar("T")

CALL_SECONDS = 15.0
"""Deadline of a call. Exceeds two transactions that each wait for another process, and is half of
what a claim's lease has left when it is renewed."""
GATHER_SECONDS = 0.02
"""Between two transactions while several callers are busy. A transaction costs as much processor
time as several operations, and a target's call takes longer."""
OPEN_SECONDS = 120.0
"""Deadline for opening the database, which checks and migrates the whole file."""


class GroupCommit:
    """Passes operations from the event loop to the database's thread, in order.

    Args:
        database: to be opened.
        call_seconds: deadline of a call.
        open_seconds: deadline for opening the database.
    """

    def __init__(
        self,
        database: Database,
        *,
        call_seconds: float = CALL_SECONDS,
        open_seconds: float = OPEN_SECONDS,
    ) -> None:
        self._database = database
        self._call_seconds = call_seconds
        self._open_seconds = open_seconds
        self._thread = DaemonThread("checkpoint")
        self._waiting: list[tuple[Operation[Any], asyncio.Future[Any]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Opens the database.

        Raises:
            SetupFault: it cannot be used.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._open_seconds):
                await loop.run_in_executor(self._thread, self._database.open)
        except TimeoutError as error:
            # the closer waits for the thread, which may never come back
            self._begin_close()
            raise SetupFault(self._hangs(self._open_seconds)) from error
        except BaseException:
            # after a cancellation too: the thread finishes what it has begun
            await self.aclose()
            raise

    async def run(self, operation: Operation[T]) -> T:
        """Returns when the operation is durable. It is carried out even if the caller is cancelled.

        Raises:
            EdgeFault: the storage failed or hangs, or `aclose` was called. Whether an operation
                that hangs is carried out later is unknown, unless it had not begun: then it is not.
            Exception: whatever the operation raised; it changed nothing.
        """
        if self._closer is not None:
            raise EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "the checkpoint is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        waiting = (operation, future)
        self._waiting.append(waiting)
        if self._flusher is None or self._flusher.done():
            self._flusher = loop.create_task(
                self._flush(), name="checkpoint flusher", context=context_about_no_job()
            )
        try:
            async with asyncio.timeout(self._call_seconds):
                return await future
        except TimeoutError as error:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            raise EdgeFault(
                Edge.CHECKPOINT, Reason.STORAGE, self._hangs(self._call_seconds)
            ) from error

    async def aclose(self) -> None:
        """Carries out what is waiting, then closes the database. Idempotent, even if cancelled.
        Does not return while the storage hangs.
        """
        await asyncio.shield(self._begin_close())

    def _begin_close(self) -> asyncio.Task[None]:
        if self._closer is None:
            self._closer = asyncio.get_running_loop().create_task(
                self._close(), name="checkpoint closer"
            )
        return self._closer

    def _hangs(self, seconds: float) -> str:
        return (
            f"checkpoint {self._database.path}: the storage has not answered within {seconds:g} s; "
            "look at the disk or network file system, and at the kernel's log"
        )

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            futures = [future for _, future in batch]
            try:
                answers = await loop.run_in_executor(
                    self._thread, self._database.apply, [operation for operation, _ in batch]
                )
            except EdgeFault as fault:
                for future in futures:
                    _fail(future, EdgeFault(fault.edge, fault.reason, fault.detail))
            except Exception as error:  # noqa: BLE001 - a bug, which the callers must see
                for future in futures:
                    _fail(future, error)
            else:
                _resolve(futures, answers)
            finally:
                for future in futures:
                    future.cancel()  # no effect on those that are done
            # the next operations of these callers join the next batch; one caller has not to wait
            await asyncio.sleep(GATHER_SECONDS if len(batch) > 1 else 0)

    async def _close(self) -> None:
        if self._flusher is not None:
            await asyncio.wait([self._flusher])
        await self._flush()  # in case the flusher was cancelled
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown()


def _resolve(futures: Sequence[asyncio.Future[Any]], answers: Sequence[Answer]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if answer.error is not None:
            _fail(future, answer.error)
        elif not future.done():
            future.set_result(answer.value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)

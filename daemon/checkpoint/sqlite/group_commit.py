"""Group commit: all operations requested during a commit share the next transaction, so the number
of fsyncs does not grow with the number of concurrent jobs.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.checkpoint.sqlite.database import Answer, Database, Operation

T = TypeVar("T")


class GroupCommit:
    """Passes operations from the event loop to the database's thread, in order."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._waiting: list[tuple[Operation[Any], asyncio.Future[Any]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Opens the database.

        Raises:
            SetupFault: it cannot be used.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._database.open)
        except BaseException:
            # after a cancellation too: the thread finishes what it has begun
            await self.aclose()
            raise

    async def run(self, operation: Operation[T]) -> T:
        """Returns when the operation is durable. It is carried out even if the caller is cancelled.

        Raises:
            EdgeFault: the storage failed, or `aclose` was called.
            Exception: whatever the operation raised; it changed nothing.
        """
        if self._closer is not None:
            raise EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "the checkpoint is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((operation, future))
        if self._flusher is None or self._flusher.done():
            self._flusher = loop.create_task(self._flush(), name="checkpoint flusher")
        return await future

    async def aclose(self) -> None:
        """Carries out what is waiting, then closes the database. Idempotent, even if cancelled."""
        if self._closer is None:
            self._closer = asyncio.get_running_loop().create_task(
                self._close(), name="checkpoint closer"
            )
        await asyncio.shield(self._closer)

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
            await asyncio.sleep(0)  # the next operations of these callers join the next batch

    async def _close(self) -> None:
        if self._flusher is not None:
            await asyncio.wait([self._flusher])
        await self._flush()  # in case the flusher was cancelled
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown(wait=False)


def _resolve(futures: Sequence[asyncio.Future[Any]], answers: Sequence[Answer]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if answer.error is not None:
            _fail(future, answer.error)
        elif not future.done():
            future.set_result(answer.value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)

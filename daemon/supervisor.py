"""Owns the tasks of the daemon, so that none can end unnoticed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from daemon.log_context import context_about_no_job

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine

    from daemon.observability.watchdog import Watchdog

log = structlog.get_logger(__name__)


class Supervisor:
    """Starts tasks, and stops the daemon when one of them fails or a loop ends.

    Args:
        stop: the event that begins the stop.
        watchdog: reports dead loops.

    Attributes:
        failure: the first error; None while all is well.
    """

    def __init__(self, stop: asyncio.Event, watchdog: Watchdog) -> None:
        self._stop = stop
        self._watchdog = watchdog
        self._loops: list[asyncio.Task[None]] = []
        self._jobs: set[asyncio.Task[None]] = set()
        self.failure: BaseException | None = None

    def loop(self, name: str, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Starts a task that must not end before the stop."""
        task = asyncio.create_task(coroutine, name=name, context=context_about_no_job())
        self._loops.append(task)
        task.add_done_callback(self._loop_ended)
        return task

    def job(self, coroutine: Coroutine[object, object, None]) -> None:
        """Starts a task that ends by itself."""
        task = asyncio.create_task(coroutine, context=context_about_no_job())
        self._jobs.add(task)
        task.add_done_callback(self._job_ended)

    async def cancel_loops(self, seconds: float) -> bool:
        """Cancels all loops, and waits for them; False: some did not end in time."""
        for task in self._loops:
            task.remove_done_callback(self._loop_ended)
        return await _cancelled(self._loops, seconds)

    async def cancel_jobs(self, seconds: float) -> bool:
        """Cancels all other tasks, and waits for them; False: some did not end in time."""
        return await _cancelled(self._jobs, seconds)

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        if self._stop.is_set() and not task.cancelled() and task.exception() is None:
            return
        error = None if task.cancelled() else task.exception()
        self._watchdog.pulse(task.get_name()).dead = True
        self._fail(task.get_name(), error or RuntimeError(f"the loop {task.get_name()} ended"))

    def _job_ended(self, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail("job", error)

    def _fail(self, name: str, error: BaseException) -> None:
        log.error(
            "a task of the daemon ended; stopping", task=name, error=repr(error), exc_info=error
        )
        if self.failure is None:
            self.failure = error
        self._stop.set()


async def _cancelled(tasks: Collection[asyncio.Task[None]], seconds: float) -> bool:
    """Cancels tasks and waits for their end, twice: the first cancellation lets a task finish what
    it has sent, the second does not.
    """
    for _ in range(2):
        running = [task for task in tasks if not task.done()]
        if not running:
            break
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=seconds / 2)
    return all(task.done() for task in tasks)

"""Owns the loops of the daemon: nothing runs without somebody who notices when it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from daemon.observability.watchdog import Watchdog

log = structlog.get_logger(__name__)


class Supervisor:
    """Starts tasks, and sets one event when one of its loops ends by itself.

    Args:
        stop: set when a loop has died: the daemon's one stop path.
        watchdog: told of dead loops.
    """

    def __init__(self, stop: asyncio.Event, watchdog: Watchdog) -> None:
        self._stop = stop
        self._watchdog = watchdog
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self.failure: BaseException | None = None

    def loop(self, name: str, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Starts something that is not to end before the stop."""
        task = asyncio.create_task(coroutine, name=name)
        self._loops[name] = task
        task.add_done_callback(self._loop_ended)
        return task

    def job(self, coroutine: Coroutine[object, object, None]) -> None:
        """Starts something that ends by itself."""
        task = asyncio.create_task(coroutine)
        self._jobs.add(task)
        task.add_done_callback(self._job_ended)

    async def cancel_loops(self, names: Iterable[str] | None = None) -> None:
        """Ends loops, all or those named, and waits for them."""
        tasks = [task for name, task in self._loops.items() if names is None or name in names]
        for task in tasks:
            task.remove_done_callback(self._loop_ended)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def cancel_jobs(self) -> None:
        for task in self._jobs:
            task.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

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

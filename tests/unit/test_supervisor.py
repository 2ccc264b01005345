"""A loop that ends by itself stops the daemon, with its error."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from daemon.observability.watchdog import Watchdog
from daemon.supervisor import Supervisor
from tests.support.log_lines import log_lines


async def test_a_dead_loop_stops_the_daemon() -> None:
    stop, watchdog = asyncio.Event(), Watchdog()
    supervisor = Supervisor(stop, watchdog)
    error = RuntimeError("a bug")

    async def dies() -> None:
        raise error

    supervisor.loop("poller", dies())
    async with asyncio.timeout(5):
        await stop.wait()
    assert supervisor.failure is error
    assert watchdog.checks() == {"poller": "ended"}


async def test_a_loop_may_end_once_the_daemon_stops() -> None:
    stop, watchdog = asyncio.Event(), Watchdog()
    supervisor = Supervisor(stop, watchdog)
    stop.set()
    task = supervisor.loop("poller", asyncio.sleep(0))
    await task
    await asyncio.sleep(0)
    assert supervisor.failure is None
    await supervisor.cancel_loops(1)


async def test_a_failed_job_stops_the_daemon() -> None:
    stop = asyncio.Event()
    supervisor = Supervisor(stop, Watchdog())

    async def fails() -> None:
        raise ValueError("a bug")

    supervisor.job(fails())
    async with asyncio.timeout(5):
        await stop.wait()
    assert isinstance(supervisor.failure, ValueError)


async def test_a_task_that_ends_is_logged_by_name() -> None:
    stop = asyncio.Event()

    async def dies() -> None:
        raise RuntimeError("a bug")

    with capture_logs() as logs:
        Supervisor(stop, Watchdog()).loop("poller 1", dies())
        async with asyncio.timeout(5):
            await stop.wait()
    [line] = log_lines(logs, "a task of the daemon ended; stopping")
    assert (line["log_level"], line["task"], line["error"]) == (
        "error",
        "poller 1",
        "RuntimeError('a bug')",
    )

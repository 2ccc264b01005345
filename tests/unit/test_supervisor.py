"""A loop that ends by itself stops the daemon, and says why; watchdog tells waiting from
hanging.
"""

from __future__ import annotations

import asyncio

from daemon.observability.watchdog import Watchdog
from daemon.supervisor import Supervisor


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
    await supervisor.cancel_loops()


async def test_a_failed_job_stops_the_daemon() -> None:
    stop = asyncio.Event()
    supervisor = Supervisor(stop, Watchdog())

    async def fails() -> None:
        raise ValueError("a bug")

    supervisor.job(fails())
    async with asyncio.timeout(5):
        await stop.wait()
    assert isinstance(supervisor.failure, ValueError)


def test_a_loop_that_waits_is_alive_and_one_over_its_time_hangs() -> None:
    now = 0.0
    watchdog = Watchdog(lambda: now)
    pulse = watchdog.pulse("poller 1")
    pulse.work(35)
    now = 34.0
    assert watchdog.checks() == {"poller 1": "ok"}
    now = 45.0
    assert watchdog.checks() == {"poller 1": "hangs: 10 s over its time"}
    pulse.rest()
    now = 1e6
    assert watchdog.checks() == {"poller 1": "ok"}

"""A loop that ends by itself stops the daemon, and says why; liveness tells waiting from hanging."""

from __future__ import annotations

import asyncio

from daemon.liveness import Liveness
from daemon.supervisor import Supervisor


async def test_a_dead_loop_stops_the_daemon() -> None:
    stop, liveness = asyncio.Event(), Liveness()
    supervisor = Supervisor(stop, liveness)
    error = RuntimeError("a bug")

    async def dies() -> None:
        raise error

    supervisor.loop("poller", dies())
    async with asyncio.timeout(5):
        await stop.wait()
    assert supervisor.failure is error
    assert liveness.checks() == {"poller": "ended"}


async def test_a_loop_may_end_once_the_daemon_stops() -> None:
    stop, liveness = asyncio.Event(), Liveness()
    supervisor = Supervisor(stop, liveness)
    stop.set()
    task = supervisor.loop("poller", asyncio.sleep(0))
    await task
    await asyncio.sleep(0)
    assert supervisor.failure is None
    await supervisor.cancel_loops()


async def test_a_failed_job_stops_the_daemon() -> None:
    stop = asyncio.Event()
    supervisor = Supervisor(stop, Liveness())

    async def fails() -> None:
        raise ValueError("a bug")

    supervisor.job(fails())
    async with asyncio.timeout(5):
        await stop.wait()
    assert isinstance(supervisor.failure, ValueError)


def test_a_loop_that_waits_is_alive_and_one_over_its_time_hangs() -> None:
    now = 0.0
    liveness = Liveness(lambda: now)
    pulse = liveness.pulse("poller 1")
    pulse.work(35)
    now = 34.0
    assert liveness.checks() == {"poller 1": "ok"}
    now = 45.0
    assert liveness.checks() == {"poller 1": "hangs: 10 s over its time"}
    pulse.rest()
    now = 1e6
    assert liveness.checks() == {"poller 1": "ok"}

"""Lines about an edge name no job, whatever message was in work when its task was started."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from daemon.app import Daemon
from daemon.checkpoint.sqlite.group_commit import GroupCommit
from daemon.errors import EdgeFault
from daemon.intake.breaker import Breaker, Breakers
from daemon.log_context import about_no_job
from daemon.observability.watchdog import Watchdog
from daemon.reasons import Edge, Reason
from daemon.supervisor import Supervisor
from tests.support.flow_scene import CountingBackoff
from tests.support.settings_factory import settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.checkpoint.sqlite.database import Database


@pytest.fixture(autouse=True)
def a_job_in_work() -> Iterator[None]:
    clear_contextvars()
    bind_contextvars(job="unrelated", message_id="m-1")
    yield
    clear_contextvars()


async def test_a_loop_and_a_message_do_not_inherit_the_job_of_who_starts_them() -> None:
    supervisor = Supervisor(asyncio.Event(), Watchdog())
    seen: list[dict[str, object]] = []
    done = asyncio.Event()

    async def looks() -> None:
        seen.append(get_contextvars())
        if len(seen) == 2:
            done.set()
        await asyncio.Event().wait()

    supervisor.loop("breaker", looks())
    supervisor.job(looks())
    async with asyncio.timeout(5):
        await done.wait()
    await supervisor.cancel_loops(1)
    await supervisor.cancel_jobs(1)

    assert seen == [{}, {}]
    assert get_contextvars() == {"job": "unrelated", "message_id": "m-1"}


async def test_what_is_about_no_job_is_so_only_in_the_block() -> None:
    with about_no_job():
        assert get_contextvars() == {}
        await asyncio.sleep(0)
        assert get_contextvars() == {}
    assert get_contextvars() == {"job": "unrelated", "message_id": "m-1"}

    with pytest.raises(ValueError, match="a bug"), about_no_job():
        raise ValueError("a bug")
    assert get_contextvars() == {"job": "unrelated", "message_id": "m-1"}


class _Nowhere:
    path = "nowhere"


async def test_the_flusher_of_the_checkpoint_is_about_no_job() -> None:
    """It is started by the first message that writes, and works for all."""
    seen: list[dict[str, object]] = []

    class Looks(GroupCommit):
        async def _flush(self) -> None:
            seen.append(get_contextvars())

    commits = Looks(cast("Database", _Nowhere()), call_seconds=0.01)
    with pytest.raises(EdgeFault):
        await commits.run(cast("Any", None))
    assert seen == [{}]


async def test_a_fault_that_a_message_finds_is_said_of_the_edge(tmp_path: Path) -> None:
    daemon = Daemon(settings(tmp_path / "checkpoint.db"))

    async def probe() -> None:
        """It works."""

    noted: list[dict[str, object]] = []

    def on_change(_open: object) -> None:
        noted.append(get_contextvars())

    daemon._breakers = Breakers(
        Breaker(edge, probe, CountingBackoff(), on_change, proven=True) for edge in Edge
    )
    noted.clear()
    daemon._on_fault(EdgeFault(Edge.SAGEMAKER, Reason.THROTTLED, "slow down"))
    assert noted == [{}]

"""The shipped alerts on a real Prometheus that scrapes a real daemon while its dependencies fail.
Only each ``for`` is shorter.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.deploy.watched_daemon import StallingQueue, watched_daemon
from tests.support.daemon_process import Job, jobs_named

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# each waits until Prometheus has scraped what an alert needs
pytestmark = pytest.mark.slow


async def test_a_stopped_modeldb_fires_and_its_return_resolves(
    moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with watched_daemon(moto_endpoint, tmp_path, free_port) as watched:
        await watched.prometheus.quiet()
        await watched.modeldb.stop()
        job = Job("during-the-outage")
        watched.scene.finish_jobs([job])
        await watched.scene.send([job.event])
        alert = await watched.prometheus.firing("ModelDBSyncTargetUnavailable")
        assert alert["labels"]["severity"] == "critical"
        assert alert["labels"]["edge"] == "target"

        await watched.modeldb.start()
        await watched.prometheus.resolved("ModelDBSyncTargetUnavailable")
        assert [line["job"] for line in await watched.daemon.outcomes(1, outcome="synced")] == [
            job.name
        ]


async def test_a_poll_that_never_ends_fires_although_no_breaker_opens(
    moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    queue = StallingQueue(moto_endpoint)
    queue.trickles.set()
    async with queue.serving(), watched_daemon(queue.url, tmp_path, free_port) as watched:
        await watched.prometheus.firing("ModelDBSyncPollStalled")
        assert await watched.prometheus.value("sum(modeldb_sync_breaker_open)") == 0
        assert (await watched.daemon.get("/readyz"))[0] == 200  # nobody else has noticed
        queue.trickles.clear()
        await watched.prometheus.resolved("ModelDBSyncPollStalled")


async def test_a_queue_that_accepts_and_never_answers_fires_as_unavailable(
    moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    queue = StallingQueue(moto_endpoint)
    async with queue.serving(), watched_daemon(queue.url, tmp_path, free_port) as watched:
        queue.frozen.set()
        alert = await watched.prometheus.firing("ModelDBSyncQueueUnavailable", seconds=40)
        assert alert["labels"]["edge"] == "queue"
        queue.frozen.clear()
        await watched.prometheus.resolved("ModelDBSyncQueueUnavailable", seconds=60)


async def test_a_frozen_daemon_fires_as_down(
    moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with watched_daemon(moto_endpoint, tmp_path, free_port) as watched:
        watched.daemon.signal(signal.SIGSTOP)
        await watched.prometheus.firing("ModelDBSyncDown")
        watched.daemon.signal(signal.SIGCONT)
        await watched.prometheus.resolved("ModelDBSyncDown")


async def test_a_dead_letter_fires_until_it_is_taken_out(
    moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with watched_daemon(moto_endpoint, tmp_path, free_port) as watched:
        good = jobs_named("good", 2)
        untagged = Job("half-tagged", tags={"MODEL_DB_SYNC": "true"})
        watched.scene.finish_jobs([*good, untagged])
        await watched.scene.send([job.event for job in [*good, untagged]])
        rejected = await watched.prometheus.firing("ModelDBSyncJobsRejected")
        assert rejected["labels"]["reason"] == "tags_incomplete"
        await watched.daemon.stop()  # the next start looks at the queues at once, not within 30 s

        await watched.daemon.start()
        letters = await watched.prometheus.firing("ModelDBSyncDeadLetters")
        assert letters["annotations"]["summary"] == "Messages in the dead-letter queue: 1"
        assert len(await watched.scene.dead_letters()) == 1  # received, so no longer visible
        await watched.daemon.stop()

        await watched.daemon.start()
        await watched.scraped("modeldb_sync_dead_letter_messages == 0", 0)
        await watched.prometheus.resolved("ModelDBSyncDeadLetters")

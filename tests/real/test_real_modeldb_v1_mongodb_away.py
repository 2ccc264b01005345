"""A standby takes over while a real ModelDB V1 waits for its MongoDB.

A thread of the server waits for MongoDB within a fit and then carries out the next call of its
connection, although the client, the writer of before, has ended long ago. Where that call is
another job's fit, and the next writer sends the same one, the run has two models.

MODELDB_V1_TAKE_OVERS says how often this is tried with each set of times (2 by default); the
moments are drawn anew for each.
"""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import pytest
from moto.sqs.models import Message, Queue

from tests.real.modeldb_v1_lab import LAB, lab_server, wrong
from tests.support.daemon_process import daemon_scene, jobs_named

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,  # minutes each, with a real server
    pytest.mark.skipif(
        not LAB, reason="MODELDB_V1_LAB names no control script of ModelDB V1 servers"
    ),
    pytest.mark.timeout(900),
]

TAKE_OVERS = int(os.environ.get("MODELDB_V1_TAKE_OVERS", "2"))


@dataclass(frozen=True, slots=True)
class Times:
    """Settings of the daemons, in seconds."""

    wait: int
    grace: int
    timeout: int
    settle: int


TIMES = {"short": Times(1, 6, 31, 1), "as-shipped": Times(20, 25, 45, 5)}


@pytest.fixture
def in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue hands out its messages in random order, as SQS may."""
    oldest_first: property = vars(Queue)["messages"]

    def messages(queue: Queue) -> list[Message]:
        found: list[Message] = oldest_first.__get__(queue)
        Random().shuffle(found)
        return found

    monkeypatch.setattr(Queue, "messages", property(messages))


@pytest.mark.usefixtures("in_any_order")
@pytest.mark.parametrize("number", range(TAKE_OVERS))
@pytest.mark.parametrize("times", TIMES)
async def test_a_standby_that_takes_over_while_mongodb_is_away_makes_no_second_model(
    moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int], times: str, number: int
) -> None:
    seconds, chance = TIMES[times], Random(f"{times} {number}")
    before_outage = chance.uniform(0.0, 1.0)
    before_stop = chance.uniform(0.5, 15.0)
    before_end = chance.uniform(0.0, 75.0)
    async with (
        lab_server(mongo=True) as server,
        daemon_scene(
            moto_endpoint,
            server.target | {"timeout_seconds": seconds.timeout, "settle_seconds": seconds.settle},
            tmp_path,
        ) as scene,
    ):
        await scene.make_queues(f"v1-{uuid.uuid4().hex[:8]}")
        jobs = list(jobs_named("away", 24))
        scene.finish_jobs(jobs)
        first, second = (
            scene.daemon(
                free_port(),
                queue={"url": scene.queue_url, "wait_seconds": seconds.wait},
                shutdown={"grace_seconds": seconds.grace},
            )
            for _ in range(2)
        )
        await first.start()
        await first.logged(lambda line: line["event"] == "this process is the writer")
        await second.start()
        await second.logged(lambda line: line["event"].startswith("standing by"))
        await second.ready()
        await scene.send([job.event for job in jobs[:4]])
        await first.outcomes(4, outcome="synced")

        await scene.send([job.event for job in jobs[4:]])
        await asyncio.sleep(before_outage)
        await server.run("mongo-stop")
        await asyncio.sleep(before_stop)
        first.signal(signal.SIGTERM)
        await asyncio.sleep(before_end)
        await server.run("mongo-start")
        await first.ended()
        await second.logged(lambda line: line["event"] == "this process is the writer", seconds=120)
        await scene.drained(400)

        took = f"outage after {before_outage:.1f} s, {before_stop:.1f} s, {before_end:.1f} s"
        assert wrong(jobs, server) == [], took
        assert await scene.dead_letters() == []
        assert await second.stop() == 0

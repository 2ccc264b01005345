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
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from moto.sqs.models import Message, Queue

from tests.real.modeldb_v1_lab import LAB, lab_server, mapped, wrong
from tests.support.daemon_process import daemon_scene, jobs_named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.real.modeldb_v1_lab import LabServer
    from tests.support.daemon_process import Job

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
def first_ones(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queue hands out its messages in random order, as SQS may, but these jobs' first."""
    oldest_first: property = vars(Queue)["messages"]
    first: list[str] = []

    def messages(queue: Queue) -> list[Message]:
        found: list[Message] = oldest_first.__get__(queue)
        Random().shuffle(found)
        return sorted(found, key=rank)

    def rank(message: Message) -> int:
        ranks = (rank for rank, name in enumerate(first) if f'/{name}"' in message.body)
        return next(ranks, len(first))

    monkeypatch.setattr(Queue, "messages", property(messages))
    return first


def without_model(jobs: Sequence[Job], server: LabServer) -> list[str]:
    """Names of the jobs that have a run without a model, oldest run first."""
    names = {mapped(job, server).marker: job.name for job in jobs}
    return [names[run.marker] for run in server.runs() if not run.models]


@pytest.mark.parametrize("number", range(TAKE_OVERS))
@pytest.mark.parametrize("times", TIMES)
async def test_a_standby_that_takes_over_while_mongodb_is_away_makes_no_second_model(
    moto_endpoint: str,
    tmp_path: Path,
    free_port: Callable[[], int],
    first_ones: list[str],
    times: str,
    number: int,
) -> None:
    seconds, chance = TIMES[times], Random(f"{times} {number}")
    under_load = chance.random() < 0.25
    before_stop = chance.uniform(1.0, 10.0)
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
        # With one channel, a fit is followed by the next job's fit, not by a data frame.
        jobs = [
            replace(job, description_file="heterogeneous.json")
            for job in jobs_named("away", 4 + (20 if under_load else chance.randint(4, 10)))
        ]
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

        if under_load:
            await scene.send([job.event for job in jobs[4:]])
            await asyncio.sleep(chance.uniform(0.0, 1.0))
        await server.run("mongo-stop")
        if not under_load:
            # The first fit fails at once, the second waits; the others are behind it.
            await scene.send([job.event for job in jobs[4:]])
        await asyncio.sleep(before_stop)
        if chance.random() < 0.75:
            # A run with a model is read with MongoDB's help, so whoever reads one waits as well.
            first_ones += without_model(jobs, server)
        first.signal(signal.SIGTERM)
        await asyncio.sleep(before_end)
        await server.run("mongo-start")
        await first.ended()
        await second.logged(lambda line: line["event"] == "this process is the writer", seconds=120)
        await scene.drained(400)

        moments = f"{under_load=}, {before_stop=:.1f}, {before_end=:.1f}"
        assert wrong(jobs, server) == [], moments
        assert await scene.dead_letters() == []
        assert await second.stop() == 0

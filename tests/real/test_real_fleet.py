"""Replicas that are killed and paused at random make one run of each job: real ModelDB V2
(MODELDB_V2_URL), ElasticMQ (ELASTICMQ_URL) and, as the shared checkpoint, dynalite (DYNALITE_URL).

FLEET_JOBS says how many jobs there are. A pause (SIGSTOP) is longer than a lease, so that others
take over what the replica had begun; then it goes on (SIGCONT).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support.daemon_process import FULL_TAGS, DaemonScene, Job, daemon_scene, mark_of
from tests.support.daemon_with_short_leases import LEASE_SECONDS
from tests.support.dynamodb_tables import aws_credentials, make_table, place_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from tests.support.daemon_process import DaemonProcess

TARGET = os.environ.get("MODELDB_V2_URL", "")
QUEUE = os.environ.get("ELASTICMQ_URL", "")
TABLES = os.environ.get("DYNALITE_URL", "")
JOBS = int(os.environ.get("FLEET_JOBS", "60"))
REPLICAS = 4
EVENTS_OF_EACH = 3
SETTLE_SECONDS = 3
RUNS_A_PAGE = 100
START_SECONDS = 120.0
"""Until a replica is ready, on a machine that is busy."""

__all__ = ["aws_credentials"]

pytestmark = [
    pytest.mark.usefixtures("aws_credentials"),
    pytest.mark.slow,  # real servers
    pytest.mark.skipif(
        not (TARGET and QUEUE and TABLES),
        reason="MODELDB_V2_URL, ELASTICMQ_URL and DYNALITE_URL name no servers",
    ),
    pytest.mark.timeout(3600),
    pytest.mark.xdist_group("modeldb-v2"),  # some of its tests stop the server that all share
]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[DaemonScene]:
    target = {"url": TARGET, "settle_seconds": SETTLE_SECONDS}
    async with daemon_scene(QUEUE, target, tmp_path) as made:
        made.program = "tests.support.daemon_with_short_leases"
        name = f"fleet-{uuid.uuid4().hex[:8]}"
        await made.make_queues(name, visibility=10, max_receive_count=None)
        yield made


class Replicas:
    """Daemons that are killed and paused until `calm`."""

    def __init__(
        self, scene: DaemonScene, free_port: Callable[[], int], checkpoint: Mapping[str, Any]
    ) -> None:
        self.faults: Counter[str] = Counter()
        self.settled = 0
        self._scene = scene
        self._free_port = free_port
        self._checkpoint = checkpoint
        self._luck = random.Random(16)
        self._alive: list[DaemonProcess] = []
        self._ended: list[DaemonProcess] = []

    async def start(self) -> None:
        await asyncio.gather(*(self._add() for _ in range(REPLICAS)))

    async def _add(self) -> None:
        daemon = self._scene.daemon(
            self._free_port(),
            checkpoint=self._checkpoint,
            queue={"url": self._scene.queue_url, "wait_seconds": 1, "max_in_flight": 16},
        )
        await daemon.start()
        await daemon.ready(START_SECONDS)
        self._alive.append(daemon)

    async def trouble(self, until: asyncio.Event) -> None:
        """Kills or pauses one replica at a time, or two, until the event is set."""
        while not until.is_set():
            await asyncio.sleep(self._luck.uniform(0.5, 2.0))
            victims = self._luck.sample(self._alive, self._luck.choice([1, 1, 2]))
            await asyncio.gather(*(self._strike(victim) for victim in victims))

    async def _strike(self, victim: DaemonProcess) -> None:
        if self._luck.random() < 0.4:
            self.faults["killed"] += 1
            self._alive.remove(victim)
            self._ended.append(victim)
            await victim.kill()
            await self._add()
            return
        self.faults["paused"] += 1
        victim.signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE_SECONDS + self._luck.uniform(1.0, 4.0))
        victim.signal(signal.SIGCONT)

    async def stop(self) -> list[int]:
        """Stops all; their exit statuses."""
        return [await each.stop() for each in self._alive]

    def logged(self, event: str) -> int:
        return sum(
            line.get("event") == event for each in (*self._alive, *self._ended) for line in each.log
        )


async def runs_of(project: str) -> list[dict[str, Any]]:
    """All runs of a project, as ModelDB tells: in pages, as its proxy takes no answer above 4 MiB
    from it.
    """
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        query = {"name": project}
        async with session.get(f"{TARGET}/project/getProjectByName", params=query) as answer:
            project_id = (await answer.json())["project_by_user"]["id"]
        path = f"{TARGET}/experiment-run/findExperimentRuns"
        runs: list[dict[str, Any]] = []
        for number in itertools.count(1):
            body = {"project_id": project_id, "page_number": number, "page_limit": RUNS_A_PAGE}
            async with session.post(path, json=body) as answer:
                found = (await answer.json()).get("experiment_runs", [])
            runs += found
            if len(found) < RUNS_A_PAGE:
                break
    return runs


async def test_replicas_that_are_killed_and_paused_make_one_run_of_each_job(
    scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    project = f"fleet-{uuid.uuid4().hex[:8]}"
    tags = FULL_TAGS | {"MODEL_DB_PROJECT_NAME": project}
    jobs = [
        Job(f"{project}-{number:04d}", tags | {"MODEL_DB_MODEL_NAME": f"model-{number % 5}"})
        for number in range(JOBS)
    ]
    scene.finish_jobs(jobs)
    events = [job.event for job in jobs] * EVENTS_OF_EACH
    random.Random(JOBS).shuffle(events)
    await scene.send(events)
    table = place_on("dynalite", "")
    await make_table(table)
    checkpoint = {
        "kind": "dynamodb",
        "table": table.table,
        "region": table.region,
        "endpoint_url": table.endpoint_url,
    }
    replicas = Replicas(scene, free_port, checkpoint)
    await replicas.start()
    begun, drained = time.monotonic(), asyncio.Event()
    troubling = asyncio.create_task(replicas.trouble(drained))
    try:
        await scene.drained(seconds=3000)
    finally:
        drained.set()
        await troubling
    await scene.drained(seconds=300)
    seconds = time.monotonic() - begun
    statuses = await replicas.stop()
    runs = await runs_of(project)
    print(
        f"{JOBS} jobs, {len(events)} messages, {REPLICAS} replicas, {seconds:.0f} s:",
        dict(replicas.faults),
        f"claims lost {replicas.logged('claim lost')},",
        "writes in doubt settled",
        replicas.logged("paused in a write until its lease had ended: the target is asked again"),
        f"runs {len(runs)}",
    )
    wanted = Counter(job.arn.lower() for job in jobs)
    assert Counter(mark_of(run)[0] for run in runs) == wanted
    assert statuses == [0] * REPLICAS
    assert replicas.faults["paused"]

"""What is sent to a scene's queue: events of good jobs in several copies, jobs that must not be
synced, and invalid messages.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.aws_vectors import completed_without_parent
from tests.support.daemon_process import FULL_TAGS, Job

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from tests.support.daemon_process import DaemonScene

COMPLETED = completed_without_parent()
JOBS_PER_PROJECT = 200
"""A ModelDB V1 is asked for all runs of a project whenever a daemon becomes its writer; a V2 tells
so many in one answer."""
SPREAD_SECONDS = 25.0
"""Within which the copies of an event come."""
SHARES = {"good": 78, "untagged": 7, "late": 8, "malformed": 2, "tags_incomplete": 3, "job_gone": 2}
"""Of a hundred jobs."""


@dataclass
class Books:
    """What was sent, and so the expected result."""

    jobs: list[Job] = field(default_factory=list)
    """Tagged and completed: one run each."""
    untagged: list[Job] = field(default_factory=list)
    poison: dict[str, str] = field(default_factory=dict)
    """The reason of the rejection, by the message's body."""
    messages: int = 0


class Feed:
    """Sends to one queue at a steady rate.

    Args:
        name: begins the names of jobs and projects; no two runs of the soak share one.
        rate: jobs a second.
        shares: how many of a hundred jobs are what.
        copies: how often an event comes at most; twice at least, unless this is 1.
        spread: seconds within which the copies come.
    """

    def __init__(
        self,
        name: str,
        scene: DaemonScene,
        luck: Random,
        rate: float,
        shares: Mapping[str, int] = SHARES,
        copies: int = 3,
        spread: float = SPREAD_SECONDS,
    ) -> None:
        self.books = Books()
        self._name = name
        self._scene = scene
        self._luck = luck
        self._pause = 1 / rate
        self._shares = shares
        self._copies = copies
        self._spread = spread
        self._number = 0
        self._due: list[tuple[float, str]] = []
        self._late: list[tuple[float, int, Job]] = []

    async def run(self, until: float) -> None:
        """Sends until a time of the loop, then the copies that are left."""
        loop = asyncio.get_running_loop()
        next_job = loop.time()
        while loop.time() < until:
            while next_job <= loop.time():
                self._make(loop.time())
                next_job += self._pause
            await self._send_due(loop.time())
            await asyncio.sleep(0.1)
        self.finish_late(float("inf"))
        await self._send_due(float("inf"))

    @property
    def projects(self) -> list[str]:
        return sorted({job.tags["MODEL_DB_PROJECT_NAME"] for job in self.books.jobs})

    def finish_late(self, now: float) -> None:
        """Completes the jobs that were still running when their events were sent."""
        while self._late and self._late[0][0] <= now:
            job = heapq.heappop(self._late)[2]
            self._scene.finish_jobs([job])

    async def _send_due(self, now: float) -> None:
        self.finish_late(now)
        bodies = []
        while self._due and self._due[0][0] <= now:
            bodies.append(heapq.heappop(self._due)[1])
        await self._scene.send(bodies)
        self.books.messages += len(bodies)

    def _plan(self, now: float, body: str, copies: int) -> None:
        for _ in range(copies):
            heapq.heappush(self._due, (now + self._luck.uniform(0, self._spread), body))

    def _job(self) -> Job:
        self._number += 1
        project = f"{self._name}-{self._number // JOBS_PER_PROJECT:02d}"
        return Job(
            f"{self._name}-{self._number:06d}",
            {
                **FULL_TAGS,
                "MODEL_DB_PROJECT_NAME": project,
                "MODEL_DB_MODEL_NAME": f"model-{self._number % 5}",
            },
            description_file=self._luck.choice(COMPLETED),
        )

    def _make(self, now: float) -> None:
        (kind,) = self._luck.choices(list(self._shares), list(self._shares.values()))
        copies = self._luck.randint(min(2, self._copies), self._copies)
        job = self._job()
        if kind in {"good", "late"}:
            self.books.jobs.append(job)
            self._scene.finish_jobs([job])
            if kind == "late":
                self._scene.sagemaker.put_job(
                    job.description | {"TrainingJobStatus": "InProgress"}, job.tags
                )
                heapq.heappush(self._late, (now + self._luck.uniform(3, 20), self._number, job))
            self._plan(now, job.event, copies)
            return
        if kind == "untagged":
            job = Job(job.name, {"team": "growth"}, description_file=job.description_file)
            self.books.untagged.append(job)
            self._scene.finish_jobs([job])
            self._plan(now, job.event, copies)
            return
        if kind == "tags_incomplete":
            job = Job(
                job.name,
                {**job.tags, "MODEL_DB_MODEL_NAME": " "},
                description_file=job.description_file,
            )
            self._scene.finish_jobs([job])
        reason = "malformed_body" if kind == "malformed" else kind
        for _ in range(1 if kind == "malformed" else copies):
            # each body is another, so that the dead-letter queue can be compared with the books
            body = json.dumps(
                json.loads(job.event) | {"id": str(uuid.UUID(int=self._luck.getrandbits(128)))}
            )
            if kind == "malformed":
                body = body[: -self._luck.randint(1, 200)]
            self.books.poison[body] = reason
            self._plan(now, body, 1)

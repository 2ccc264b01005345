"""What the files of tests against real MLflow servers share: jobs, and scenes of the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import uuid
from collections import Counter
from typing import TYPE_CHECKING

from tests.real.mlflow_lab import LAB
from tests.real.mlflow_readback import Readback, mapped, read, wrong
from tests.support.aws_vectors import completed_without_parent
from tests.support.daemon_process import FULL_TAGS, Job, daemon_scene
from tests.support.mlflow_fault_proxy import MlflowFaultProxy, mlflow_fault_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from tests.real.mlflow_lab import LabServer
    from tests.support.daemon_process import DaemonProcess, DaemonScene

NO_LAB = "MLFLOW_LAB names no control script of MLflow servers"
COMPLETED = completed_without_parent()
UNREDACTED: Mapping[str, Sequence[str]] = {"redact": []}
"""For `jobs`: as `mlflow_readback.mapped` reads a job."""

__all__ = ["LAB", "NO_LAB"]


def jobs_of(scene: str, count: int, *, projects: int = 5) -> Sequence[Job]:
    """Jobs of every recorded description, with names that begin with the scene's."""
    return [
        Job(
            f"{scene}-{number:03d}",
            FULL_TAGS
            | {
                "MODEL_DB_PROJECT_NAME": f"{scene}-project-{number % projects}",
                "MODEL_DB_MODEL_NAME": f"{scene}-model-{number % 7}",
            },
            description_file=COMPLETED[number % len(COMPLETED)],
        )
        for number in range(count)
    ]


def job_count() -> int:
    """Of the tests with many jobs; MLFLOW_JOBS=200 is what the promises were shown with."""
    return int(os.environ.get("MLFLOW_JOBS", "40"))


def of_scene(scene: str, found: Readback) -> Readback:
    """What belongs to one scene of a server that several tests share."""
    prefix = f"{scene}-"
    experiments = [each for each in found.experiments if each["name"].startswith(prefix)]
    ids = {each["id"] for each in experiments}
    runs = [each for each in found.runs if each["experiment_id"] in ids]
    run_ids = {each["id"] for each in runs}
    return Readback(
        experiments,
        runs,
        {name: text for name, text in found.models.items() if name.startswith(prefix)},
        [
            each
            for each in found.versions
            if each["run_id"] in run_ids or each["name"].startswith(prefix)
        ],
    )


async def deviations(scene: str, jobs: Sequence[Job], url: str) -> list[str]:
    """See `mlflow_readback.wrong`."""
    return wrong(jobs, of_scene(scene, await read(url)))


@contextlib.asynccontextmanager
async def behind_a_proxy(
    moto_endpoint: str, server: LabServer, home: Path
) -> AsyncIterator[tuple[DaemonScene, MlflowFaultProxy]]:
    async with (
        mlflow_fault_proxy(server.url) as proxy,
        daemon_scene(moto_endpoint, server.target(tracking_uri=proxy.url), home) as scene,
    ):
        await scene.make_queues(f"mlflow-{uuid.uuid4().hex[:8]}")
        yield scene, proxy


async def three_events_each(
    scene: DaemonScene,
    server: LabServer,
    port: int,
    name: str,
    count: int,
) -> Mapping[str, float]:
    """Syncs jobs, each event three times in random order, and compares what is there then.

    Returns:
        Figures of the daemon's metrics.
    """
    jobs = jobs_of(name, count)
    scene.finish_jobs(jobs)
    events = [job.event for job in jobs] * 3
    random.Random(count).shuffle(events)
    daemon = scene.daemon(port, jobs=UNREDACTED)
    await daemon.start()
    begun = asyncio.get_running_loop().time()
    await scene.send(events)
    lines = await daemon.outcomes(3 * count, seconds=30 + 3 * count)
    await scene.drained()
    print(f"{count} jobs in {asyncio.get_running_loop().time() - begun:.1f} s")
    assert await deviations(name, jobs, server.url) == []
    assert sum(line["outcome"] == "synced" for line in lines) == count, told(daemon)
    assert max(line["receive_count"] for line in lines) == 1
    assert await scene.dead_letters() == []
    metrics = await daemon.metrics()
    assert await daemon.stop() == 0
    return metrics


def told(daemon: DaemonProcess) -> Counter[str]:
    """Its outcomes, to be printed when a test fails."""
    return Counter(
        f"{line['receive_count']} {line['outcome']} {line['reason']} {line.get('detail', '')}"
        for line in daemon.log
        if line.get("event") == "job outcome"
    )


class Fault:
    """Strikes at the n-th call of a job that writes: before the server sees it, or after it has
    answered and before the daemon gets the answer.
    """

    READS = frozenset(
        {
            "experiments/get",
            "experiments/get-by-name",
            "experiments/search",
            "model-versions/search",
            "runs/get",
            "runs/search",
        }
    )

    def __init__(self, proxy: MlflowFaultProxy, strike: Callable[[], None]) -> None:
        self._proxy = proxy
        self._strike = strike
        self._left = 0
        self._after = False
        self.struck = asyncio.Event()
        self.operations: list[str] = []
        """The writes since it was armed, up to the stricken one."""
        proxy.on_call = self._call
        proxy.on_answer = self._answer

    def arm(self, step: int, *, after: bool = False) -> None:
        """Sets the step, from 1; 0: only the operations are recorded.

        Args:
            step: which of the job's writes.
            after: the server has answered it; otherwise it does not see it.
        """
        self._left = step
        self._after = after
        self.struck.clear()
        self.operations.clear()

    async def _call(self, operation: str) -> bool:
        if operation in self.READS or self.struck.is_set():
            return True
        self.operations.append(operation)
        self._left -= 1
        return self._left != 0 or self._after or self._now()

    async def _answer(self, operation: str) -> bool:
        if operation in self.READS or self.struck.is_set():
            return True
        return self._left != 0 or not self._after or self._now()

    def _now(self) -> bool:
        self.struck.set()
        self._strike()
        return False


def assert_each_once(jobs: Sequence[Job], found: Readback) -> None:
    assert wrong(jobs, found) == []
    names = {mapped(job).experiment_name for job in jobs}
    assert {each["name"] for each in found.experiments} == names

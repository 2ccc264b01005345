"""The daemon process against a real MLflow 3.17.2 on SQLite (see `mlflow_lab`)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import uuid
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from daemon.errors import EdgeFault
from daemon.targets.kind import TargetContext
from daemon.targets.mlflow.settings import MlflowSettings
from daemon.targets.mlflow.target import open_mlflow
from tests.real.mlflow_lab import LAB, LabServer
from tests.real.mlflow_readback import read, run_of, wrong
from tests.real.mlflow_scene import (
    NO_LAB,
    UNREDACTED,
    Fault,
    assert_each_once,
    behind_a_proxy,
    job_count,
    jobs_of,
    of_scene,
    three_events_each,
    told,
)
from tests.support.daemon_process import FULL_TAGS, Job, daemon_scene
from tests.support.mlflow_fault_proxy import mlflow_fault_proxy
from tests.support.target_jobs import MemoryJournal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from daemon.targets.ports import Target
    from daemon.training_job.training_run import TrainingRun
    from tests.support.daemon_process import DaemonProcess, DaemonScene

pytestmark = [
    pytest.mark.slow,  # a real server
    pytest.mark.skipif(not LAB, reason=NO_LAB),
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("mlflow"),  # share their servers
]

STEPS = [
    "experiments/create",
    "runs/create",
    "runs/log-batch",
    "runs/log-inputs",
    "registered-models/create",
    "model-versions/create",
    "runs/update",
]
"""The calls of the first job in a project with a model of its own that write."""
FEW_SECONDS = {"wait_seconds": 0}
"""No long poll: that of a killed process would take the next message and hide it for its visibility
timeout."""


@pytest.fixture(scope="module")
def server() -> Iterator[LabServer]:
    """One for the file: starting one takes 6 s and more."""
    made = LabServer()
    asyncio.run(made.up())
    yield made
    asyncio.run(made.down())


@pytest.fixture
def name() -> str:
    """Of the scene."""
    return f"s{uuid.uuid4().hex[:6]}"


@pytest.fixture
async def scene(
    moto_endpoint: str, server: LabServer, tmp_path: Path
) -> AsyncIterator[DaemonScene]:
    async with daemon_scene(moto_endpoint, server.target(), tmp_path) as made:
        await made.make_queues(f"mlflow-{uuid.uuid4().hex[:8]}")
        yield made


async def test_many_jobs_three_events_each_in_any_order_are_one_complete_run_each(
    scene: DaemonScene, server: LabServer, free_port: Callable[[], int], name: str
) -> None:
    await three_events_each(scene, server, free_port(), name, job_count())


async def test_the_official_client_works_on_what_was_written(
    scene: DaemonScene, server: LabServer, free_port: Callable[[], int], name: str
) -> None:
    """`search_runs` as a data frame, `get_run`, metric histories, model versions, sources."""
    jobs = jobs_of(name, 12)
    scene.finish_jobs(jobs)
    daemon = scene.daemon(free_port(), jobs=UNREDACTED)
    await daemon.start()
    await scene.send([job.event for job in jobs])
    await daemon.outcomes(len(jobs), outcome="synced")
    everything = await read(server.url, "--frame", "--histories")
    found = of_scene(name, everything)
    assert_each_once(jobs, found)
    rows = {row["run_id"]: row for row in everything.frame}
    for run in found.runs:
        row = rows[run["id"]]
        assert row["status"] == run["status"]
        assert row["tags.sagemaker_training_job_arn"].endswith(run["name"])
        for key, value in run["params"].items():
            assert row[f"params.{key}"] == value
        for each in run["inputs"]:
            if each["source_type"] == "s3":
                assert each["opened"] == json.loads(each["source"])["uri"]
    assert {version["name"] for version in found.versions} == set(found.models)
    assert await daemon.stop() == 0


def with_names_of_its_own(scene: str, step: str) -> Job:
    return Job(
        f"{scene}-{step}",
        FULL_TAGS
        | {
            "MODEL_DB_PROJECT_NAME": f"{scene}-project-{step}",
            "MODEL_DB_MODEL_NAME": f"{scene}-model-{step}",
        },
    )


async def test_killed_between_any_two_calls_the_daemon_leaves_one_complete_run_each(
    moto_endpoint: str,
    server: LabServer,
    tmp_path: Path,
    free_port: Callable[[], int],
    name: str,
) -> None:
    """Before the server sees a call, and after it has answered it."""
    async with behind_a_proxy(moto_endpoint, server, tmp_path) as (scene, proxy):
        daemons: list[DaemonProcess] = []

        async def start() -> None:
            daemons.append(
                scene.daemon(
                    free_port(), queue={"url": scene.queue_url, **FEW_SECONDS}, jobs=UNREDACTED
                )
            )
            await daemons[-1].start()

        fault = Fault(proxy, lambda: daemons[-1].signal(signal.SIGKILL))
        undisturbed = with_names_of_its_own(name, "0")
        moments = list(itertools.product(range(1, len(STEPS) + 1), (False, True)))
        stricken = [
            with_names_of_its_own(name, f"{step}{'-after' if after else ''}")
            for step, after in moments
        ]
        scene.finish_jobs([undisturbed, *stricken])
        await start()
        fault.arm(0)
        await scene.send([undisturbed.event])
        await daemons[-1].outcomes(1, outcome="synced", job=undisturbed.name)
        assert fault.operations == STEPS
        for (step, after), job in zip(moments, stricken, strict=True):
            fault.arm(step, after=after)
            await scene.send([job.event])
            async with asyncio.timeout(30):
                await fault.struck.wait()
            assert fault.operations[-1] == STEPS[step - 1]
            await daemons[-1].ended()
            await start()
            await scene.send([job.event])  # the first one is hidden for its visibility timeout
            await daemons[-1].outcomes(1, outcome="synced", job=job.name)
        assert_each_once([undisturbed, *stricken], of_scene(name, await read(server.url)))
        assert await daemons[-1].stop() == 0


async def test_whichever_answer_of_mlflow_is_lost_each_job_is_one_complete_run(
    server: LabServer, name: str
) -> None:
    """Of each write every k-th answer is lost, for each k from 2 to 7, and of each read, which an
    attempt repeats, every (k + 4)-th. The daemon's breaker would make that long: it is the target
    alone.
    """
    written: list[Job] = []
    lost: Counter[str] = Counter()
    async with mlflow_fault_proxy(server.url) as proxy:
        settings = MlflowSettings(**server.target(tracking_uri=proxy.url))
        for k in range(2, 8):
            answers: Counter[str] = Counter()

            async def lose(operation: str, k: int = k, answers: Counter[str] = answers) -> bool:
                answers[operation] += 1
                every = k if operation in STEPS else k + 4
                is_lost = answers[operation] % every == 0
                lost[operation] += is_lost
                return not is_lost

            proxy.on_answer = lose
            target = open_mlflow(settings, TargetContext())
            try:
                jobs = jobs_of(f"{name}-{k}", max(4, k + 1), projects=2)
                for job in jobs:  # at once, they would refuse each other's waiting calls
                    await until_synced(target, run_of(job))
            finally:
                await target.aclose()
            written += jobs
    assert set(lost) >= {*STEPS, "runs/search", "model-versions/search"}
    assert wrong(written, of_scene(name, await read(server.url))) == []


async def until_synced(target: Target, run: TrainingRun) -> None:
    """Repeats attempts as the daemon does, after each fault of the whole server."""
    journal = MemoryJournal()
    for _ in range(30):
        with contextlib.suppress(EdgeFault):
            await target.sync(run, journal)
            return
    raise AssertionError("not synced after 30 attempts")


async def test_a_frozen_server_delays_jobs_and_doubles_none(
    scene: DaemonScene, server: LabServer, free_port: Callable[[], int], name: str
) -> None:
    jobs = jobs_of(name, 12)
    scene.finish_jobs(jobs)
    daemon = scene.daemon(free_port(), jobs=UNREDACTED, target=server.target(timeout_seconds=10))
    await daemon.start()
    await daemon.ready()
    async with server.frozen():
        await scene.send([job.event for job in jobs])
        await daemon.logged(lambda line: line.get("event") == "breaker opened", seconds=60)
    await daemon.outcomes(len(jobs), outcome="synced", seconds=120)
    assert wrong(jobs, of_scene(name, await read(server.url))) == []
    lines = await daemon.outcomes(len(jobs), outcome="synced")
    assert max(line["receive_count"] for line in lines) <= 2, told(daemon)
    assert await daemon.stop() == 0

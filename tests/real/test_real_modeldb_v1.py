"""The daemon process against real ModelDB V1 servers (see `modeldb_v1_lab`)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import signal
import sqlite3
import uuid
from typing import TYPE_CHECKING

import pytest

from daemon.targets.modeldb_v1 import requests
from daemon.targets.modeldb_v1.connection import Connection
from daemon.targets.modeldb_v1.errors import CallFailed
from daemon.targets.modeldb_v1.mapping import map_job
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, read_tags
from tests.real.modeldb_v1_lab import LAB, expected_model, lab_server, mapped, wrong
from tests.support.aws_vectors import completed_without_parent, parsed_description
from tests.support.daemon_process import FULL_TAGS, Job, daemon_scene, jobs_named
from tests.support.lost_checkpoint import come_again_after_a_lost_checkpoint
from tests.support.modeldb_v1_fault_proxy import fault_proxy, pass_on
from tests.support.modeldb_v1_target import target_on, until_synced
from tests.support.modeldb_v2_target import MemoryJournal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from daemon.training_job.training_run import TrainingRun
    from tests.real.modeldb_v1_lab import LabServer, StoredRun
    from tests.support.daemon_process import DaemonProcess, DaemonScene
    from tests.support.modeldb_v1_fault_proxy import FaultProxy

pytestmark = [
    pytest.mark.slow,  # real servers
    pytest.mark.skipif(
        not LAB, reason="MODELDB_V1_LAB names no control script of ModelDB V1 servers"
    ),
    pytest.mark.timeout(900),
]

COMPLETED = completed_without_parent()


@pytest.fixture(params=[True, False], ids=["with-mongo", "without-mongo"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[LabServer]:
    async with lab_server(mongo=request.param) as made:
        yield made


@pytest.fixture
async def scene(
    moto_endpoint: str, server: LabServer, tmp_path: Path
) -> AsyncIterator[DaemonScene]:
    async with daemon_scene(moto_endpoint, server.target, tmp_path) as made:
        await made.make_queues(f"v1-{uuid.uuid4().hex[:8]}")
        yield made


def real_jobs(count: int) -> Sequence[Job]:
    """Jobs of every recorded description, in five projects."""
    return [
        Job(
            f"v1-{number:03d}",
            FULL_TAGS
            | {
                "MODEL_DB_PROJECT_NAME": f"project-{number % 5}",
                "MODEL_DB_MODEL_NAME": f"model-{number % 7}",
            },
            description_file=COMPLETED[number % len(COMPLETED)],
        )
        for number in range(count)
    ]


async def test_200_jobs_three_events_each_in_any_order_are_200_complete_runs(
    scene: DaemonScene, server: LabServer, free_port: Callable[[], int]
) -> None:
    jobs = real_jobs(200)
    scene.finish_jobs(jobs)
    events = [job.event for job in jobs] * 3
    random.Random(200).shuffle(events)
    daemon = scene.daemon(free_port(), jobs={"redact": []})
    await daemon.start()
    await scene.send(events)
    lines = await daemon.outcomes(600, seconds=300)
    await scene.drained()
    assert wrong(jobs, server) == []
    assert await markers_read(server.port) == sorted(mapped(job, server).marker for job in jobs)
    frames = sum(len(mapped(job, server).data_frames) for job in jobs)
    metrics = sum(len(mapped(job, server).metrics) for job in jobs)
    assert server.counts() == {
        "Project": 5,
        "ExperimentRun": 200,
        "FitEvent": 200,
        "Transformer": 200,
        "TransformerSpec": 200,
        "DataFrame": frames,
        "MetricEvent": metrics,
    }
    assert sum(line["outcome"] == "synced" for line in lines) == 200
    assert max(line["receive_count"] for line in lines) == 1
    assert await scene.dead_letters() == []
    assert await daemon.stop() == 0


def a_run(
    name: str, file: str = "xgboost-builtin.json", project: str = "faults"
) -> tuple[Job, TrainingRun]:
    job = Job(name, FULL_TAGS | {"MODEL_DB_PROJECT_NAME": project}, description_file=file)
    tags = read_tags(job.tags, TagKeys())
    assert isinstance(tags, JobTags)
    return job, training_run(
        DescribedJob.of(parsed_description(json.dumps(job.description).encode())),
        tags,
        job.tags,
        (),
    )


async def markers_read(port: int) -> list[str]:
    """The descriptions of all runs as the server's interface tells them."""
    connection = await Connection.open("127.0.0.1", port)
    try:
        projects = await connection.call("getProjectIds", keyValuePairs={})
        answers = [
            await connection.call("getRunsAndExperimentsInProject", projId=project)
            for project in projects
        ]
    finally:
        await connection.aclose()
    return sorted(run.description for answer in answers for run in answer.experimentRuns)


class Fault:
    """Strikes after the n-th call of a job was answered, before the daemon gets the answer."""

    def __init__(self, proxy: FaultProxy, strike: Callable[[], Awaitable[None]]) -> None:
        self._proxy = proxy
        self._strike = strike
        self._left = 0
        self.struck = asyncio.Event()
        self.methods: list[str] = []

    def arm(self, step: int) -> None:
        """Sets the step; 0: never strikes, only records the steps."""
        self._left = step
        self.struck.clear()
        self.methods.clear()
        self._proxy.on_answer = self._judge

    async def _judge(self, _number: int, method: str) -> bool:
        # probes, look-ups and the calls of settling change nothing
        if method in {
            "getProjectIds",
            "getModelIds",
            "getRunsAndExperimentsInProject",
            "testConnection",
            "computeModelAncestry",
            "createOrUpdateScalarField",
        }:
            return True
        self.methods.append(method)
        self._left -= 1
        if self._left:
            return True
        self._proxy.on_answer = pass_on
        await self._strike()
        self.struck.set()
        return False


@pytest.fixture
async def with_mongo() -> AsyncIterator[LabServer]:
    async with lab_server(mongo=True) as made:
        yield made


@pytest.fixture
async def without_mongo() -> AsyncIterator[LabServer]:
    async with lab_server(mongo=False) as made:
        yield made


@contextlib.asynccontextmanager
async def behind_a_proxy(
    moto_endpoint: str, server: LabServer, home: Path
) -> AsyncIterator[tuple[DaemonScene, FaultProxy]]:
    async with (
        fault_proxy(server.port) as proxy,
        daemon_scene(moto_endpoint, server.target | {"port": proxy.port}, home) as scene,
    ):
        await scene.make_queues(f"v1-{uuid.uuid4().hex[:8]}")
        yield scene, proxy


def in_new_project(step: int) -> Job:
    return Job(f"step-{step}", FULL_TAGS | {"MODEL_DB_PROJECT_NAME": f"step-{step}"})


def orphans(jobs: Sequence[Job], server: LabServer) -> dict[str, int]:
    """Rows beyond those of the jobs: what calls without an answer left behind, seen by no read."""
    expected = [mapped(job, server) for job in jobs]
    wanted = {
        "Transformer": len(jobs),
        "TransformerSpec": len(jobs),
        "DataFrame": sum(len(each.data_frames) for each in expected),
        "MetricEvent": sum(len(each.metrics) for each in expected),
    }
    counts = server.counts()
    return {table: counts[table] - count for table, count in wanted.items()}


def assert_few_orphans(jobs: Sequence[Job], server: LabServer) -> None:
    """The second data frame leaves with the fit, and nothing but its answer leads to it: one each
    for the steps of these two calls.
    """
    found = orphans(jobs, server)
    assert found.pop("DataFrame") <= 2
    assert found == {"Transformer": 0, "TransformerSpec": 0, "MetricEvent": 0}


STEPS = [
    "storeProjectEvent",
    "storeExperimentEvent",
    "storeExperimentRunEvent",
    "getExperimentRunDetails",
    "storeFitEvent",
    "storeDataFrame",
    *["storeMetricEvent"] * 5,
    "getExperimentRunDetails",
]
"""The calls of the first job in a project."""


def end_grace(checkpoint: Path) -> None:
    """As if the writer had ended long ago. It makes the settle time suffice, and saves 46 s."""
    with contextlib.closing(sqlite3.connect(checkpoint, isolation_level=None)) as database:
        database.execute("UPDATE writer_leases SET lease_until = 0")


async def test_the_daemon_killed_after_each_step_leaves_one_complete_run_each(
    moto_endpoint: str, with_mongo: LabServer, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with behind_a_proxy(moto_endpoint, with_mongo, tmp_path) as (scene, proxy):
        daemons: list[DaemonProcess] = []

        async def kill() -> None:
            daemons[-1].signal(signal.SIGKILL)

        async def start() -> None:
            # no long poll: that of a killed process would take the next message and hide it for its
            # visibility timeout
            daemons.append(
                scene.daemon(free_port(), queue={"url": scene.queue_url, "wait_seconds": 0})
            )
            await daemons[-1].start()

        fault = Fault(proxy, kill)
        jobs = [in_new_project(step) for step in range(len(STEPS) + 1)]
        scene.finish_jobs(jobs)
        await start()
        for step, job in enumerate(jobs):
            fault.arm(step)
            await scene.send([job.event])
            if step:
                async with asyncio.timeout(30):
                    await fault.struck.wait()
                await daemons[-1].ended()
                end_grace(tmp_path / "checkpoint.db")
                await start()
                await scene.send([job.event])  # the first one is hidden for its visibility timeout
            await daemons[-1].outcomes(1, outcome="synced", job=job.name)
            if not step:
                assert fault.methods == STEPS
        assert wrong(jobs, with_mongo) == []
        assert_few_orphans(jobs, with_mongo)
        assert await daemons[-1].stop() == 0


async def test_the_server_killed_after_each_step_is_left_with_one_complete_run_each(
    moto_endpoint: str, with_mongo: LabServer, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with behind_a_proxy(moto_endpoint, with_mongo, tmp_path) as (scene, proxy):

        async def kill() -> None:
            await with_mongo.run("kill")

        fault = Fault(proxy, kill)
        jobs = [in_new_project(step) for step in range(1, len(STEPS) + 1)]
        scene.finish_jobs(jobs)
        daemon = scene.daemon(free_port())
        await daemon.start()
        for step, job in enumerate(jobs, 1):
            fault.arm(step)
            await scene.send([job.event])
            async with asyncio.timeout(30):
                await fault.struck.wait()
            await with_mongo.up()
            await daemon.outcomes(1, outcome="synced", job=job.name)
        assert wrong(jobs, with_mongo) == []
        assert_few_orphans(jobs, with_mongo)
        lines = await daemon.outcomes(len(jobs), outcome="synced")
        assert max(line["receive_count"] for line in lines) == 1
        assert await daemon.stop() == 0


async def test_whichever_answer_is_lost_each_job_is_one_complete_run(with_mongo: LabServer) -> None:
    """Every k-th answer is lost, for each k from 10 on, except those that search for the newest
    model: an attempt reads eight times besides (the probe three times, the step of settling twice),
    and must then be able to write.
    """
    jobs = []
    async with fault_proxy(with_mongo.port) as proxy:
        for k in range(10, 21):
            answers = itertools.count(1)

            async def lose(
                _number: int, method: str, k: int = k, answers: itertools.count[int] = answers
            ) -> bool:
                return method == "computeModelAncestry" or next(answers) % k != 0

            proxy.on_answer = lose
            async with target_on(proxy.port, metadata_store=True, settle_seconds=0.3) as target:
                pairs = [a_run(f"every-{k}-{number}") for number in range(2)]
                for job, run in pairs:
                    jobs.append(job)
                    await until_synced(target, run, MemoryJournal())
    assert wrong(jobs, with_mongo) == []


async def test_without_a_metadata_store_a_fit_without_an_answer_is_found_by_its_number(
    moto_endpoint: str, without_mongo: LabServer, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """No read leads to the model, but it has a number above the newest one known before it, so that
    it is found without the read that takes 30 s.
    """
    async with behind_a_proxy(moto_endpoint, without_mongo, tmp_path) as (scene, proxy):

        async def nothing() -> None: ...

        fault = Fault(proxy, nothing)
        before, after = list(jobs_named("before", 30)), in_new_project(5)
        scene.finish_jobs([*before, after])
        daemon = scene.daemon(free_port())
        await daemon.start()
        await scene.send([job.event for job in before])
        await daemon.outcomes(30, outcome="synced")
        fault.arm(STEPS.index("storeFitEvent") + 1)
        await scene.send([after.event])
        await daemon.outcomes(1, outcome="synced", job=after.name, seconds=29)
        assert wrong([*before, after], without_mongo) == []
        assert_few_orphans([*before, after], without_mongo)
        assert await daemon.stop() == 0


async def test_after_a_lost_checkpoint_a_message_that_comes_again_makes_no_second_run(
    scene: DaemonScene, server: LabServer, free_port: Callable[[], int]
) -> None:
    jobs, outcomes = await come_again_after_a_lost_checkpoint(
        scene, free_port, "lost", jobs={"redact": []}
    )
    assert wrong(jobs, server) == []
    assert {line["reason"] for line in outcomes} == {"found_in_target"}


async def test_of_two_daemons_one_writes_and_the_other_takes_over_when_it_is_killed(
    scene: DaemonScene, server: LabServer, free_port: Callable[[], int]
) -> None:
    jobs = real_jobs(200)
    scene.finish_jobs(jobs)
    daemons = [
        scene.daemon(
            free_port(), queue={"url": scene.queue_url, "wait_seconds": 0}, jobs={"redact": []}
        )
        for _ in range(2)
    ]
    for daemon in daemons:
        await daemon.start()
        await daemon.ready()
    (first,) = [
        daemon for daemon in daemons if "standing by" not in (await daemon.get("/readyz"))[1]
    ]
    (second,) = [daemon for daemon in daemons if daemon is not first]
    assert (await second.metrics())["modeldb_sync_standing_by"] == 1
    await scene.send([job.event for job in jobs])
    await first.outcomes(60, outcome="synced")
    assert (await second.metrics())["modeldb_sync_messages_received_total"] == 0
    await first.kill()
    await second.logged(
        lambda line: line["event"].startswith("standing by: the writer lease has ended")
    )
    assert "standing by" in (await second.get("/readyz"))[1]
    await second.logged(lambda line: line["event"] == "this process is the writer", seconds=60)
    assert (await second.metrics())["modeldb_sync_standing_by"] == 0
    await scene.drained(120)
    assert wrong(jobs, server) == []
    assert server.counts()["FitEvent"] == 200
    assert await scene.dead_letters() == []
    assert await second.stop() == 0


async def test_stopped_under_load_it_ends_what_it_has_begun_and_the_next_one_does_the_rest_at_once(
    scene: DaemonScene, server: LabServer, free_port: Callable[[], int]
) -> None:
    jobs = real_jobs(100)
    scene.finish_jobs(jobs)
    await scene.send([job.event for job in jobs])
    first = scene.daemon(free_port(), jobs={"redact": []})
    await first.start()
    await first.outcomes(20, outcome="synced")
    assert await first.stop() == 0
    depth = await scene.depth()
    assert (depth["in_flight"], depth["delayed"]) == (0, 0)
    assert depth["visible"] == 100 - sum(line.get("outcome") == "synced" for line in first.log)
    second = scene.daemon(free_port(), jobs={"redact": []})
    await second.start()
    lines = await second.outcomes(depth["visible"])
    assert max(line["receive_count"] for line in lines) <= 2
    await scene.drained()
    assert wrong(jobs, server) == []
    assert server.counts()["FitEvent"] == 100
    assert await second.stop() == 0


async def test_mongodb_down_in_the_middle_holds_jobs_and_every_model_gets_its_metadata(
    moto_endpoint: str, with_mongo: LabServer, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with daemon_scene(moto_endpoint, with_mongo.target, tmp_path) as scene:
        await scene.make_queues(f"v1-{uuid.uuid4().hex[:8]}")
        jobs = list(jobs_named("mongo", 40))
        scene.finish_jobs(jobs)
        daemon = scene.daemon(free_port())
        await daemon.start()
        await scene.send([job.event for job in jobs])
        await daemon.outcomes(5, outcome="synced")
        # the look-alike of MongoDB is killed, and forgets its newest documents
        await with_mongo.run("mongo-stop")
        early = {line["job"] for line in daemon.log if line.get("outcome") == "synced"}
        held = await daemon.outcomes(1, outcome="held")
        assert "MongoDB" in held[0]["detail"]
        await with_mongo.run("mongo-start")
        lines = await daemon.outcomes(40, outcome="synced", seconds=180)
        assert wrong(jobs, with_mongo) == []
        assert max(line["receive_count"] for line in lines) == 1
        connection = await Connection.open("127.0.0.1", with_mongo.port)
        try:
            later = [job for job in jobs if job.name not in early]
            found = [
                await connection.call("getModelIds", keyValuePairs={"JOB.arn": job.arn.lower()})
                for job in later
            ]
        finally:
            await connection.aclose()
        assert "".join(str(len(set(models))) for models in found) == "1" * len(later)
        assert len(later) > 10
        assert await daemon.stop() == 0


async def test_another_writer_is_noticed_and_each_job_is_one_run_with_its_model_when_it_has_gone(
    moto_endpoint: str, with_mongo: LabServer, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with daemon_scene(moto_endpoint, with_mongo.target, tmp_path) as scene:
        await scene.make_queues(f"v1-{uuid.uuid4().hex[:8]}")
        jobs = list(jobs_named("mixed", 40))
        scene.finish_jobs(jobs)
        daemon = scene.daemon(free_port())
        await daemon.start()
        writing = asyncio.create_task(another_writer(with_mongo.port))
        await scene.send([job.event for job in jobs])
        await daemon.logged(lambda line: line["event"] == "another writer on ModelDB V1")
        held = await daemon.outcomes(1, outcome="held")
        assert held[0]["reason"] == "other_writer"
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await daemon.outcomes(40, outcome="synced", seconds=180)
        by_marker: dict[str, list[StoredRun]] = {}
        for run in with_mongo.runs():
            by_marker.setdefault(run.marker, []).append(run)
        for job in jobs:
            expected = mapped(job, with_mongo)
            (run,) = by_marker[expected.marker]
            assert expected_model(expected) in run.models
        assert await daemon.stop() == 0


async def another_writer(port: int) -> None:
    """Writes as the original client does, each job over a connection of its own, and takes no
    notice of what fails.
    """
    _, run = a_run("other", project="others")
    job = map_job(run, metadata_store=True)
    while True:
        connection = await Connection.open("127.0.0.1", port)
        with contextlib.suppress(CallFailed):
            project = await connection.call("storeProjectEvent", pr=requests.project_event(job))
            experiment = await connection.call(
                "storeExperimentEvent", er=requests.default_experiment_event(project.projectId)
            )
            made = await connection.call(
                "storeExperimentRunEvent", er=requests.run_event(experiment.experimentId, job)
            )
            fit = await connection.call(
                "storeFitEvent", fe=requests.fit_event(made.experimentRunId, job)
            )
            for metric in job.metrics:
                await connection.call(
                    "storeMetricEvent",
                    me=requests.metric_event(made.experimentRunId, fit.modelId, fit.dfId, metric),
                )
        await connection.aclose()


async def test_a_hundred_idle_connections_of_others_do_not_disturb_a_daemon_that_has_its_own(
    moto_endpoint: str, with_mongo: LabServer, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """The server serves 100. A daemon that finds no room waits until there is."""
    async with daemon_scene(moto_endpoint, with_mongo.target, tmp_path) as scene:
        await scene.make_queues(f"v1-{uuid.uuid4().hex[:8]}")
        jobs = list(jobs_named("crowd", 3))
        scene.finish_jobs(jobs)
        daemon = scene.daemon(free_port())
        await daemon.start()
        await scene.send([jobs[0].event])
        await daemon.outcomes(1, outcome="synced")
        crowd = [await Connection.open("127.0.0.1", with_mongo.port) for _ in range(99)]
        await asyncio.gather(*(each.call("testConnection") for each in crowd))
        await scene.send([jobs[1].event])
        await daemon.outcomes(1, outcome="synced", job=jobs[1].name)
        await asyncio.gather(*(each.aclose() for each in crowd))
        await scene.send([jobs[2].event])
        await daemon.outcomes(1, outcome="synced", job=jobs[2].name)
        assert wrong(jobs, with_mongo) == []
        assert await daemon.stop() == 0

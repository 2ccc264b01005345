"""`sync` as a process of its own, beside daemons and without."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.targets.place import ANY_TARGET
from tests.support.daemon_process import FULL_TAGS, DaemonScene, Job, daemon_scene
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

CREATE = "createExperimentRun"


@pytest.fixture
async def server() -> AsyncIterator[ModelDbV2StandIn]:
    async with ModelDbV2StandIn() as stand_in:
        yield stand_in


@pytest.fixture
async def scene(
    moto_endpoint: str, server: ModelDbV2StandIn, tmp_path: Path
) -> AsyncIterator[DaemonScene]:
    target = {"url": server.url, "settle_seconds": 1, "ui_url": "http://modeldb:3000"}
    async with daemon_scene(moto_endpoint, target, tmp_path) as made:
        await made.make_queues(f"q-{uuid.uuid4().hex[:8]}")
        yield made


class Command:
    """`sync` with the configuration of a scene."""

    def __init__(self, scene: DaemonScene, free_port: Callable[[], int]) -> None:
        daemon = scene.daemon(free_port())
        self._config = daemon.config
        self._environment = daemon.environment

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "daemon", "sync", *arguments),
            *("--config", str(self._config)),
            env=dict(self._environment),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str) -> tuple[int | None, str, str]:
        return await ended(await self.start(*arguments))


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def make_checkpoint(scene: DaemonScene) -> None:
    """As the daemon's first run does."""
    made = await open_sqlite_checkpoint(scene.home / "checkpoint.db", ANY_TARGET)
    await made.aclose()


@pytest.fixture
async def command(scene: DaemonScene, free_port: Callable[[], int]) -> Command:
    """There is a checkpoint."""
    await make_checkpoint(scene)
    return Command(scene, free_port)


@pytest.mark.slow
async def test_it_makes_no_checkpoint_of_its_own(
    scene: DaemonScene, server: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    """A new one would not know of the claims of a daemon that has another."""
    job = Job("churn-1")
    scene.finish_jobs([job])
    status, _, err = await Command(scene, free_port).run(job.name)
    assert status == 2
    assert "there is no checkpoint at" in err
    assert not (scene.home / "checkpoint.db").exists()
    assert not server.runs()


@pytest.mark.slow
async def test_from_a_dry_run_to_a_repair(
    scene: DaemonScene, server: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    job, command = Job("churn-1"), Command(scene, free_port)
    scene.finish_jobs([job])
    status, out, err = await command.run(job.name, "--dry-run")
    assert (status, err) == (0, "")
    assert "churn-1 would become a run in ModelDB V2\n\nPROJECT\n" in out
    assert not (scene.home / "checkpoint.db").exists()
    assert server.runs() == server.projects() == []

    await make_checkpoint(scene)
    status, out, err = await command.run(job.arn)
    [run] = server.runs()
    assert (status, err) == (0, "")
    assert out.startswith("churn-1 is synced: its run was created\n")
    assert f"  run url: http://modeldb:3000/personal/projects/{run['project_id']}/exp-runs/" in out

    status, out, _ = await command.run(job.name, "--json")
    assert status == 0
    assert json.loads(out)["outcome"] == "duplicate"

    scene.sagemaker.put_job(job.description, {**FULL_TAGS, "MODEL_DB_MODEL_TYPE": "LightGBM"})
    status, out, _ = await command.run(job.name, "--force", "--dry-run", "--json")
    differs = json.loads(out)["differs"]
    assert (status, server.runs()[0]["tags"]) == (0, ["sagemaker", "XGBoost"])
    status, out, _ = await command.run(job.name, "--force", "--json")
    assert (status, json.loads(out)["changed"]) == (0, differs)
    assert server.runs()[0]["tags"] == ["sagemaker", "LightGBM"]
    assert "tag 'LightGBM' (missing)" in differs

    status, _, err = await command.run("no-such-job")
    assert status == 1
    assert "SageMaker does not know a training job no-such-job" in err
    status, _, err = await command.run("no such job")
    assert status == 2
    assert err.startswith("error: JOB: 'no such job' is neither")


@pytest.mark.slow
async def test_beside_a_daemon_at_one_job_at_once_there_is_one_run(
    scene: DaemonScene, server: ModelDbV2StandIn, command: Command, free_port: Callable[[], int]
) -> None:
    jobs = [Job(f"churn-{number}") for number in range(3)]
    scene.finish_jobs(jobs)
    daemon = scene.daemon(free_port())
    await daemon.start()
    await daemon.ready()
    server.faults.delay_next(0.5, 3, operation=CREATE)
    await scene.send(job.event for job in jobs)
    answers = await asyncio.gather(*(command.run(job.name, "--force") for job in jobs))
    await daemon.outcomes(3)
    await scene.drained()

    assert [status for status, _, _ in answers] == [0, 0, 0], answers
    assert sorted(run["name"] for run in server.runs()) == [job.name for job in jobs]
    assert await daemon.stop() == 0


@pytest.mark.slow
async def test_killed_before_the_answer_of_the_create_there_is_one_run(
    scene: DaemonScene, server: ModelDbV2StandIn, command: Command
) -> None:
    scene.finish_jobs([Job("churn-1")])
    server.faults.delay_next(1.0, 1, operation=CREATE)
    process = await command.start("churn-1")
    async with asyncio.timeout(30):
        while not server.requests[CREATE]:
            await asyncio.sleep(0.01)
    process.kill()
    await process.wait()
    async with asyncio.timeout(30):
        while not server.runs():  # the create is carried out although nobody waits for its answer
            await asyncio.sleep(0.01)
    status, out, _ = await command.run("churn-1", "--json")

    assert (status, json.loads(out)["reason"]) == (0, "found_in_target")
    assert len(server.runs()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("call", ["addExperimentRunTags", "deleteExperimentRunAttributes"])
async def test_a_repair_that_is_killed_is_completed_by_the_next(
    scene: DaemonScene, server: ModelDbV2StandIn, command: Command, call: str
) -> None:
    job = Job("churn-1")
    scene.finish_jobs([job])
    assert (await command.run(job.name))[0] == 0
    scene.sagemaker.put_job(job.description, {**FULL_TAGS, "MODEL_DB_MODEL_TYPE": "LightGBM"})
    server.faults.delay_next(0.3, 1, operation=call)
    process = await command.start(job.name, "--force")
    async with asyncio.timeout(30):
        while not server.requests[call]:
            await asyncio.sleep(0.01)
    process.kill()
    await process.wait()
    await asyncio.sleep(0.4)
    status, out, _ = await command.run(job.name, "--force", "--json")

    assert (status, json.loads(out)["outcome"]) == (0, "synced")
    status, out, _ = await command.run(job.name, "--force", "--json")
    assert (json.loads(out)["reason"], json.loads(out)["changed"]) == ("found_in_target", [])
    [run] = server.runs()
    attributes = {each["key"]: each["value"] for each in run["attributes"]}
    assert (run["tags"], attributes["model_type"]) == (["sagemaker", "LightGBM"], "LightGBM")


@pytest.mark.slow
async def test_ctrl_c_while_it_waits(
    scene: DaemonScene, server: ModelDbV2StandIn, command: Command
) -> None:
    scene.finish_jobs([Job("churn-1")])
    server.faults.backend_down = True
    process = await command.start("churn-1")
    assert process.stderr is not None
    said = (await process.stderr.readline()).decode()
    assert said.startswith("waiting: ")
    process.send_signal(signal.SIGINT)
    status, _, err = await ended(process)
    assert (status, "nothing is half-written" in err) == (130, True), err

    status, _, err = await command.run("churn-1", "--wait", "0")
    assert status == 1
    assert "churn-1 is not synced: the target did not work for 0 s (unavailable)" in err
    server.faults.backend_down = False
    assert (await command.run("churn-1"))[0] == 0

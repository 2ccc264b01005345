"""`explain` as a real process, beside a real daemon, a queue, SageMaker and ModelDB on sockets."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from daemon.checkpoint.sqlite.schema import MIGRATIONS, migrate
from tests.support.daemon_process import FULL_TAGS, Job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.daemon_process import DaemonProcess, DaemonScene
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

pytestmark = pytest.mark.slow

SECRET = "hunter2hunter2"


@dataclass(frozen=True)
class SecretiveJob(Job):
    """A job with a secret in a hyperparameter."""

    @property
    def members(self) -> dict[str, Any]:
        return {"HyperParameters": {"password": SECRET}}


@dataclass(frozen=True)
class Done:
    """How a process ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


async def explain(
    daemon: DaemonProcess, job: str, *arguments: str, config: Path | None = None
) -> Done:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "daemon",
        "explain",
        job,
        *arguments,
        "--config",
        str(config or daemon.config),
        env=dict(daemon.environment) | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    assert process.returncode is not None
    done = Done(process.returncode, out.decode(), err.decode())
    assert SECRET not in done.out + done.err
    assert "Traceback" not in done.err
    return done


def changed(daemon: DaemonProcess, home: Path, **sections: dict[str, Any]) -> Path:
    """A configuration that differs from the daemon's."""
    settings = yaml.safe_load(daemon.config.read_text())
    for section, values in sections.items():
        settings[section] |= values
    path = home / "changed.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


async def test_every_job_of_a_running_daemon_is_explained(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    jobs = [
        SecretiveJob("good-1", tags=FULL_TAGS | {"api_key": SECRET}),
        SecretiveJob("bare-1", tags={"team": SECRET}),
        SecretiveJob("half-1", tags={"MODEL_DB_SYNC": "true", "token": SECRET}),
        SecretiveJob("never-1"),
    ]
    scene.finish_jobs(jobs)
    daemon = scene.daemon(free_port())
    await daemon.start()
    await scene.send(job.event for job in jobs[:3])
    await daemon.outcomes(3)

    good = await explain(daemon, "good-1")
    assert good.status == 0
    assert good.out.splitlines()[:3] == [
        jobs[0].arn,
        "  why   it is synced",
        "  next  nothing to do",
    ]
    assert "has its run: " in good.out
    document = (await explain(daemon, jobs[0].arn, "--json")).document
    assert [entry["what"] for entry in document["story"]] == [
        "received",
        "claimed",
        "described",
        "tags_read",
        "write_begun",
        "outcome",
    ]
    assert document["story"][0]["message_id"] == document["records"][0]["message_id"]
    assert document["in_modeldb"] is True
    assert document["target_ids"]["run_id"] == document["records"][0]["target_ids"]["run_id"]
    assert document["records"][0]["project"] == "churn"

    bare = (await explain(daemon, "bare-1", "--json")).document
    assert bare["why"] == "it has no tag MODEL_DB_SYNC, so it is ignored"
    assert bare["in_modeldb"] is False
    half = await explain(daemon, "half-1")
    assert "lacks MODEL_DB_PROJECT_NAME, MODEL_DB_PROJECT_USER" in half.out
    assert "message rejected" not in half.out  # it is the outcome of the story
    never = (await explain(daemon, "never-1", "--json")).document
    assert never["story"] == []
    assert never["why"].startswith("nothing stands in its way, but no message about it")

    gone = await explain(daemon, "typo-1")
    assert (gone.status, gone.out) == (1, "")
    assert gone.err.startswith("error: SageMaker has no training job typo-1 in eu-west-1 (account")
    foreign = await explain(daemon, jobs[0].arn.replace("123456789012", "210987654321"))
    assert (foreign.status, foreign.out) == (1, "")
    assert "the job belongs to account 210987654321 in eu-west-1" in foreign.err
    assert (await explain(daemon, "no job")).status == 2
    assert len(modeldb.runs()) == 1
    assert await daemon.stop() == 0
    with closing(sqlite3.connect(scene.home / "checkpoint.db")) as connection:
        assert SECRET not in str(connection.execute("SELECT entries FROM stories").fetchall())


async def test_whatever_does_not_answer_is_said_and_the_rest_is_shown(
    scene: DaemonScene,
    modeldb: ModelDbV2StandIn,
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    job = SecretiveJob("good-1")
    scene.finish_jobs([job])
    daemon = scene.daemon(free_port())
    await daemon.start()
    await scene.send([job.event])
    await daemon.outcomes(1)
    assert await daemon.stop() == 0
    nobody = f"http://127.0.0.1:{free_port()}"

    down = changed(daemon, tmp_path, aws={"sagemaker_endpoint_url": nobody})
    modeldb.faults.database_down = True
    found = (await explain(daemon, job.arn, "--json", config=down)).document
    assert found["why"] == "it is synced"
    assert len(found["story"]) == 6
    assert found["problems"]["sagemaker"]
    assert found["problems"]["target"]
    assert (found["in_modeldb"], found["sagemaker"]) == (None, None)

    modeldb.faults.database_down = False
    missing = changed(daemon, tmp_path, checkpoint={"path": str(tmp_path / "none.db")})
    found = (await explain(daemon, job.name, "--json", config=missing)).document
    assert "there is no checkpoint at" in found["problems"]["checkpoint"]
    assert found["why"] == "its run is there, but the checkpoint has not recorded it"
    assert not (tmp_path / "none.db").exists()

    newer = tmp_path / "newer.db"
    with closing(sqlite3.connect(newer, isolation_level=None)) as connection:
        migrate(connection, newer, 0.0, (*MIGRATIONS, ()))
    config = changed(daemon, tmp_path, checkpoint={"path": str(newer)})
    text = await explain(daemon, job.name, "--no-target", config=config)
    assert text.status == 0
    assert "written by a newer version of this program" in text.out
    assert "  Completed, created 2025-11-20T" in text.out
    assert "  not asked" in text.out

    nothing = changed(
        daemon,
        tmp_path,
        aws={"sagemaker_endpoint_url": nobody},
        checkpoint={"path": str(tmp_path / "none.db")},
    )
    neither = await explain(daemon, job.name, config=nothing)
    assert (neither.status, neither.out) == (1, "")
    assert neither.err.startswith("error: nothing is known of good-1: ")
    assert "there is no checkpoint at" in neither.err


async def test_explaining_changes_nothing(
    scene: DaemonScene, free_port: Callable[[], int], tmp_path: Path
) -> None:
    job = replace(Job("good-1"))
    scene.finish_jobs([job])
    daemon = scene.daemon(free_port())
    await daemon.start()
    await scene.send([job.event])
    await daemon.outcomes(1)
    assert await daemon.stop() == 0

    def content() -> list[str]:
        with closing(sqlite3.connect(scene.home / "checkpoint.db")) as connection:
            return list(connection.iterdump())

    before = content()
    other = changed(daemon, tmp_path, target={"url": f"http://127.0.0.1:{free_port()}/other"})
    found = (await explain(daemon, job.name, "--json", config=other)).document
    assert [record["state"] for record in found["records"]] == ["synced"]  # in the other place
    assert found["why"] != "it is synced"
    assert content() == before

"""The daemon process with the ModelDB V1 stand-in: one writer, standby, take-over, shutdown."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.modeldb_v1.mapping import mark_in
from tests.support.daemon_process import Job, jobs_named

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.daemon_process import DaemonProcess, DaemonScene
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn


def marks(modeldb: ModelDbV1StandIn) -> list[str]:
    return sorted(mark_in(run["description"]) or "" for run in modeldb.runs)


async def check(daemon: DaemonProcess) -> tuple[int, str]:
    """`check` with the daemon's configuration: its exit status and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "daemon",
        "check",
        "--config",
        str(daemon.config),
        env=dict(daemon.environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def became_writer(daemon: DaemonProcess) -> None:
    await daemon.logged(lambda line: line["event"] == "this process is the writer")


@pytest.mark.slow  # waits for the grace of the writer lease
async def test_one_writes_and_the_other_stands_by_until_it_has_ended(
    scene_v1: DaemonScene, modeldb_v1: ModelDbV1StandIn, free_port: Callable[[], int]
) -> None:
    without_long_polls: dict[str, Any] = {"queue": {"url": scene_v1.queue_url, "wait_seconds": 0}}
    first = scene_v1.daemon(free_port(), **without_long_polls)
    await first.start()
    await became_writer(first)
    second = scene_v1.daemon(free_port(), **without_long_polls)
    await second.start()
    await second.ready()
    await second.logged(lambda line: line["event"] == "standing by: another process is the writer")
    status, said = await second.get("/readyz")
    assert (status, json.loads(said)["state"]) == (200, "standing by")

    jobs = jobs_named("one", 20)
    scene_v1.finish_jobs(jobs)
    await scene_v1.send([job.event for job in jobs])
    await first.outcomes(20, outcome="synced")
    assert (await first.metrics())["modeldb_sync_standing_by"] == 0
    waiting = await second.metrics()
    assert (
        waiting["modeldb_sync_standing_by"],
        waiting["modeldb_sync_messages_received_total"],
    ) == (1, 0)
    assert {each.connection for each in modeldb_v1.received if each.method.startswith("store")} == {
        next(each.connection for each in modeldb_v1.received if each.method.startswith("store"))
    }

    assert await first.stop() == 0
    await became_writer(second)
    late = Job("late")
    scene_v1.finish_jobs([late])
    await scene_v1.send([late.event])
    await second.outcomes(1, outcome="synced")
    assert len(marks(modeldb_v1)) == len(set(marks(modeldb_v1))) == 21
    assert await second.stop() == 0


async def test_a_connection_lost_under_load_makes_no_run_twice_and_uses_up_no_receive(
    scene_v1: DaemonScene, modeldb_v1: ModelDbV1StandIn, free_port: Callable[[], int]
) -> None:
    jobs = jobs_named("lost", 30)
    scene_v1.finish_jobs(jobs)
    modeldb_v1.faults.drop_before_answer(5, method="storeFitEvent")
    await scene_v1.send([job.event for job in jobs] * 2)
    daemon = scene_v1.daemon(free_port())
    await daemon.start()
    lines = await daemon.outcomes(60)
    await scene_v1.drained()
    assert len(marks(modeldb_v1)) == len(set(marks(modeldb_v1))) == 30
    assert len(modeldb_v1.fits) == 30
    assert max(line["receive_count"] for line in lines) == 1
    assert await scene_v1.dead_letters() == []
    assert await daemon.stop() == 0


@pytest.mark.slow  # two daemons, one after the other
async def test_a_lost_checkpoint_makes_no_run_twice(
    scene_v1: DaemonScene,
    modeldb_v1: ModelDbV1StandIn,
    tmp_path: Path,
    free_port: Callable[[], int],
) -> None:
    jobs = jobs_named("again", 10)
    scene_v1.finish_jobs(jobs)
    for number in range(2):
        daemon = scene_v1.daemon(free_port(), checkpoint={"path": str(tmp_path / f"{number}.db")})
        await daemon.start()
        await scene_v1.send([job.event for job in jobs])
        lines = await daemon.outcomes(10, outcome="synced")
        assert {line["reason"] for line in lines} == {("created", "found_in_target")[number]}
        assert await daemon.stop() == 0
    assert len(marks(modeldb_v1)) == len(set(marks(modeldb_v1))) == 10
    assert len(modeldb_v1.fits) == 10


@pytest.mark.slow  # the unit tests of the pairing see the same
async def test_a_deleted_sqlite_file_beside_old_documents_holds_and_check_says_so(
    scene_v1: DaemonScene,
    modeldb_v1: ModelDbV1StandIn,
    free_port: Callable[[], int],
) -> None:
    jobs = jobs_named("old", 3)
    late = Job("late")
    scene_v1.finish_jobs([*jobs, late])
    daemon = scene_v1.daemon(free_port())
    await daemon.start()
    await scene_v1.send([job.event for job in jobs])
    await daemon.outcomes(3, outcome="synced")

    await modeldb_v1.forget_sqlite()
    await scene_v1.send([late.event])
    (held,) = await daemon.outcomes(1, outcome="held", reason="unavailable")
    assert "MongoDB is of another database than SQLite: it has metadata of model 1" in str(held)
    await daemon.logged(
        lambda line: line["event"] == "MongoDB of ModelDB V1 is of another database"
    )
    status, said = await check(daemon)
    assert status != 0
    (line,) = [each for each in said.splitlines() if "MongoDB is of another database" in each]
    assert "give the server the SQLite file" in line
    assert modeldb_v1.runs == []
    assert len(modeldb_v1.documents) == 3

    modeldb_v1.forget_documents()
    await daemon.outcomes(1, outcome="synced", reason="created", job="late")
    await scene_v1.drained()
    assert [each["JOB"]["name"] for each in modeldb_v1.documents] == ["late"]
    assert (await check(daemon))[0] == 0
    assert await scene_v1.dead_letters() == []
    assert await daemon.stop() == 0


@pytest.mark.slow  # so do those of a reset
async def test_a_reset_while_the_daemon_runs_is_noticed_and_what_is_synced_stays_recorded(
    scene_v1: DaemonScene,
    modeldb_v1: ModelDbV1StandIn,
    tmp_path: Path,
    free_port: Callable[[], int],
) -> None:
    jobs = jobs_named("old", 5)
    new = jobs_named("new", 5)
    scene_v1.finish_jobs([*jobs, *new])
    daemon = scene_v1.daemon(free_port())
    await daemon.start()
    await scene_v1.send([job.event for job in jobs])
    await daemon.outcomes(5, outcome="synced")

    await modeldb_v1.forget_sqlite()
    modeldb_v1.forget_documents()
    await scene_v1.send([job.event for job in [*jobs, *new]])
    await daemon.outcomes(5, outcome="duplicate", reason="already_synced")
    await daemon.outcomes(10, outcome="synced")
    await scene_v1.drained()
    resets = [line for line in daemon.log if "ModelDB V1 was reset" in line["event"]]
    assert [(line["level"], line["run_id"]) for line in resets] == [("warning", 5)]
    assert len(marks(modeldb_v1)) == len(set(marks(modeldb_v1))) == 5
    assert await daemon.stop() == 0

    again = scene_v1.daemon(free_port(), checkpoint={"path": str(tmp_path / "new.db")})
    await again.start()
    await scene_v1.send([job.event for job in [*jobs, *new]])
    await again.outcomes(5, outcome="synced", reason="created")
    await again.outcomes(5, outcome="synced", reason="found_in_target")
    assert len(marks(modeldb_v1)) == len(set(marks(modeldb_v1))) == 10
    assert await again.stop() == 0


async def test_a_wrong_port_ends_the_start_with_what_answers_there(
    scene_v1: DaemonScene, moto_endpoint: str, free_port: Callable[[], int]
) -> None:
    port = int(moto_endpoint.rpartition(":")[2])
    daemon = scene_v1.daemon(free_port(), target={"port": port})
    await daemon.start()
    assert await daemon.ended() == 2
    assert any("an HTTP server answers" in line["event"] for line in daemon.log)

"""The daemon process and what its checkpoint knows of which target: a lost one, one of two kinds,
one that is kept when ModelDB moves, one of an older version.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from daemon.cli import main
from daemon.targets.modeldb_v1.mapping import mark_in
from tests.support.daemon_process import jobs_named, mark_of
from tests.support.json_lines import json_lines
from tests.support.lost_checkpoint import come_again_after_a_lost_checkpoint
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.daemon_process import DaemonScene, Job
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn


def section(server: ModelDbV1StandIn) -> dict[str, Any]:
    return {"kind": "modeldb-v1", "host": "127.0.0.1", "port": server.port, "settle_seconds": 1}


def names_v2(server: ModelDbV2StandIn) -> list[str]:
    assert len({mark_of(run) for run in server.runs()}) == len(server.runs())
    return sorted(run["name"] for run in server.runs())


def marks_v1(server: ModelDbV1StandIn) -> list[str]:
    return sorted(mark_in(run["description"]) or "" for run in server.runs)


def names(jobs: list[Job]) -> list[str]:
    return sorted(job.name for job in jobs)


@pytest.mark.slow  # two daemons, one after the other
@pytest.mark.parametrize("kind", ["modeldb-v1", "modeldb-v2"])
async def test_after_a_lost_checkpoint_a_message_that_comes_again_makes_no_second_run(
    scene: DaemonScene,
    modeldb_v1: ModelDbV1StandIn,
    modeldb: ModelDbV2StandIn,
    free_port: Callable[[], int],
    kind: str,
) -> None:
    if kind == "modeldb-v1":
        scene.target = section(modeldb_v1)
    jobs, outcomes = await come_again_after_a_lost_checkpoint(scene, free_port, "lost")
    assert {(line["outcome"], line["reason"]) for line in outcomes} == {
        ("synced", "found_in_target")
    }
    runs = marks_v1(modeldb_v1) if kind == "modeldb-v1" else names_v2(modeldb)
    assert len(runs) == len(set(runs)) == len(jobs)


async def test_two_kinds_on_one_checkpoint_get_every_job_each(
    scene: DaemonScene,
    modeldb_v1: ModelDbV1StandIn,
    modeldb: ModelDbV2StandIn,
    free_port: Callable[[], int],
) -> None:
    jobs = list(jobs_named("both", 20))
    scene.finish_jobs(jobs)
    queues = [scene.queue_url]
    await scene.send([job.event for job in jobs])
    await scene.make_queues(f"q-{uuid.uuid4().hex[:8]}")
    queues.append(scene.queue_url)
    await scene.send([job.event for job in jobs])
    daemons = []
    for url, target in zip(queues, ({"url": modeldb.url}, section(modeldb_v1)), strict=True):
        scene.target = target
        daemons.append(scene.daemon(free_port(), queue={"url": url, "wait_seconds": 1}))
    for daemon in daemons:
        await daemon.start()
    for daemon in daemons:
        lines = await daemon.outcomes(len(jobs))
        assert {(line["outcome"], line["reason"]) for line in lines} == {("synced", "created")}
        assert await daemon.stop() == 0
    assert names_v2(modeldb) == names(jobs)
    assert len(set(marks_v1(modeldb_v1))) == len(modeldb_v1.runs) == len(jobs)


@pytest.mark.slow  # three daemons, one after the other
async def test_another_modeldb_gets_its_runs_with_the_old_checkpoint(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    jobs = list(jobs_named("moved", 5))
    scene.finish_jobs(jobs)
    for url, elsewhere in ((modeldb.url, 0), (modeldb.url.replace("127.0.0.1", "LOCALHOST"), 5)):
        daemon = scene.daemon(free_port(), target={"url": url})
        await daemon.start()
        (line,) = await daemon.logged(lambda line: line.get("event") == "checkpoint opened")
        assert line["other_targets"].startswith(
            f"5 jobs recorded for other targets: modeldb-v2 at {modeldb.url} (5)"
            if elsewhere
            else ""
        )
        assert bool(line["other_targets"]) is bool(elsewhere)
        await scene.send([job.event for job in jobs])
        lines = await daemon.outcomes(len(jobs), outcome="synced")
        # under its other name it counts as another one, and is found to have them
        expected = "found_in_target" if elsewhere else "created"
        assert {line["reason"] for line in lines} == {expected}
        assert await daemon.stop() == 0
    assert names_v2(modeldb) == names(jobs)

    async with ModelDbV2StandIn() as other:
        daemon = scene.daemon(free_port(), target={"url": other.url})
        await daemon.start()
        await scene.send([job.event for job in jobs])
        lines = await daemon.outcomes(len(jobs), outcome="synced")
        assert {line["reason"] for line in lines} == {"created"}
        # and back: nothing is forgotten
        assert await daemon.stop() == 0
        back = scene.daemon(free_port())
        await back.start()
        await scene.send([job.event for job in jobs])
        await back.outcomes(len(jobs), outcome="duplicate")
        assert await back.stop() == 0
        assert names_v2(other) == names(jobs)


def as_of_version_2(checkpoint: Path) -> None:
    """Rows as the migration makes them of those of version 2."""
    with contextlib.closing(sqlite3.connect(checkpoint)) as connection, connection:
        connection.execute("UPDATE jobs SET place = ''")
        connection.execute("DELETE FROM targets")


@pytest.mark.slow  # two daemons, one after the other
@pytest.mark.parametrize(
    # the same look-up in another target: not in every run
    "kind",
    ["modeldb-v2", "modeldb-v1"],
)
async def test_after_an_upgrade_synced_jobs_are_looked_up_once(
    scene: DaemonScene,
    modeldb_v1: ModelDbV1StandIn,
    modeldb: ModelDbV2StandIn,
    free_port: Callable[[], int],
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    if kind == "modeldb-v1":
        scene.target = section(modeldb_v1)
    jobs = list(jobs_named("upgraded", 5))
    scene.finish_jobs(jobs)
    outcomes = []
    for _ in range(3):
        daemon = scene.daemon(free_port())
        await daemon.start()
        await scene.send([job.event for job in jobs])
        lines = await daemon.outcomes(len(jobs))
        outcomes.append({(line["outcome"], line["reason"]) for line in lines})
        assert await daemon.stop() == 0
        if len(outcomes) == 1:
            as_of_version_2(scene.home / "checkpoint.db")
    assert outcomes == [
        {("synced", "created")},
        {("synced", "found_in_target")},
        {("duplicate", "already_synced")},
    ]
    if kind == "modeldb-v1":
        assert (
            len(set(marks_v1(modeldb_v1)))
            == len(modeldb_v1.runs)
            == len(modeldb_v1.fits)
            == len(jobs)
        )
        return
    assert names_v2(modeldb) == names(jobs)

    as_of_version_2(scene.home / "checkpoint.db")
    async with ModelDbV2StandIn() as other:
        daemon = scene.daemon(free_port(), target={"url": other.url})
        await daemon.start()
        await scene.send([job.event for job in jobs])
        await daemon.outcomes(len(jobs), outcome="synced", reason="created")
        assert await daemon.stop() == 0
        assert names_v2(other) == names(jobs)
        capsys.readouterr()
        history = ["history", "--config", str(daemon.config)]
        assert await asyncio.to_thread(main, [*history, "--json"]) == 0
        rows = json_lines(capsys.readouterr().out)
        assert sorted(row["place"] for row in rows) == sorted([""] * 5 + [other.url] * 5)
        assert await asyncio.to_thread(main, history) == 0
        shown = capsys.readouterr().out
        assert shown.count(f"[modeldb-v2 at {other.url}]") == 5
        assert shown.count("[modeldb-v2 at unknown place]") == 5

"""A kind of target that the daemon does not bring itself: one package, one settings class, one call
of the registry, and every verb works with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon_process import DaemonScene, Job, daemon_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

PROGRAM = "tests.support.toy_target"


@pytest.fixture
async def toy(moto_endpoint: str, tmp_path: Path) -> AsyncIterator[DaemonScene]:
    target = {"kind": "toy", "file": str(tmp_path / "runs.jsonl")}
    async with daemon_scene(moto_endpoint, target, tmp_path) as made:
        await made.make_queues(f"q-{uuid.uuid4().hex[:8]}")
        made.program = PROGRAM
        yield made


async def test_run_syncs_each_job_once(toy: DaemonScene, free_port: Callable[[], int]) -> None:
    jobs = [Job("churn-1"), Job("churn-2")]
    toy.finish_jobs(jobs)
    await toy.send(job.event for job in jobs for _ in range(2))
    daemon = toy.daemon(free_port())
    await daemon.start()
    await daemon.outcomes(2, outcome="synced")
    await daemon.outcomes(2, outcome="duplicate")
    assert (await daemon.metrics())["modeldb_sync_build_info{target=toy,version=0.1.0}"] == 1
    assert await daemon.stop() == 0
    written = (toy.home / "runs.jsonl").read_text().split("\n")[:-1]
    assert sorted(json.loads(line)["name"] for line in written) == ["churn-1", "churn-2"]


async def test_check_asks_it_and_prints_its_advice(
    toy: DaemonScene, free_port: Callable[[], int]
) -> None:
    status, out = await check(toy, free_port())
    assert status == 0
    assert f"ok    target toy: {toy.home}/runs.jsonl\n      note: see {toy.home}/runs.jsonl" in out


async def test_check_prints_its_diagnosis(toy: DaemonScene, free_port: Callable[[], int]) -> None:
    nowhere = toy.home / "nowhere"
    status, out = await check(toy, free_port(), file=str(nowhere / "runs.jsonl"))
    assert status == 1
    assert f"FAIL  target toy: no folder {nowhere}\n      note: make the folder {nowhere}" in out


async def test_its_keys_are_known_and_others_refused(
    toy: DaemonScene, free_port: Callable[[], int]
) -> None:
    status, out = await check(toy, free_port(), url="http://modeldb/v1")
    assert status == 2
    assert "target.url" in out


async def test_the_demo_shows_it(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", PROGRAM, "demo", "--target", "toy"),
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert ": 9 runs in ModelDB, exactly one for each" in out.decode()


async def check(scene: DaemonScene, port: int, **target: str) -> tuple[int, str]:
    daemon = scene.daemon(port, target=target)
    command = (sys.executable, "-m", PROGRAM, "check", "--config", str(daemon.config))
    process = await asyncio.create_subprocess_exec(
        *command,
        env=daemon.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()

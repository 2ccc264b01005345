"""The example of docs/write-a-target.md as an installed package: every verb works with it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon_process import DaemonScene, Job, daemon_scene
from tests.support.plug_ins import TALKATIVE_EXAMPLE, install

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

DEMO = "tests.support.jsonl_demo"


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    install(folder, "jsonl_pack", TALKATIVE_EXAMPLE, name="jsonl")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(Path.cwd())]))


@pytest.fixture
async def jsonl(moto_endpoint: str, tmp_path: Path, _installed: None) -> AsyncIterator[DaemonScene]:
    target = {"kind": "jsonl", "file": str(tmp_path / "runs.jsonl")}
    async with daemon_scene(moto_endpoint, target, tmp_path) as made:
        await made.make_queues(f"q-{uuid.uuid4().hex[:8]}")
        yield made


async def test_run_syncs_each_job_once(jsonl: DaemonScene, free_port: Callable[[], int]) -> None:
    jobs = [Job("churn-1"), Job("churn-2")]
    jsonl.finish_jobs(jobs)
    await jsonl.send(job.event for job in jobs for _ in range(2))
    daemon = jsonl.daemon(free_port())
    await daemon.start()
    await daemon.outcomes(2, outcome="synced")
    await daemon.outcomes(2, outcome="duplicate")
    assert (await daemon.metrics())["modeldb_sync_build_info{target=jsonl,version=0.1.0}"] == 1
    assert await daemon.stop() == 0
    written = (jsonl.home / "runs.jsonl").read_text().split("\n")[:-1]
    assert sorted(json.loads(line)["name"] for line in written) == ["churn-1", "churn-2"]


async def test_check_asks_it_and_prints_its_advice(
    jsonl: DaemonScene, free_port: Callable[[], int]
) -> None:
    status, out = await check(jsonl, free_port())
    assert status == 0
    file = jsonl.home / "runs.jsonl"
    assert (
        f"ok    target jsonl: {file} (plug-in jsonl_pack 1.2)\nnote  target jsonl: see {file}"
        in out
    )


async def test_check_prints_its_diagnosis(jsonl: DaemonScene, free_port: Callable[[], int]) -> None:
    nowhere = jsonl.home / "nowhere"
    status, out = await check(jsonl, free_port(), file=str(nowhere / "runs.jsonl"))
    assert status == 1
    assert f"FAIL  target jsonl: {nowhere}/runs.jsonl: No such file or directory\n" in out
    assert f"\nnote  target jsonl: make the folder {nowhere}\n" in out


async def test_its_keys_are_known_and_others_refused(
    jsonl: DaemonScene, free_port: Callable[[], int]
) -> None:
    status, out = await check(jsonl, free_port(), url="http://modeldb/v1")
    assert status == 2
    assert "target.url" in out


@pytest.mark.slow  # a whole demo
@pytest.mark.usefixtures("_installed")
async def test_the_demo_shows_it(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", DEMO, "demo", "--target", "jsonl"),
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert ": 9 runs in the file, exactly one for each" in out.decode()


async def check(scene: DaemonScene, port: int, **target: str) -> tuple[int, str]:
    daemon = scene.daemon(port, target=target)
    command = (sys.executable, "-m", "daemon", "check", "--config", str(daemon.config))
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


@pytest.mark.slow  # builds a package and installs it
async def test_it_is_installed_as_the_guide_says(tmp_path: Path) -> None:
    """With pip, from the guide's own pyproject.toml, and nothing from the network."""
    guide = Path("docs/write-a-target.md").read_text(encoding="utf-8")
    source, packages = tmp_path / "source", tmp_path / "packages"
    source.mkdir()
    (source / "pyproject.toml").write_text(guide.split("```toml\n")[1].split("```")[0])
    shutil.copy("docs/examples/jsonl_target.py", source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    offline, wheels = ("--no-index", "--no-deps"), str(tmp_path / "wheels")
    await succeeded(*pip, "wheel", "--no-build-isolation", *offline, "-w", wheels, str(source))
    named = ("--find-links", wheels, "sagemaker-modeldb-sync-jsonl")
    await succeeded(*pip, "install", *offline, "--target", str(packages), *named)
    config = tmp_path / "config.yaml"
    queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/modeldb-sync"
    target = {"kind": "jsonl", "file": str(tmp_path / "runs.jsonl")}
    config.write_text(json.dumps({"queue": {"url": queue}, "target": target}))
    path = os.pathsep.join([str(packages), str(Path.cwd())])
    check = (sys.executable, "-m", "daemon", "check", "--offline", "--config", str(config))
    assert "ok    configuration" in await succeeded(*check, environment={"PYTHONPATH": path})


async def succeeded(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """What a command prints that ends with status 0."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **(environment or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()

"""A kind of target from another package, with the daemon's own command line in a real process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon_process import DaemonScene, Job, daemon_scene
from tests.support.plug_ins import EXAMPLE, TALKATIVE_EXAMPLE, install

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/modeldb-sync"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, for processes that are started."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(Path.cwd())]))
    return folder


@pytest.fixture
async def scene_of_plug_in(
    moto_endpoint: str, tmp_path: Path, packages: Path
) -> AsyncIterator[DaemonScene]:
    """A daemon whose target is that of a plug-in."""
    install(packages, "jsonl_pack", TALKATIVE_EXAMPLE, name="jsonl")
    target = {"kind": "jsonl", "file": str(tmp_path / "runs.jsonl")}
    async with daemon_scene(moto_endpoint, target, tmp_path) as made:
        await made.make_queues(f"q-{uuid.uuid4().hex[:8]}")
        yield made


async def test_a_plug_in_is_synced_to(
    scene_of_plug_in: DaemonScene, packages: Path, free_port: Callable[[], int]
) -> None:
    install(packages, "broken_pack", "import nowhere_at_all", name="broken")
    scene = scene_of_plug_in
    job = Job("churn-1")
    scene.finish_jobs([job])
    await scene.send([job.event, job.event])
    daemon = scene.daemon(free_port())
    await daemon.start()
    await daemon.outcomes(1, outcome="synced")
    await daemon.outcomes(1, outcome="duplicate")
    assert await daemon.stop() == 0
    (line,) = (scene.home / "runs.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == "churn-1"
    (warning,) = (each for each in daemon.log if each["event"] == "a plug-in cannot be used")
    assert warning["plug_in"].startswith("broken_pack 1.2 (entry point broken = ")
    assert "No module named 'nowhere_at_all'" in warning["problem"]


async def test_check_asks_a_plug_in_and_notes_a_broken_one(
    scene_of_plug_in: DaemonScene, packages: Path, free_port: Callable[[], int]
) -> None:
    install(packages, "broken_pack", "import nowhere_at_all", name="broken")
    daemon = scene_of_plug_in.daemon(free_port())
    status, out = await run("check", "--config", str(daemon.config), environment=daemon.environment)
    assert status == 0, out
    file = scene_of_plug_in.home / "runs.jsonl"
    assert (
        f"ok    target jsonl: {file} (plug-in jsonl_pack 1.2)\nnote  target jsonl: see {file}"
        in out
    )
    assert (
        "note  target broken: the plug-in broken_pack 1.2 (entry point broken = broken_pack:KIND) "
        "cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'\n"
    ) in out


async def test_a_broken_plug_in_that_is_not_named_stops_nothing(
    packages: Path, tmp_path: Path
) -> None:
    install(packages, "broken_pack", "raise SystemExit(7)", name="broken")
    status, out = await check_offline(tmp_path, {"url": "http://modeldb:8080/v1"})
    assert (status, out) == (0, "ok    configuration\n")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        (
            "from daemon.config.settings import Settings",
            "ImportError: cannot import name 'Settings'",
        ),
    ],
)
async def test_a_broken_plug_in_that_is_named_is_a_fault_of_the_setup(
    packages: Path, tmp_path: Path, code: str, words: str
) -> None:
    install(packages, "broken_pack", code)
    status, out = await check_offline(tmp_path, {"kind": "toy", "file": "/tmp/runs.jsonl"})
    assert status == 2
    assert (
        "target.kind = 'toy': the plug-in broken_pack 1.2 (entry point toy = broken_pack:KIND) "
        f"cannot be imported: {words}"
    ) in out
    assert "target.file" not in out


async def test_the_keys_of_a_plug_in_are_known_and_others_refused(
    packages: Path, tmp_path: Path
) -> None:
    install(packages, "jsonl_pack", None, name="jsonl", value=EXAMPLE)
    status, out = await check_offline(tmp_path, {"kind": "jsonl", "host": "modeldb"})
    assert status == 2
    assert "target.host: does not go with this target.kind" in out
    assert "target.file: is required" in out


async def check_offline(home: Path, target: Mapping[str, str]) -> tuple[int, str]:
    config = home / "config.yaml"
    config.write_text(json.dumps({"queue": {"url": QUEUE_URL}, "target": target}))
    return await run("check", "--offline", "--config", str(config), environment=dict(os.environ))


async def run(*words: str, environment: Mapping[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "daemon", *words),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()

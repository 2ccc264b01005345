"""A stop ends within the grace time, whatever is silent or hangs, and its exit status says whether
everything was handed back in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.support.daemon_process import daemon_scene, jobs_named
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
from tests.support.silent_proxy import SilentProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection
    from pathlib import Path

    from tests.support.daemon_process import DaemonProcess, DaemonScene
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

GRACE_SECONDS = 7
EVERYTHING = ("sqs", "sagemaker", "target", "disk")


class SilentScene:
    """A daemon with jobs in flight, each of whose edges can fall silent."""

    def __init__(
        self,
        scene: DaemonScene,
        proxies: dict[str, SilentProxy],
        disk_hangs: Path,
    ) -> None:
        self.scene = scene
        self.proxies = proxies
        self.disk_hangs = disk_hangs

    async def silence(self, edges: Collection[str]) -> None:
        """Returns when one of the edges has left something unanswered."""
        for edge in edges:
            if edge == "disk":
                self.disk_hangs.touch()
            else:
                self.proxies[edge].silent = True
        async with asyncio.timeout(20):
            while not any(map(self._left_something_unanswered, edges)):
                await asyncio.sleep(0.02)

    def _left_something_unanswered(self, edge: str) -> bool:
        if edge == "disk":
            return self.disk_hangs.with_suffix(".hit").exists()
        return self.proxies[edge].swallowed

    def restore(self) -> None:
        self.disk_hangs.unlink(missing_ok=True)
        for proxy in self.proxies.values():
            proxy.silent = False

    def daemon(self, port: int) -> DaemonProcess:
        return self.scene.daemon(
            port,
            aws={
                "region": "eu-west-1",
                "account_id": "123456789012",
                "sqs_endpoint_url": self.proxies["sqs"].url,
                "sagemaker_endpoint_url": self.proxies["sagemaker"].url,
            },
            queue={"url": self.scene.queue_url, "wait_seconds": 1},
            shutdown={"grace_seconds": GRACE_SECONDS},
        )


@contextlib.asynccontextmanager
async def silent_scene(
    moto_endpoint: str, modeldb: ModelDbV2StandIn, tmp_path: Path, target_kind: str
) -> AsyncIterator[SilentScene]:
    async with contextlib.AsyncExitStack() as parts:
        scene = await parts.enter_async_context(daemon_scene(moto_endpoint, modeldb.url, tmp_path))
        scene.program = "tests.support.daemon_with_hanging_disk"
        await scene.make_queues(f"q-{uuid.uuid4().hex[:8]}", visibility=10)
        urls = {"sqs": moto_endpoint, "sagemaker": scene.sagemaker.url}
        if target_kind == "modeldb-v1":
            v1 = await parts.enter_async_context(ModelDbV1StandIn())
            urls["target"] = f"http://127.0.0.1:{v1.port}"
        else:
            urls["target"] = modeldb.url
        proxies = {
            edge: await parts.enter_async_context(SilentProxy(url)) for edge, url in urls.items()
        }
        target: dict[str, Any] = {"kind": target_kind, "settle_seconds": 1}
        if target_kind == "modeldb-v1":
            target |= {"host": "127.0.0.1", "port": proxies["target"].port}
        else:
            target["url"] = proxies["target"].url + urlsplit(modeldb.url).path
        scene.target = target
        yield SilentScene(scene, proxies, tmp_path / "disk.hangs")


@pytest.mark.parametrize("target_kind", ["modeldb-v2", "modeldb-v1"])
@pytest.mark.parametrize(
    ("silent", "status"),
    [
        (("sagemaker",), 0),
        (("target",), 0),
        (("sqs",), 1),
        (("disk",), 1),
        (EVERYTHING, 1),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
async def test_a_stop_ends_in_time_whatever_is_silent(
    moto_endpoint: str,
    modeldb: ModelDbV2StandIn,
    tmp_path: Path,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    target_kind: str,
    silent: tuple[str, ...],
    status: int,
) -> None:
    monkeypatch.setenv("DISK_HANGS_WHILE", str(tmp_path / "disk.hangs"))
    async with silent_scene(moto_endpoint, modeldb, tmp_path, target_kind) as stage:
        jobs = jobs_named("stop", 40)  # more than SageMaker is asked about at once
        stage.scene.finish_jobs(jobs)
        daemon = stage.daemon(free_port())
        await daemon.start()
        await daemon.ready()
        stage.scene.sagemaker.latency_seconds = 1.0
        await stage.scene.send([job.event for job in jobs])
        await daemon.outcomes(1)
        await stage.silence(silent)
        begun = time.monotonic()
        daemon.signal(signal.SIGTERM)
        ended = await daemon.ended()
        seconds = time.monotonic() - begun
        assert seconds < GRACE_SECONDS, daemon.log[-5:]
        assert ended == status
        stopped = [line for line in daemon.log if line["event"] == "stopped"]
        assert [bool(line["unclean"]) for line in stopped] == [bool(status)]


async def test_a_stop_during_the_start_ends_in_time(
    moto_endpoint: str,
    modeldb: ModelDbV2StandIn,
    tmp_path: Path,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DISK_HANGS_WHILE", str(tmp_path / "disk.hangs"))
    async with silent_scene(moto_endpoint, modeldb, tmp_path, "modeldb-v2") as stage:
        stage.disk_hangs.touch()
        daemon = stage.daemon(free_port())
        await daemon.start()
        await stage.silence(("disk",))
        begun = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 1
        assert time.monotonic() - begun < GRACE_SECONDS

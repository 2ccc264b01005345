"""A stop ends within the grace time, whatever is silent or hangs, and its exit status says whether
everything was handed back in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import uuid
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.support.daemon_process import daemon_scene, jobs_named
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
from tests.support.tcp_fault_proxy import Fault, FaultProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection
    from pathlib import Path

    from tests.support.daemon_process import DaemonProcess, DaemonScene
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

GRACE_SECONDS = 7
EVERYTHING = ("sqs", "sagemaker", "target", "disk")


class SilentScene:
    """A daemon with jobs in flight, each of whose edges can fall silent.

    Args:
        proxies: by edge.
        disk_hangs: see `tests.support.daemon_with_hanging_disk`.
        silent: entered for each edge that falls silent; ended by the caller.
    """

    def __init__(
        self,
        scene: DaemonScene,
        proxies: dict[str, FaultProxy],
        disk_hangs: Path,
        silent: contextlib.AsyncExitStack,
    ) -> None:
        self.scene = scene
        self.proxies = proxies
        self.disk_hangs = disk_hangs
        self._silent = silent

    async def silence(self, edges: Collection[str]) -> None:
        """Returns when one of the edges has left something unanswered."""
        for edge in edges:
            if edge == "disk":
                self.disk_hangs.touch()
            else:
                await self._silent.enter_async_context(self.proxies[edge].failing(Fault.BLACK_HOLE))
        async with asyncio.timeout(20):
            while not any(map(self._left_something_unanswered, edges)):
                await asyncio.sleep(0.02)

    def _left_something_unanswered(self, edge: str) -> bool:
        if edge == "disk":
            return self.disk_hangs.with_suffix(".hit").exists()
        return self.proxies[edge].struck[Fault.BLACK_HOLE] > 0

    def daemon(self, port: int) -> DaemonProcess:
        return self.scene.daemon(
            port,
            aws={
                "region": "eu-west-1",
                "account_id": "123456789012",
                "sqs_endpoint_url": f"http://127.0.0.1:{self.proxies['sqs'].port}",
                "sagemaker_endpoint_url": f"http://127.0.0.1:{self.proxies['sagemaker'].port}",
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
        ports = {"sqs": port_of(moto_endpoint), "sagemaker": port_of(scene.sagemaker.url)}
        if target_kind == "modeldb-v1":
            v1 = await parts.enter_async_context(ModelDbV1StandIn())
            ports["target"] = v1.port
        else:
            ports["target"] = port_of(modeldb.url)
        proxies = {
            edge: await parts.enter_async_context(FaultProxy(port, Random(1)))
            for edge, port in ports.items()
        }
        target: dict[str, Any] = {"kind": target_kind, "settle_seconds": 1}
        if target_kind == "modeldb-v1":
            target |= {"host": "127.0.0.1", "port": proxies["target"].port}
        else:
            path = urlsplit(modeldb.url).path
            target["url"] = f"http://127.0.0.1:{proxies['target'].port}{path}"
        scene.target = target
        silent = await parts.enter_async_context(contextlib.AsyncExitStack())
        yield SilentScene(scene, proxies, tmp_path / "disk.hangs", silent)


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


@pytest.mark.parametrize(
    "target_kind",
    # the same steps with another target: not in every run
    ["modeldb-v2", pytest.param("modeldb-v1", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(
    ("silent", "status"),
    [
        pytest.param(("sagemaker",), 0, marks=pytest.mark.slow),
        pytest.param(("target",), 0, marks=pytest.mark.slow),
        pytest.param(("sqs",), 1, marks=pytest.mark.slow),
        pytest.param(("disk",), 1, marks=pytest.mark.slow),
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


@pytest.mark.slow  # waits until the time is over
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

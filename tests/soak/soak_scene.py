"""One daemon with its queue, its SageMaker stub, its ModelDB behind a proxy and its checkpoint on a
small disk; and the faults of these parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tests.soak.processes import SoakDaemon, Usage
from tests.support.daemon_process import CREDENTIALS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tests.support.daemon_process import DaemonScene

SETTLE_SECONDS = 6
V2_TARGET = {"timeout_seconds": 10, "settle_seconds": SETTLE_SECONDS}
V1_TARGET = {"timeout_seconds": 31, "settle_seconds": SETTLE_SECONDS}
"""The shortest deadlines that the configuration takes."""
VISIBILITY_SECONDS = 30
MAX_RECEIVE_COUNT = 100
"""High enough that kills never bring a message into the dead-letter queue."""
DISK_MIB = 64


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_daemon(
    scene: DaemonScene,
    log_file: Path,
    *,
    clock_file: Path | None = None,
    checkpoint: Path | None = None,
    aws: Mapping[str, Any] | None = None,
) -> SoakDaemon:
    """A daemon process for a scene, with the soak's settings. Each call takes a new port.

    Args:
        aws: other endpoints than the scene's.
    """
    port = free_port()
    sections: dict[str, Mapping[str, Any]] = {
        "jobs": {"redact": []},
        "queue": {
            "url": scene.queue_url,
            "wait_seconds": 2,
            "retry": {"initial_seconds": 2, "max_seconds": 20},
        },
    }
    if checkpoint is not None:
        sections["checkpoint"] = {"path": str(checkpoint)}
    if aws is not None:
        sections["aws"] = aws
    made = scene.daemon(port, **sections)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "MODELDB_"))
    }
    daemon = SoakDaemon(made.config, port, environment | CREDENTIALS, log_file, clock_file)
    scene._processes.append(daemon)  # killed with the scene when a story breaks off
    return daemon


class SmallDisk:
    """A file system of its own for a checkpoint, where the system allows to mount one: only such a
    disk can be filled.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mounted = False

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        command = [
            "mount",
            "-t",
            "tmpfs",
            "-o",
            f"size={DISK_MIB}m,mode=0700",
            "modeldb-sync-soak",
            str(self.folder),
        ]
        with contextlib.suppress(FileNotFoundError):
            self.mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
        return self

    def __exit__(self, *_error: object) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False)

    @contextlib.contextmanager
    def full(self) -> Any:
        """Fills the disk while the block runs."""
        filler = self.folder / "filler"
        try:
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            yield
        finally:
            filler.unlink(missing_ok=True)


@dataclass
class Happenings:
    """What happened to a scene's daemon, and the violations."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


class SoakScene:
    """A daemon that is killed, stopped and started again.

    Args:
        disk: where the checkpoint is.
        stretch: samples of the daemon that runs to the end come from `sample`.

    Attributes:
        calm: held while something outside the daemon is broken that must not meet a deleted
            checkpoint. A checkpoint that is gone knows of no write that is still on its way, so
            nothing may be on its way then for longer than people take to start a daemon.
    """

    def __init__(
        self, name: str, scene: DaemonScene, folder: Path, disk: SmallDisk, began: float
    ) -> None:
        self.name = name
        self.base = scene
        self.disk = disk
        self.happened = Happenings()
        self.calm = asyncio.Lock()
        self.log_file = folder / f"{name}.log"
        self.clock_file = folder / f"{name}.clock"
        self.clock_file.write_text("0")
        self.checkpoint = disk.folder / "checkpoint.db"
        self.daemon = self._new_daemon()
        self.samples: list[Usage] = []
        self._process = asyncio.Lock()
        self._began = began
        self._started = 0.0
        self._may_exit_until = 0.0

    def _new_daemon(self) -> SoakDaemon:
        return make_daemon(
            self.base, self.log_file, clock_file=self.clock_file, checkpoint=self.checkpoint
        )

    @property
    def minute(self) -> float:
        return (asyncio.get_running_loop().time() - self._began) / 60

    def wrong(self, words: str) -> None:
        self.happened.violations.append(f"{self.name}, minute {self.minute:.2f}: {words}")

    async def start(self) -> None:
        await self.daemon.start()
        self._started = asyncio.get_running_loop().time()

    async def kill(self) -> None:
        """SIGKILL and restart."""
        async with self._process:
            await self.daemon.kill()
            self.happened.counts["kills"] += 1
            await self.start()

    async def restart(self) -> None:
        """SIGTERM and restart."""
        async with self._process:
            await self._terminate("SIGTERMs")
            await self.start()

    async def lose_checkpoint(self) -> None:
        """The file is deleted under the daemon, which must say so; a person then starts it
        again.
        """
        async with self.calm, self._process:
            log_before = self.log_file.stat().st_size
            for suffix in ("", "-wal", "-shm"):
                self.checkpoint.with_name(self.checkpoint.name + suffix).unlink(missing_ok=True)
            self.happened.counts["checkpoints deleted"] += 1
            try:
                async with asyncio.timeout(60):
                    while not self._said(log_before, b"restart the program"):
                        await asyncio.sleep(0.2)
            except TimeoutError:
                self.wrong("the checkpoint was deleted, and within 60 s the daemon did not say so")
            await self._terminate("SIGTERMs without a checkpoint")
            await asyncio.sleep(SETTLE_SECONDS + 2)
            await self.start()

    def _said(self, offset: int, words: bytes) -> bool:
        with self.log_file.open("rb") as log:
            log.seek(offset)
            return words in log.read()

    async def _terminate(self, counted: str) -> None:
        if self.daemon.process.returncode is not None:
            return
        if asyncio.get_running_loop().time() - self._started < 5:
            # before its handler of signals is there, SIGTERM ends Python at once
            await asyncio.sleep(5)
        self.daemon.signal(signal.SIGTERM)
        self.happened.counts[counted] += 1
        try:
            status = await self.daemon.ended(45)
        except TimeoutError:
            self.wrong("SIGTERM: not ended within 45 s, killed")
            await self.daemon.kill()
            return
        if status != 0 and asyncio.get_running_loop().time() > self._may_exit_until:
            self.wrong(f"SIGTERM: exit status {status}")

    @contextlib.asynccontextmanager
    async def disk_full(self) -> AsyncIterator[None]:
        """A daemon that starts now ends at once, and is started again until it can."""
        self._may_exit_until = float("inf")
        with self.disk.full():
            self.happened.counts["disk full"] += 1
            yield
        self._may_exit_until = asyncio.get_running_loop().time() + 5

    @contextlib.asynccontextmanager
    async def clock_stepped(self, seconds: float) -> AsyncIterator[None]:
        self.happened.counts["clock steps"] += 1
        self.clock_file.write_text(str(seconds))
        try:
            yield
        finally:
            self.clock_file.write_text("0")

    async def watch(self) -> None:
        """What an orchestrator does: starts a daemon that ended again, and asks whether it is
        alive.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1)
            if self._process.locked():
                continue
            async with self._process:
                status = self.daemon.process.returncode
                if status is not None:
                    if loop.time() > self._may_exit_until:
                        self.wrong(f"the daemon ended by itself, with status {status}")
                    else:
                        self.happened.counts["ended for want of disk"] += 1
                    await self.start()
            daemon, started = self.daemon, self._started
            if loop.time() - started < 15:
                continue
            answer = await daemon.status("/healthz")
            if self._process.locked() or self._started != started or answer == 200:
                continue
            if answer == 0:
                self.happened.counts["health checks without an answer in 5 s"] += 1
            else:
                _, text = await daemon.get("/healthz")
                self.wrong(f"/healthz answers {answer}: {text}")

    async def sample(self) -> None:
        while True:
            usage = Usage.of(self.daemon.pid, self.minute)
            if usage is not None:
                self.samples.append(usage)
            await asyncio.sleep(5)

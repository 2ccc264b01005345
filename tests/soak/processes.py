"""The daemon as a process whose log is a file, and the resources that a process uses."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.support.daemon_process import DaemonProcess

if TYPE_CHECKING:
    from collections.abc import Mapping

CLOCK_FOLDER = Path(__file__).parent / "stepped_clock"


class SoakDaemon(DaemonProcess):
    """Its log goes to a file: an hour of it is too much for memory. `logged` and `outcomes` know
    nothing of it.

    Args:
        log_file: is written to its end; several processes may share one.
        clock_file: see `stepped_clock`; None: the machine's own clock.
    """

    def __init__(
        self,
        config: Path,
        port: int,
        environment: Mapping[str, str],
        log_file: Path,
        clock_file: Path | None,
    ) -> None:
        if clock_file is not None:
            environment = {
                **environment,
                "PYTHONPATH": str(CLOCK_FOLDER),
                "SOAK_CLOCK_FILE": str(clock_file),
            }
        super().__init__(config, port, environment)
        self.log_file = log_file

    async def start(self) -> None:
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "daemon",
                "run",
                "--config",
                str(self.config),
                env=dict(self.environment),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    async def ended(self, seconds: float = 60) -> int:
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self.ended()

    async def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def ready(self, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while await self.status("/readyz") != 200:
                await asyncio.sleep(0.1)

    async def left_in_flight(self, seconds: float = 10) -> float:
        """What the gauge of messages in flight comes to; a message leaves the queue a moment before
        it leaves the daemon.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while left := (await self.metrics())["modeldb_sync_messages_in_flight"]:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.2)
        return left

    async def status(self, path: str) -> int:
        """The HTTP status of a page; 0: no answer."""
        try:
            async with asyncio.timeout(5):
                return (await self.get(path))[0]
        except (aiohttp.ClientError, TimeoutError):
            return 0


@dataclass(frozen=True)
class Usage:
    """The resources that a process uses at one moment."""

    minute: float
    rss_mib: float
    descriptors: int
    sockets: int
    threads: int

    @classmethod
    def of(cls, pid: int, minute: float) -> Usage | None:
        """None: the process has ended."""
        try:
            status = dict(
                line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            )
            links = []
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    links.append(str(descriptor.readlink()))
                except FileNotFoundError:
                    continue  # closed since
        except (FileNotFoundError, ProcessLookupError):
            return None
        if "VmRSS" not in status:
            return None
        return cls(
            round(minute, 2),
            round(int(status["VmRSS"].split()[0]) / 1024, 1),
            len(links),
            sum(link.startswith("socket:") for link in links),
            int(status["Threads"]),
        )

    def __str__(self) -> str:
        return (
            f"RSS {self.rss_mib:.1f} MiB, {self.descriptors} descriptors, {self.sockets} sockets, "
            f"{self.threads} threads"
        )

    def plain(self) -> dict[str, Any]:
        return asdict(self)

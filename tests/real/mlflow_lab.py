"""Real MLflow servers for tests, run by the control script in MLFLOW_LAB.

The script has the commands ``up --port N [--version 2] [--workers N] [OPTION...]`` (prints the URL;
options go to ``mlflow server``), ``stop`` and ``start`` (frozen, and back), ``down [--keep]`` and
``python [--version 2]`` (prints the interpreter that has the official client). Servers keep
their data in SQLite, or in a PostgreSQL that is started for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

LAB = os.environ.get("MLFLOW_LAB", "")

_DRIVER = "psycopg2-binary"


class LabServer:
    """One server.

    Args:
        version: 3 (3.17.2) or 2 (2.22.5).
        options: of ``mlflow server``.
        environment: further variables of the server.

    Attributes:
        url: once it is up.
    """

    def __init__(
        self,
        *,
        version: int = 3,
        workers: int = 1,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._arguments = ["--version", str(version), "--workers", str(workers), *options]
        self._environment = dict(environment or {})
        self.version = version
        self.port = 0
        self.url = ""

    def target(self, **settings: object) -> dict[str, Any]:
        """The section of the configuration."""
        return {
            "kind": "mlflow",
            "tracking_uri": self.url,
            "settle_seconds": 1,
            **settings,
        }

    async def up(self) -> None:
        """Starts it on a free port, or restarts it with the same port and data."""
        answer = await control(
            "up", "--port", str(self.port), *self._arguments, environment=self._environment
        )
        self.url = answer.strip()
        self.port = int(self.url.rpartition(":")[2])

    async def down(self, *, keep: bool = False) -> None:
        """Stops it.

        Args:
            keep: its data, for the next `up`.
        """
        await control("down", "--port", str(self.port), *(["--keep"] if keep else []))

    @contextlib.asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """It takes connections and answers nothing for as long as the block lasts."""
        await control("stop", "--port", str(self.port))
        try:
            yield
        finally:
            await control("start", "--port", str(self.port))


async def interpreter(version: int = 3) -> str:
    """The Python that has the official client."""
    return (await control("python", "--version", str(version))).strip()


async def control(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Runs the control script; returns its output."""
    return await output_of(LAB, *arguments, environment=environment)


async def output_of(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """Standard output of a program that must succeed.

    What it leaves running inherits no pipe of ours: its output goes to files.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=os.environ | dict(environment or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        status = await process.wait()
        output.seek(0)
        errors.seek(0)
        assert status == 0, errors.read().decode(errors="replace")
        return output.read().decode()


@contextlib.asynccontextmanager
async def lab_server(
    *,
    version: int = 3,
    workers: int = 1,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[LabServer]:
    """A server on a free port with an empty database, stopped and forgotten after the block."""
    server = LabServer(version=version, workers=workers, options=options, environment=environment)
    await server.up()
    try:
        yield server
    finally:
        await server.down()


class PostgreSql:
    """A PostgreSQL of its own for one server, on a free port.

    Args:
        home: an empty folder that the user of `prefix` may write to.
        programs: the folder of initdb and pg_ctl.
        prefix: runs a program as a user other than root, whom PostgreSQL refuses.
    """

    def __init__(self, home: Path, programs: Path, prefix: Sequence[str]) -> None:
        self._home = home
        self._programs = programs
        self._prefix = prefix
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    @property
    def uri(self) -> str:
        """For ``--backend-store-uri``."""
        return f"postgresql+psycopg2://mlflow@127.0.0.1:{self.port}/postgres"

    async def make(self) -> None:
        await self._run("initdb", "-D", "data", "-A", "trust", "-U", "mlflow", "-E", "UTF8")

    async def start(self) -> None:
        """Returns when it takes connections."""
        options = (
            f"-p {self.port} -k '' -c listen_addresses=127.0.0.1 -c fsync=off "
            "-c max_connections=50 -c shared_buffers=32MB"
        )
        await self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")

    async def stop(self) -> None:
        """Ends it at once; open connections break."""
        await self._run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    async def _run(self, program: str, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._prefix,
            str(self._programs / program),
            *arguments,
            cwd=self._home,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert await process.wait() == 0, f"{program} {' '.join(arguments)}"


def postgresql_programs() -> Path | None:
    """The folder of PostgreSQL's programs; None: there is none."""
    found = shutil.which("pg_ctl")
    if found is not None and shutil.which("initdb") is not None:
        return Path(found).parent
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return packaged[-1] if packaged else None


@contextlib.asynccontextmanager
async def postgresql() -> AsyncIterator[PostgreSql]:
    """A PostgreSQL with an empty database, and its driver in the environment of the servers."""
    programs = postgresql_programs()
    assert programs is not None
    with tempfile.TemporaryDirectory(prefix="mlflow-postgresql-") as folder:
        prefix: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
            prefix = [
                "setpriv",
                f"--reuid={user.pw_uid}",
                f"--regid={user.pw_gid}",
                "--clear-groups",
            ]
        server = PostgreSql(Path(folder), programs, prefix)
        await server.make()
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


async def install_driver() -> bool:
    """Whether servers can use PostgreSQL: fetches the driver if it is missing."""
    python = await interpreter()
    with contextlib.suppress(AssertionError):
        await output_of(python, "-c", "import psycopg2")
        return True
    with contextlib.suppress(AssertionError):
        await output_of(python, "-m", "pip", "-q", "install", _DRIVER)
        return True
    return False

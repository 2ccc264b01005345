"""The container engine of the tests in this folder, named by ``CONTAINER_ENGINE`` and ``COMPOSE``.

`docker` and ``docker compose`` or `podman` and ``podman-compose``; the image, `IMAGE`, must exist.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import time
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[2]
ENGINE = shlex.split(os.environ.get("CONTAINER_ENGINE", ""))
COMPOSE = shlex.split(os.environ.get("COMPOSE", ""))
IMAGE = os.environ.get("DAEMON_IMAGE", "sagemaker-modeldb-sync")

NO_ENGINE = (
    "needs CONTAINER_ENGINE (docker) and COMPOSE ('docker compose'), and the image: docker "
    "build -t sagemaker-modeldb-sync ."
)
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")


class CommandError(AssertionError):
    """A command of the engine failed; says which, and what it printed."""


async def run(
    *command: str,
    environment: dict[str, str] | None = None,
    seconds: float = 120,
    expect: int | None = 0,
) -> str:
    """Runs a command.

    Args:
        command: program and arguments.
        environment: over this process's own.
        seconds: deadline.
        expect: the exit status that is right; None: any.

    Returns:
        What it wrote to standard output.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=TOP,
        env={**os.environ, **(environment or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(seconds):
        out, err = await process.communicate()
    if expect is not None and process.returncode != expect:
        raise CommandError(
            f"{shlex.join(command)}: exit status "
            f"{process.returncode}\n{out.decode()[-2000:]}\n{err.decode()[-2000:]}"
        )
    return out.decode()


async def engine(*arguments: str, seconds: float = 120, expect: int | None = 0) -> str:
    return await run(*ENGINE, *arguments, seconds=seconds, expect=expect)


async def state(container: str) -> dict[str, Any]:
    """What the engine tells of a container's state, by the engine's own names (``Status``,
    ``ExitCode``).
    """
    found: dict[str, Any] = json.loads(await engine("inspect", container))[0]["State"]
    return found


async def printed(container: str) -> str:
    """The output of a container, of both streams."""
    process = await asyncio.create_subprocess_exec(
        *ENGINE, "logs", container, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return out.decode()


async def logs(container: str) -> list[dict[str, Any]]:
    """The daemon's log lines."""
    output = await printed(container)
    return [json.loads(line) for line in output.split("\n") if line.startswith("{")]


async def stop(container: str, seconds: int = 30) -> float:
    """Stops a container as ``docker stop`` does.

    Returns:
        How long it took, in seconds.
    """
    begun = time.monotonic()
    await engine("stop", "--time", str(seconds), container)
    return time.monotonic() - begun

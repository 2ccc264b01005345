"""The command of the service ``mlflow`` in docker-compose.yml, tried on the same release of MLflow
from PyPI, because its image may be out of reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
import yaml

from tests.real.mlflow_lab import LAB, interpreter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [
    pytest.mark.slow,  # a real server
    pytest.mark.skipif(not LAB, reason="needs a control script of MLflow servers: MLFLOW_LAB"),
]

TOP = Path(__file__).parents[2]
SERVICE = yaml.safe_load((TOP / "docker-compose.yml").read_text())["services"]["mlflow"]
SEARCH = "/api/2.0/mlflow/experiments/search"


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[str]:
    """The server as Compose would start it, with another port and folder. Gives its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bin_folder = Path(await interpreter()).parent
    command = [
        re.sub(r"\$\{MLFLOW_UI_PORT:-(\d+)}", r"\1", word)
        .replace("--port=5000", f"--port={port}")
        .replace("--host=0.0.0.0", "--host=127.0.0.1")
        .replace("/mlflow/", f"{folder}/")
        for word in SERVICE["command"]
    ]
    with (folder / "log").open("wb") as log:
        server = await asyncio.create_subprocess_exec(
            str(bin_folder / command[0]),
            *command[1:],
            env=os.environ
            | SERVICE["environment"]
            | {"PATH": f"{bin_folder}:{os.environ['PATH']}"},
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        await server.wait()


async def answer(url: str, host: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(url + SEARCH, json={"max_results": 1}, headers={"Host": host}) as response,
    ):
        return response.status


async def test_it_starts_and_answers_the_daemon_and_browsers_on_this_machine_only(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as url, asyncio.timeout(90):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                if await answer(url, "mlflow:5000") == 200:
                    break
            await asyncio.sleep(0.2)
        assert await answer(url, "localhost:5001") == 200
        assert await answer(url, "127.0.0.1:5001") == 200
        assert await answer(url, "mlflow.example.com:5000") == 403
        assert (tmp_path / "mlflow.db").exists()

"""What stands around the real MLflow server in the demo: the proxy with the faults, and the guard
that ends its processes. The server itself is tests/real's.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import aiohttp
import pytest

from daemon.demo.mlflow.real_server import Proxy, running_real_server
from daemon.errors import DaemonError
from tests.support.mlflow_stand_in import MlflowStandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

API = "/api/2.0/mlflow/"
GUARD = (sys.executable, "-m", "daemon.demo.mlflow.guard")


@pytest.fixture
async def proxied() -> AsyncIterator[tuple[MlflowStandIn, Proxy, aiohttp.ClientSession]]:
    async with (
        MlflowStandIn() as server,
        Proxy(server.url) as proxy,
        aiohttp.ClientSession(proxy.url) as http,
    ):
        yield server, proxy, http


async def test_the_proxy_passes_requests_and_answers_on(
    proxied: tuple[MlflowStandIn, Proxy, aiohttp.ClientSession],
) -> None:
    _server, proxy, http = proxied
    async with http.post(f"{API}runs/create", json={"experiment_id": "0"}) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        run_id = (await answer.json())["run"]["info"]["run_id"]
    search = f"{API}model-versions/search"
    async with http.get(search, params={"filter": f"run_id = '{run_id}'"}) as answer:
        assert (answer.status, await answer.json()) == (200, {})
    async with http.post(f"{API}runs/create", json={"experiment_id": "9"}) as answer:
        assert answer.status == 404
    assert proxy.created_runs == 1


async def test_the_database_is_gone_and_health_says_ok(
    proxied: tuple[MlflowStandIn, Proxy, aiohttp.ClientSession],
) -> None:
    server, proxy, http = proxied
    proxy.faults.database_down = True
    async with http.post(f"{API}experiments/search", json={"max_results": 1}) as answer:
        assert answer.status == 503
        assert (await answer.json())["error_code"] == "TEMPORARILY_UNAVAILABLE"
    async with http.get("/health") as answer:
        assert (answer.status, await answer.text()) == (200, "OK")
    assert server.requests == {"/health": 1}


async def test_the_lost_answer_was_carried_out(
    proxied: tuple[MlflowStandIn, Proxy, aiohttp.ClientSession],
) -> None:
    server, proxy, http = proxied
    proxy.faults.lose_next_answer("runs/create")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await http.post(f"{API}runs/create", json={"experiment_id": "0"})
    assert len(server.model.runs()) == proxy.created_runs == 1


async def _started(*command: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    return process


async def test_the_guard_ends_grandchildren_when_its_input_is_closed() -> None:
    # The command leaves a process that has its standard output, and goes on itself.
    process = await _started(*GUARD, "sh", "-c", "sleep 600 & echo up; sleep 600")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    async with asyncio.timeout(10):
        assert await process.stdout.read() == b"", "all that could write have ended"
        assert await process.wait() == -signal.SIGKILL


async def test_the_guard_ends_with_its_command() -> None:
    process = await _started(*GUARD, "sh", "-c", "sleep 600 & echo up")
    assert process.stdout is not None
    async with asyncio.timeout(10):
        assert await process.stdout.read() == b""
        assert await process.wait() == -signal.SIGKILL


async def test_a_server_that_ends_while_it_starts_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.demo.mlflow.real_server.COMMAND", (sys.executable, "-c", "exit(3)"))
    async with aiohttp.ClientSession() as http:
        with pytest.raises(DaemonError, match=r"ended while it started; see its log: .*log"):
            async with running_real_server(http, tmp_path):
                pass

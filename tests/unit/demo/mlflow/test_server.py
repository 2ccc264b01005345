"""The MLflow stand-in over HTTP, and its fault switchboard."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support.mlflow_stand_in import MlflowStandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


CREATE = "runs/create"


class Api:
    def __init__(self, server: MlflowStandIn, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def post(self, operation: str, **body: Any) -> tuple[int, Any]:
        url = f"{self.server.url}/api/2.0/mlflow/{operation}"
        async with self.session.post(url, json=body) as response:
            if response.content_type == "application/json":
                return response.status, await response.json()
            return response.status, await response.text()

    async def create(self) -> tuple[int, Any]:
        return await self.post(CREATE, experiment_id="0", run_name="job")


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with MlflowStandIn() as server, aiohttp.ClientSession() as session:
        yield Api(server, session)


async def test_calls_are_answered_and_counted(api: Api) -> None:
    status, created = await api.create()
    assert (status, created["run"]["info"]["run_name"]) == (200, "job")
    assert api.server.requests == {CREATE: 1}
    async with api.session.get(api.server.url + "/version") as response:
        assert (response.headers["Content-Type"], await response.text()) == (
            "text/html; charset=utf-8",
            "3.17.2",
        )
    url = api.server.url + "/api/2.0/mlflow/model-versions/search"
    async with api.session.get(url, params={"filter": "run_id = 'a'"}) as response:
        assert (response.status, await response.json()) == (200, {})


async def test_a_lost_answer_is_carried_out(api: Api) -> None:
    api.server.faults.lose_next_answers(operation=CREATE)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await api.create()
    assert len(api.server.model.runs()) == 1
    assert (await api.create())[0] == 200


async def test_a_refused_call_is_not_carried_out(api: Api) -> None:
    api.server.faults.refuse_next(1, 429, {"error_code": "REQUEST_LIMIT_EXCEEDED"})
    assert await api.create() == (429, {"error_code": "REQUEST_LIMIT_EXCEEDED"})
    api.server.faults.refuse_next(1, 502, "<html>Bad gateway</html>", operation=CREATE)
    assert await api.create() == (502, "<html>Bad gateway</html>")
    assert api.server.model.runs() == []


async def test_the_database_is_down_and_comes_back(api: Api) -> None:
    api.server.faults.database_down = True
    status, answer = await api.create()
    assert (status, answer["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    api.server.faults.clear()
    assert (await api.create())[0] == 200


async def test_a_web_page_answers_everything(api: Api) -> None:
    api.server.faults.web_page = True
    status, answer = await api.create()
    assert (status, answer[:15]) == (200, "<!DOCTYPE html>")


async def test_frozen_calls_are_carried_out_after_the_thaw(api: Api) -> None:
    api.server.faults.frozen = True
    waiting = asyncio.create_task(api.create())
    await api.server.wait_for_requests(CREATE)
    assert api.server.model.runs() == []
    api.server.faults.frozen = False
    assert (await waiting)[0] == 200


async def test_overlapping_creates_are_all_carried_out(api: Api) -> None:
    api.server.faults.overlap_next(4, operation=CREATE)
    answers = await asyncio.gather(*(api.create() for _ in range(4)))
    assert [status for status, _ in answers] == [200] * 4
    assert api.server.max_concurrent == 4
    assert len(api.server.model.runs()) == 4


async def test_a_header_of_a_proxy_is_demanded() -> None:
    wanted = {"Authorization": "Bearer token"}
    async with MlflowStandIn(require_headers=wanted) as server:
        async with aiohttp.ClientSession() as session:
            assert (await Api(server, session).create())[0] == 401
        async with aiohttp.ClientSession(headers=wanted) as session:
            assert (await Api(server, session).create())[0] == 200

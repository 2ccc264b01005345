"""The daemon process against further kinds of real MLflow servers (see `mlflow_lab`): PostgreSQL,
2.22.5, and one with logins that checks the name that it is asked by.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.integration.test_cli import Done, config_of, verb_process
from tests.real import mlflow_readback
from tests.real.mlflow_lab import (
    LAB,
    LabServer,
    PostgreSql,
    install_driver,
    lab_server,
    postgresql,
    postgresql_programs,
)
from tests.real.mlflow_scene import (
    NO_LAB,
    UNREDACTED,
    job_count,
    jobs_of,
    of_scene,
    three_events_each,
    told,
)
from tests.support.daemon_process import FULL_TAGS, Job, daemon_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    from tests.support.daemon_process import DaemonScene

pytestmark = [
    pytest.mark.slow,  # real servers
    pytest.mark.skipif(not LAB, reason=NO_LAB),
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("mlflow-servers"),  # share their servers
]

ADMIN = {"username": "admin", "password": "admin-of-the-test"}
SYNC = {"username": "sync", "password": "sync-of-the-test"}


@contextlib.asynccontextmanager
async def scene_on(
    moto_endpoint: str, target: Mapping[str, Any], home: Path
) -> AsyncIterator[DaemonScene]:
    async with daemon_scene(moto_endpoint, target, home) as made:
        await made.make_queues(f"mlflow-{uuid.uuid4().hex[:8]}")
        yield made


@contextlib.asynccontextmanager
async def on_postgresql() -> AsyncIterator[tuple[LabServer, PostgreSql]]:
    async with (
        postgresql() as database,
        lab_server(options=["--backend-store-uri", database.uri]) as server,
    ):
        yield server, database


@pytest.mark.skipif(postgresql_programs() is None, reason="there is no PostgreSQL on this machine")
async def test_on_postgresql_jobs_are_complete_and_its_outage_delays_them_only(
    moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    if not await install_driver():
        pytest.skip("the driver of PostgreSQL cannot be had")
    async with (
        on_postgresql() as (server, database),
        scene_on(moto_endpoint, server.target(), tmp_path) as scene,
    ):
        await three_events_each(scene, server, free_port(), "pg", job_count())

        jobs = jobs_of("gone", 12)
        scene.finish_jobs(jobs)
        daemon = scene.daemon(free_port(), jobs=UNREDACTED)
        await daemon.start()
        await daemon.ready()
        await scene.send([job.event for job in jobs[:6]])
        await daemon.outcomes(1, outcome="synced")
        await database.stop()
        await scene.send([job.event for job in jobs[6:]])
        (opened, *_) = await daemon.logged(lambda line: line.get("event") == "breaker opened")
        await database.start()
        await daemon.outcomes(len(jobs), outcome="synced", seconds=120)
        assert (
            mlflow_readback.wrong(jobs, of_scene("gone", await mlflow_readback.read(server.url)))
            == []
        )
        lines = await daemon.outcomes(len(jobs), outcome="synced")
        assert max(line["receive_count"] for line in lines) == 1, told(daemon)
        assert (opened["edge"], opened["reason"]) == ("target", "unavailable")
        assert await daemon.stop() == 0


async def test_on_mlflow_2_jobs_are_complete(
    moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with (
        lab_server(version=2) as server,
        scene_on(moto_endpoint, server.target(), tmp_path) as scene,
    ):
        await three_events_each(scene, server, free_port(), "two", job_count())


@pytest.fixture(scope="module")
def guarded() -> Iterator[LabServer]:
    """A server with logins that this machine's own name leads to."""
    server = LabServer(
        options=["--app-name", "basic-auth", "--host", "0.0.0.0"],
        environment={
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN["password"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": uuid.uuid4().hex,
        },
    )

    async def up() -> None:
        await server.up()
        async with as_admin(server) as admin:
            await admin("users/create", SYNC)

    asyncio.run(up())
    yield server
    asyncio.run(server.down())


@contextlib.asynccontextmanager
async def as_admin(server: LabServer) -> AsyncIterator[Callable[..., Any]]:
    login = aiohttp.encode_basic_auth(ADMIN["username"], ADMIN["password"])
    async with aiohttp.ClientSession(headers={"Authorization": login}) as session:

        async def call(path: str, body: Mapping[str, object]) -> dict[str, Any]:
            url = f"{server.url}/api/2.0/mlflow/{path}"
            async with session.post(url, json=body) as answer:
                assert answer.status == HTTPStatus.OK, await answer.text()
                parsed: dict[str, Any] = await answer.json()
                return parsed

        yield call


def with_login(server: LabServer, password: str, **settings: object) -> dict[str, Any]:
    login = {"kind": "basic", "username": SYNC["username"], "password": password}
    return server.target(auth=login, **settings)


async def test_check_says_what_a_server_with_logins_and_a_host_check_lacks(
    moto_endpoint: str, guarded: LabServer, tmp_path: Path
) -> None:
    right, wrong = SYNC["password"], "not-the-password"
    host = socket.gethostname()
    by_name = f"http://{host}:{guarded.port}"
    async with scene_on(moto_endpoint, {}, tmp_path) as scene:

        async def checked(target: Mapping[str, Any]) -> Done:
            return await verb_process("check", "--config", config_of(scene, target=target))

        good = await checked(with_login(guarded, right))
        wrong_login = await checked(with_login(guarded, wrong))
        none = await checked(guarded.target())
        refused = await checked(with_login(guarded, right, tracking_uri=by_name))
    print(good, wrong_login, none, refused, sep="\n\n")
    assert good.returncode == 0
    assert wrong_login.returncode == none.returncode == refused.returncode == 1
    assert "check target.auth" in wrong_login.stdout
    assert "wants a login: set target.auth.kind: basic" in none.stdout
    assert "--allowed-hosts" in refused.stdout
    assert f"{host}:{guarded.port}" in refused.stdout
    for each in (good, wrong_login, none, refused):
        assert right not in each.stdout + each.stderr
        assert wrong not in each.stdout + each.stderr


async def test_without_permission_for_an_experiment_only_its_jobs_wait(
    moto_endpoint: str, guarded: LabServer, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with (
        as_admin(guarded) as admin,
        scene_on(moto_endpoint, with_login(guarded, SYNC["password"]), tmp_path) as scene,
    ):
        await admin("experiments/create", {"name": "others"})
        own = jobs_of("own", 3)
        denied = Job("denied", FULL_TAGS | {"MODEL_DB_PROJECT_NAME": "others"})
        scene.finish_jobs([*own, denied])
        daemon = scene.daemon(free_port(), jobs=UNREDACTED)
        await daemon.start()
        await scene.send([own[0].event])
        await daemon.outcomes(1, outcome="synced", job=own[0].name)
        await scene.send([denied.event])
        (line, *_) = await daemon.outcomes(1, outcome="deferred", job=denied.name)
        assert "others" in line["detail"]
        await scene.send([job.event for job in own[1:]])
        await daemon.outcomes(3, outcome="synced")
        login = {
            "MLFLOW_TRACKING_USERNAME": ADMIN["username"],
            "MLFLOW_TRACKING_PASSWORD": ADMIN["password"],
        }
        found = await mlflow_readback.read(guarded.url, environment=login)
        assert mlflow_readback.wrong(own, of_scene("own", found)) == []
        assert not [run for run in found.runs if run["name"] == denied.name]
        assert await daemon.stop() == 0

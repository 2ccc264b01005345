"""What `check` says of a configured ModelDB V2, by what is at its address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from daemon.targets import server_detection
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
from daemon.targets.registry import TARGET_KINDS
from daemon.targets.server_detection import Server, which_server
from tests.support.certificates import Authority, serving_as
from tests.support.modeldb_v2_scripted import json_answer, serving
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
from tests.support.scripted_addresses import ModelDBV1, listening, port_of, silence

if TYPE_CHECKING:
    from pathlib import Path


def v2(url: str, **keys: Any) -> ModelDbV2Settings:
    return ModelDbV2Settings.model_validate({"url": url, **keys})


async def diagnosis(settings: ModelDbV2Settings) -> tuple[str, ...]:
    return await TARGET_KINDS["modeldb-v2"].diagnosis(settings)


def test_no_advice_on_a_server_that_works() -> None:
    assert TARGET_KINDS["modeldb-v2"].advice(v2("http://modeldb:8080/v1")) == ()


async def test_a_v1_is_there() -> None:
    async with listening(ModelDBV1().serve) as port:
        (advice,) = await diagnosis(v2(f"http://127.0.0.1:{port}/v1"))
    assert advice.startswith(
        f"a ModelDB V1 server answers at 127.0.0.1:{port}: set target.kind: modeldb-v1, "
    )
    assert advice.endswith(f"target.host: 127.0.0.1, target.port: {port}, without target.url")


async def test_a_v1_is_there_behind_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    async with listening(ModelDBV1().serve, tls=serving_as(authority.issue("server"))) as port:
        (advice,) = await diagnosis(v2(f"https://127.0.0.1:{port}/v1", ca_file=str(authority.file)))
    assert f"target.port: {port}, target.tls: true, without target.url" in advice


async def test_the_server_is_there_with_a_fault_of_its_own() -> None:
    async with ModelDbV2StandIn() as server:
        server.faults.database_down = True
        assert await diagnosis(v2(server.url)) == ()


async def test_the_server_is_there_under_another_path() -> None:
    async with ModelDbV2StandIn() as server:
        for path in ("", "/v2", "/api/v1/modeldb"):
            assert await diagnosis(v2(server.url.replace("/v1", path))) == (
                (
                    f"the REST API of ModelDB V2 answers at 127.0.0.1:{server.port}: set "
                    f"target.url: {server.url}"
                ),
            )


async def test_the_server_is_there_without_tls() -> None:
    async with ModelDbV2StandIn() as server:
        (advice,) = await diagnosis(v2(server.url.replace("http:", "https:")))
    assert advice.endswith(f"set target.url: {server.url}")


async def test_the_server_is_there_at_a_path_of_its_own() -> None:
    async def ingress(request: web.Request) -> web.Response:
        return (
            json_answer(200, {"status": True})
            if request.path.startswith("/team/v1/")
            else web.Response(status=404)
        )

    async with serving(ingress) as url:
        assert await diagnosis(v2(url.replace("/v1", "/team/v1"))) == ()


async def test_another_web_server_is_there() -> None:
    async def pages(_request: web.Request) -> web.Response:
        return web.Response(text="<html>")

    async with serving(pages) as url:
        (advice,) = await diagnosis(v2(url))
    assert advice.startswith(
        f"an HTTP server that is not ModelDB answers at 127.0.0.1:{port_of(url)}: target.url "
        "must be"
    )


@pytest.mark.parametrize("status", [401, 403, 502])
async def test_a_gateways_own_answer_says_enough_in_the_finding(status: int) -> None:
    async def gateway(_request: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving(gateway) as url:
        assert await diagnosis(v2(url)) == ()


async def test_a_silent_server(short: None) -> None:
    async with listening(silence) as port:
        assert await diagnosis(v2(f"http://127.0.0.1:{port}/v1")) == ()


async def test_the_default_port_of_the_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, bool]] = []

    async def asked_of(host: str, port: int, *, tls: object = None, **_paths: object) -> Server:
        asked.append((host, port, tls is not None))
        return await which_server("a..b", port)  # no connection

    monkeypatch.setattr(server_detection, "which_server", asked_of)
    await diagnosis(v2("http://[::1]/v1"))
    await diagnosis(v2("https://modeldb/v1"))
    assert asked == [("::1", 80, False), ("modeldb", 443, True), ("modeldb", 443, False)]

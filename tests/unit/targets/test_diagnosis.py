"""What ``check`` says beside a target's finding."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from daemon.targets import server_detection
from daemon.targets.modeldb_v1.settings import ModelDbV1Settings
from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
from daemon.targets.registry import TARGET_KINDS
from daemon.targets.server_detection import Server, which_server
from tests.support.certificates import Authority, serving_as
from tests.support.modeldb_v2_scripted import json_answer, serving
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
from tests.support.scripted_addresses import ModelDBV1, listening, saying, silence

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from daemon.targets.settings import TargetSettings


def advice(settings: TargetSettings) -> tuple[str, ...]:
    return TARGET_KINDS[settings.kind].advice(settings)


async def diagnosis(settings: TargetSettings) -> tuple[str, ...]:
    return await TARGET_KINDS[settings.kind].diagnosis(settings)


def v1(port: int, **keys: Any) -> ModelDbV1Settings:
    return ModelDbV1Settings.model_validate(
        {"kind": "modeldb-v1", "host": "127.0.0.1", "port": port, **keys}
    )


def v2(url: str, **keys: Any) -> ModelDbV2Settings:
    return ModelDbV2Settings.model_validate({"url": url, **keys})


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/", maxsplit=1)[0])


class TestWhereItWorks:
    def test_a_v1_must_have_no_other_writer_and_the_lease_is_named(self) -> None:
        others, lease = advice(v1(7000))
        assert others.startswith(
            "switch off every other program that writes to this server, such as the rule of AWS's "
            "sample"
        )
        assert "amazon-sagemaker-modeldb-sync" in others
        assert "the writer lease 127.0.0.1:7000 in the checkpoint" in lease
        assert (
            "the writer lease shared in the checkpoint" in advice(v1(7000, server_id="shared"))[1]
        )

    def test_there_is_nothing_to_say_of_a_v2(self) -> None:
        assert advice(v2("http://modeldb:8080/v1")) == ()


class TestV1IsConfigured:
    async def test_and_v2_is_there(self) -> None:
        async with ModelDbV2StandIn() as server:
            assert await diagnosis(v1(server.port)) == (
                (
                    f"the REST API of ModelDB V2 answers at 127.0.0.1:{server.port}: set "
                    f"target.kind: modeldb-v2, target.url: {server.url}"
                ),
            )

    async def test_and_is_there(self) -> None:
        async with listening(ModelDBV1().serve) as port:
            assert await diagnosis(v1(port)) == ()

    async def test_and_its_web_pages_are_there(self) -> None:
        async def pages(_request: web.Request) -> web.Response:
            return web.Response(status=404, text="Cannot GET")

        async with serving(pages) as url:
            (advice,) = await diagnosis(v1(port_of(url)))
        assert advice.startswith(
            f"an HTTP server that is not ModelDB answers at 127.0.0.1:{port_of(url)}: target.port "
            "must be"
        )

    @pytest.mark.parametrize("status", [401, 403, 502, 503])
    async def test_and_something_that_may_stand_in_front_of_a_v2_is_there(
        self, status: int
    ) -> None:
        async def gateway(_request: web.Request) -> web.Response:
            return web.Response(status=status)

        async with serving(gateway) as url:
            (advice,) = await diagnosis(v1(port_of(url)))
        assert advice.startswith(
            f"an HTTP server answers at 127.0.0.1:{port_of(url)} with status {status}, perhaps in "
            "front of a ModelDB V2"
        )

    async def test_and_something_else_is_there(self) -> None:
        async with listening(saying(b"SSH-2.0-OpenSSH_9.9\r\n")) as port:
            assert await diagnosis(v1(port)) == (
                (
                    f"what answers at 127.0.0.1:{port} speaks neither the Thrift of ModelDB V1 nor "
                    "HTTP"
                ),
            )

    async def test_and_what_is_there_is_silent(self, short: None) -> None:
        async with listening(silence) as port:
            (advice,) = await diagnosis(v1(port))
        assert "stays silent, as a ModelDB V1 does that has 100 connections already" in advice

    async def test_and_nothing_is_there(self, free_port: Callable[[], int]) -> None:
        assert await diagnosis(v1(free_port())) == ()

    async def test_with_tls_and_is_there_without(self) -> None:
        async with listening(ModelDBV1().serve) as port:
            assert await diagnosis(v1(port, tls=True)) == (
                (
                    f"a ModelDB V1 server answers at 127.0.0.1:{port} without TLS: set target.tls: "
                    "false"
                ),
            )

    async def test_with_tls_and_nothing_of_modeldb_is_there_without(self, tmp_path: Path) -> None:
        # an HTTPS server answers HTTP, too, with words about it
        async def pages(_request: web.Request) -> web.Response:
            return web.Response(status=404)

        async with serving(pages) as url:
            assert await diagnosis(v1(port_of(url), tls=True)) == ()

    async def test_with_its_authority_and_v2_is_behind_the_tls(self, tmp_path: Path) -> None:
        async def modeldb(_request: web.Request) -> web.Response:
            return json_answer(200, {"status": True})

        authority = Authority(tmp_path, "authority")
        async with serving(modeldb, ssl=serving_as(authority.issue("server"))) as url:
            (advice,) = await diagnosis(v1(port_of(url), tls=True, ca_file=str(authority.file)))
        assert advice.endswith(f"set target.kind: modeldb-v2, target.url: {url}")


class TestV2IsConfigured:
    async def test_and_v1_is_there(self) -> None:
        async with listening(ModelDBV1().serve) as port:
            (advice,) = await diagnosis(v2(f"http://127.0.0.1:{port}/v1"))
        assert advice.startswith(
            f"a ModelDB V1 server answers at 127.0.0.1:{port}: set target.kind: modeldb-v1, "
        )
        assert advice.endswith(f"target.host: 127.0.0.1, target.port: {port}, without target.url")

    async def test_and_v1_is_there_behind_tls(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path, "authority")
        async with listening(ModelDBV1().serve, tls=serving_as(authority.issue("server"))) as port:
            (advice,) = await diagnosis(
                v2(f"https://127.0.0.1:{port}/v1", ca_file=str(authority.file))
            )
        assert f"target.port: {port}, target.tls: true, without target.url" in advice

    async def test_and_is_there_with_a_fault_of_its_own(self) -> None:
        async with ModelDbV2StandIn() as server:
            server.faults.database_down = True
            assert await diagnosis(v2(server.url)) == ()

    async def test_and_is_there_under_another_path(self) -> None:
        async with ModelDbV2StandIn() as server:
            for path in ("", "/v2", "/api/v1/modeldb"):
                assert await diagnosis(v2(server.url.replace("/v1", path))) == (
                    (
                        f"the REST API of ModelDB V2 answers at 127.0.0.1:{server.port}: set "
                        f"target.url: {server.url}"
                    ),
                )

    async def test_and_is_there_without_tls(self) -> None:
        async with ModelDbV2StandIn() as server:
            (advice,) = await diagnosis(v2(server.url.replace("http:", "https:")))
        assert advice.endswith(f"set target.url: {server.url}")

    async def test_and_is_there_at_a_path_of_its_own(self) -> None:
        async def ingress(request: web.Request) -> web.Response:
            return (
                json_answer(200, {"status": True})
                if request.path.startswith("/team/v1/")
                else web.Response(status=404)
            )

        async with serving(ingress) as url:
            assert await diagnosis(v2(url.replace("/v1", "/team/v1"))) == ()

    async def test_and_another_web_server_is_there(self) -> None:
        async def pages(_request: web.Request) -> web.Response:
            return web.Response(text="<html>")

        async with serving(pages) as url:
            (advice,) = await diagnosis(v2(url))
        assert advice.startswith(
            f"an HTTP server that is not ModelDB answers at 127.0.0.1:{port_of(url)}: target.url "
            "must be"
        )

    @pytest.mark.parametrize("status", [401, 403, 502])
    async def test_and_a_gateways_own_answer_says_enough_in_the_finding(self, status: int) -> None:
        async def gateway(_request: web.Request) -> web.Response:
            return web.Response(status=status)

        async with serving(gateway) as url:
            assert await diagnosis(v2(url)) == ()

    async def test_and_what_is_there_is_silent(self, short: None) -> None:
        async with listening(silence) as port:
            assert await diagnosis(v2(f"http://127.0.0.1:{port}/v1")) == ()

    async def test_at_its_schemes_own_port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[tuple[str, int, bool]] = []

        async def nobody(
            host: str, port: int, *, tls: object = None, v2_paths: object = ()
        ) -> Server:
            asked.append((host, port, tls is not None))
            return await which_server("a..b", port)  # no connection

        monkeypatch.setattr(server_detection, "which_server", nobody)
        await diagnosis(v2("http://[::1]/v1"))
        await diagnosis(v2("https://modeldb/v1"))
        assert asked == [("::1", 80, False), ("modeldb", 443, True), ("modeldb", 443, False)]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """For an answer that never comes, little patience."""

    async def impatient(host: str, port: int, **options: Any) -> Server:
        return await which_server(host, port, **options, seconds=0.2)

    monkeypatch.setattr(server_detection, "which_server", impatient)


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="the machine has no IPv6")
async def test_an_ipv6_address_is_said_in_brackets() -> None:
    async with listening(saying(b"no"), host="::1") as port:
        (advice,) = await diagnosis(v1(port, host="::1"))
    assert advice.startswith(f"what answers at [::1]:{port} speaks neither")

"""What `check` says of a configured ModelDB V1, by what is at its address."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from daemon.targets.modeldb_v1.settings import ModelDbV1Settings
from daemon.targets.registry import TARGET_KINDS
from tests.support.certificates import Authority, serving_as
from tests.support.modeldb_v2_scripted import json_answer, serving
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
from tests.support.scripted_addresses import ModelDBV1, listening, port_of, saying, silence

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def v1(port: int, **keys: Any) -> ModelDbV1Settings:
    return ModelDbV1Settings.model_validate(
        {"kind": "modeldb-v1", "host": "127.0.0.1", "port": port, **keys}
    )


def advice(settings: ModelDbV1Settings) -> tuple[str, ...]:
    return TARGET_KINDS["modeldb-v1"].advice(settings)


async def diagnosis(settings: ModelDbV1Settings) -> tuple[str, ...]:
    return await TARGET_KINDS["modeldb-v1"].diagnosis(settings)


def test_a_v1_must_have_no_other_writer_and_the_lease_is_named() -> None:
    others, lease = advice(v1(7000))
    assert others.startswith(
        "switch off every other program that writes to this server, such as the rule of AWS's "
        "sample"
    )
    assert "amazon-sagemaker-modeldb-sync" in others
    assert "the writer lease 127.0.0.1:7000 in the checkpoint" in lease
    assert "the writer lease shared in the checkpoint" in advice(v1(7000, server_id="shared"))[1]


async def test_a_v2_is_there() -> None:
    async with ModelDbV2StandIn() as server:
        assert await diagnosis(v1(server.port)) == (
            (
                f"the REST API of ModelDB V2 answers at 127.0.0.1:{server.port}: set "
                f"target.kind: modeldb-v2, target.url: {server.url}"
            ),
        )


async def test_the_server_is_there() -> None:
    async with listening(ModelDBV1().serve) as port:
        assert await diagnosis(v1(port)) == ()


async def test_its_web_pages_are_there() -> None:
    async def pages(_request: web.Request) -> web.Response:
        return web.Response(status=404, text="Cannot GET")

    async with serving(pages) as url:
        (advice,) = await diagnosis(v1(port_of(url)))
    assert advice.startswith(
        f"an HTTP server that is not ModelDB answers at 127.0.0.1:{port_of(url)}: target.port "
        "must be"
    )


@pytest.mark.parametrize("status", [401, 403, 502, 503])
async def test_something_that_may_stand_in_front_of_a_v2_is_there(status: int) -> None:
    async def gateway(_request: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving(gateway) as url:
        (advice,) = await diagnosis(v1(port_of(url)))
    assert advice.startswith(
        f"an HTTP server answers at 127.0.0.1:{port_of(url)} with status {status}, perhaps in "
        "front of a ModelDB V2"
    )


async def test_something_else_is_there() -> None:
    async with listening(saying(b"SSH-2.0-OpenSSH_9.9\r\n")) as port:
        assert await diagnosis(v1(port)) == (
            (f"what answers at 127.0.0.1:{port} speaks neither the Thrift of ModelDB V1 nor HTTP"),
        )


async def test_a_silent_server(short: None) -> None:
    async with listening(silence) as port:
        (advice,) = await diagnosis(v1(port))
    assert "stays silent, as a ModelDB V1 does that has 100 connections already" in advice


async def test_nothing_is_there(free_port: Callable[[], int]) -> None:
    assert await diagnosis(v1(free_port())) == ()


async def test_the_server_is_there_without_the_tls() -> None:
    async with listening(ModelDBV1().serve) as port:
        assert await diagnosis(v1(port, tls=True)) == (
            (f"a ModelDB V1 server answers at 127.0.0.1:{port} without TLS: set target.tls: false"),
        )


async def test_with_tls_and_nothing_of_modeldb_is_there_without(tmp_path: Path) -> None:
    # an HTTPS server answers HTTP with an error page, too
    async def pages(_request: web.Request) -> web.Response:
        return web.Response(status=404)

    async with serving(pages) as url:
        assert await diagnosis(v1(port_of(url), tls=True)) == ()


async def test_a_v2_is_behind_the_tls_of_the_authority(tmp_path: Path) -> None:
    async def modeldb(_request: web.Request) -> web.Response:
        return json_answer(200, {"status": True})

    authority = Authority(tmp_path, "authority")
    async with serving(modeldb, ssl=serving_as(authority.issue("server"))) as url:
        (advice,) = await diagnosis(v1(port_of(url), tls=True, ca_file=str(authority.file)))
    assert advice.endswith(f"set target.kind: modeldb-v2, target.url: {url}")


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="the machine has no IPv6")
async def test_an_ipv6_address_is_in_brackets() -> None:
    async with listening(saying(b"no"), host="::1") as port:
        (advice,) = await diagnosis(v1(port, host="::1"))
    assert advice.startswith(f"what answers at [::1]:{port} speaks neither")

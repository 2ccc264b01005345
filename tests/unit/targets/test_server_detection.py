"""What is said of an address where ModelDB V1, ModelDB V2, something else or nothing is."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from daemon.targets.server_detection import Server, ServerKind, which_server
from tests.support.certificates import Authority, serving_as
from tests.support.modeldb_v2_scripted import json_answer, serving
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
from tests.support.scripted_addresses import (
    ModelDBV1,
    listening,
    port_of,
    recorded,
    saying,
    silence,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = "127.0.0.1"
SHORT = 0.4
"""Seconds, where the answer never comes."""
LONG = 60.0
"""Seconds, where waiting for them would be the failure."""


class TestModelDBV1:
    async def test_is_known_by_one_call_on_one_connection(self) -> None:
        server = ModelDBV1()
        async with listening(server.serve) as port:
            assert await which_server(HOST, port, seconds=LONG) == Server(ServerKind.MODELDB_V1)
        assert (server.connections, len(server.sequence_ids)) == (1, 1)

    async def test_behind_tls(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path, "authority")
        async with listening(ModelDBV1().serve, tls=serving_as(authority.issue("server"))) as port:
            trusting = ssl.create_default_context(cafile=authority.file)
            assert await which_server(HOST, port, tls=trusting, seconds=LONG) == Server(
                ServerKind.MODELDB_V1
            )
            assert (
                await which_server(HOST, port, tls=ssl.create_default_context(), seconds=LONG)
            ).kind is ServerKind.UNREACHABLE
            assert (await which_server(HOST, port, seconds=LONG)).kind is ServerKind.OTHER

    async def test_without_tls_asked_with_tls(self) -> None:
        async with listening(ModelDBV1().serve) as port:
            assert (
                await which_server(HOST, port, tls=ssl.create_default_context(), seconds=LONG)
            ).kind is ServerKind.UNREACHABLE

    async def test_another_thrift_server_is_none(self) -> None:
        _, unknown_method = recorded("a-unknown-method")
        async with listening(
            saying(len(unknown_method).to_bytes(4, "big") + unknown_method)
        ) as port:
            assert await which_server(HOST, port, seconds=LONG) == Server(ServerKind.OTHER)

    async def test_an_answer_to_another_call_is_none(self) -> None:
        _, reply = recorded("a-test-connection")
        async with listening(saying(len(reply).to_bytes(4, "big") + reply)) as port:
            assert await which_server(HOST, port, seconds=LONG) == Server(ServerKind.OTHER)


class TestModelDBV2:
    async def test_its_proxy(self) -> None:
        async with ModelDbV2StandIn() as server:
            found = await which_server(HOST, server.port, seconds=LONG)
            assert found == Server(ServerKind.MODELDB_V2, url=server.url, path="/v1")
            assert server.requests == {"verifyConnection": 1}

    async def test_with_its_database_or_its_back_end_down(self) -> None:
        async with ModelDbV2StandIn() as server:
            for fault in ("database_down", "backend_down"):
                server.faults.clear()
                setattr(server.faults, fault, True)
                assert (await which_server(HOST, server.port, seconds=LONG)).url == server.url

    async def test_its_web_front_end_which_answers_every_get_with_a_page(self) -> None:
        async def front_end(request: web.Request) -> web.Response:
            if request.path == "/api/v1/modeldb/project/verifyConnection":
                return json_answer(200, {"status": True})
            return web.Response(text="<html>", content_type="text/html")

        async with serving(front_end) as url:
            found = await which_server(HOST, port_of(url), seconds=LONG)
        assert found == Server(
            ServerKind.MODELDB_V2, url=url.replace("/v1", "/api/v1/modeldb"), path="/api/v1/modeldb"
        )

    async def test_at_a_path_of_its_own(self) -> None:
        async def ingress(request: web.Request) -> web.Response:
            if request.path_qs == "/team%20a/v1/project/verifyConnection":
                return json_answer(200, {"status": True})
            return web.Response(status=404)

        async with serving(ingress) as url:
            found = await which_server(
                HOST, port_of(url), v2_paths=("/v1", "/team%20a/v1"), seconds=LONG
            )
        assert found == Server(
            ServerKind.MODELDB_V2, url=url.replace("/v1", "/team%20a/v1"), path="/team%20a/v1"
        )

    async def test_behind_tls(self, tmp_path: Path) -> None:
        async def modeldb(_request: web.Request) -> web.Response:
            return json_answer(200, {"status": True})

        authority = Authority(tmp_path, "authority")
        async with serving(modeldb, ssl=serving_as(authority.issue("server"))) as url:
            found = await which_server(
                HOST,
                port_of(url),
                tls=ssl.create_default_context(cafile=authority.file),
                seconds=LONG,
            )
        assert found == Server(ServerKind.MODELDB_V2, url=url, path="/v1")


class TestOtherWebServers:
    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (200, ""),
            (200, "<html>"),
            (200, "{}"),
            (200, "[]"),
            (200, "true"),
            (200, "[" * 50_000),
            (200, '{"status": "UP"}'),
            (200, '{"status": 1}'),
            (200, '{"status": "tr\xff"}'),
            (201, '{"status": true}'),
            (404, "Not Found\n"),
            (404, '{"error": "Not Found", "code": 5, "message": "Not Found"}'),
            (401, '{"error": "no", "code": 16, "message": "no"}'),
            (500, '{"error": "Oops", "code": 500, "message": "Oops"}'),
            (500, '{"code": 14, "message": "Oops"}'),
            (500, '{"error": "Oops", "message": "Oops"}'),
            (502, "<html>"),
        ],
    )
    async def test_are_told_with_their_status(self, status: int, body: str) -> None:
        async def other(_request: web.Request) -> web.Response:
            return web.Response(
                status=status, body=body.encode("latin-1"), content_type="application/json"
            )

        async with serving(other) as url:
            assert await which_server(HOST, port_of(url), seconds=LONG) == Server(
                ServerKind.HTTP, status=status
            )

    async def test_the_first_path_counts(self) -> None:
        async def other(request: web.Request) -> web.Response:
            return web.Response(status=401 if request.path.startswith("/v1") else 404)

        async with serving(other) as url:
            assert await which_server(HOST, port_of(url), seconds=LONG) == Server(
                ServerKind.HTTP, status=401
            )

    async def test_a_redirect_is_not_followed(self) -> None:
        asked: list[str] = []

        async def other(request: web.Request) -> web.Response:
            asked.append(request.path)
            return web.Response(status=302, headers={"Location": "/elsewhere"})

        async with serving(other) as url:
            assert await which_server(HOST, port_of(url), seconds=LONG) == Server(
                ServerKind.HTTP, status=302
            )
        assert asked == [
            "/v1/project/verifyConnection",
            "/api/v1/modeldb/project/verifyConnection",
            "/api/2.0/mlflow/experiments/get-by-name",
            "/mlflow/api/2.0/mlflow/experiments/get-by-name",
        ]

    async def test_an_answer_without_end_is_read_to_a_limit(self) -> None:
        async def other(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(b"x" * 65_536)

        async with serving(other) as url:
            assert await which_server(HOST, port_of(url), seconds=LONG) == Server(
                ServerKind.HTTP, status=200
            )

    async def test_an_answer_that_stops_in_the_middle(self) -> None:
        gone = asyncio.Event()

        async def other(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"{")
            await gone.wait()
            return response

        async with serving(other) as url:
            assert await which_server(HOST, port_of(url), seconds=SHORT) == Server(
                ServerKind.HTTP, status=200
            )
            gone.set()

    async def test_the_answer_before_the_connection_broke_counts(self) -> None:
        async def other(request: web.Request) -> web.Response:
            if request.path.startswith("/api") and request.transport is not None:
                request.transport.abort()
            return web.Response(status=404)

        async with serving(other) as url:
            assert await which_server(HOST, port_of(url), seconds=LONG) == Server(
                ServerKind.HTTP, status=404
            )


class TestNeither:
    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"\x00\x00\x00\x00",
            b"\xff" * 1000,
            b"\x15\x03\x01\x00\x02\x02\x46",
        ],
    )
    async def test_whatever_else_speaks(self, answer: bytes) -> None:
        async with listening(saying(answer)) as port:
            assert await which_server(HOST, port, seconds=LONG) == Server(ServerKind.OTHER)

    async def test_silence(self) -> None:
        async with listening(silence) as port, asyncio.timeout(LONG):
            assert await which_server(HOST, port, seconds=SHORT) == Server(ServerKind.SILENT)

    async def test_silent_at_first_and_then_gone(self) -> None:
        connections = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            if connections == 1:
                await silence(reader, writer)

        async with listening(serve) as port:
            assert await which_server(HOST, port, seconds=SHORT) == Server(ServerKind.OTHER)

    async def test_a_frozen_modeldb_v2_is_silent(self) -> None:
        async with ModelDbV2StandIn() as server:
            server.faults.frozen = True
            assert (await which_server(HOST, server.port, seconds=SHORT)).kind is ServerKind.SILENT
            server.faults.clear()

    async def test_no_connection(self, free_port: Callable[[], int]) -> None:
        assert await which_server(HOST, free_port(), seconds=LONG) == Server(ServerKind.UNREACHABLE)
        assert await which_server("::1", free_port(), seconds=LONG) == Server(
            ServerKind.UNREACHABLE
        )

    async def test_a_host_that_is_no_name(self) -> None:
        assert await which_server("a..b", 80, seconds=LONG) == Server(ServerKind.UNREACHABLE)

    async def test_a_handshake_without_end_is_no_connection(self) -> None:
        async with listening(silence) as port:
            assert await which_server(
                HOST, port, tls=ssl.create_default_context(), seconds=SHORT
            ) == Server(ServerKind.UNREACHABLE)

"""Detects the kind of server at an address, to advise on a target that does not work.

Sends two requests in turn, which change nothing, read no database and carry no credentials, because
any server may receive them: ModelDB V1's ``testConnection`` over framed
Thrift, and ``GET …/project/verifyConnection`` of ModelDB V2's REST API. The client of ModelDB V2 is
not used for the second: it sends credentials and reports any other server as an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from daemon.targets.addresses import host_and_port
from daemon.targets.tls import tls_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from pathlib import Path

V2_PATHS = ("/v1", "/api/v1/modeldb")
"""Where the REST API of ModelDB V2 is: on its own proxy, and on the web front end."""


class ServerKind(StrEnum):
    """Kinds of server."""

    MODELDB_V1 = "modeldb-v1"
    MODELDB_V2 = "modeldb-v2"
    HTTP = "http"  # a web server, but nothing at the paths of ModelDB V2
    OTHER = "other"  # takes connections, and speaks neither
    SILENT = "silent"  # takes connections, and nothing comes back in time
    UNREACHABLE = "unreachable"  # takes no connection


@dataclass(frozen=True, slots=True)
class Server:
    """The server that answered."""

    kind: ServerKind
    url: str = ""
    """For `MODELDB_V2`: the base URL of its REST API."""
    path: str = ""
    """For `MODELDB_V2`: the path in it, as it was given."""
    status: int = 0
    """For `HTTP`: its answer, to the first of the paths."""


async def which_server(
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    v2_paths: Sequence[str] = V2_PATHS,
    seconds: float = 5.0,
) -> Server:
    """Detects the server at an address. Never raises for what it finds.

    Args:
        host: a name, or an IPv4 or IPv6 address without brackets.
        port: of TCP.
        tls: for a server behind TLS; None: no TLS.
        v2_paths: where the REST API of ModelDB V2 may be, without a slash at the end; the first
            that answers is taken.
        seconds: deadline of the whole; each of the two requests gets half.
    """
    thrift = await _ask_thrift(host, port, tls, seconds / 2)
    if thrift is not ServerKind.OTHER:
        return Server(thrift)
    return await _ask_http(host, port, tls, v2_paths, seconds / 2)


_METHOD = len(b"testConnection").to_bytes(4, "big") + b"testConnection"
_SEQUENCE_ID = b"\r\n\r\n"
"""A number that comes back. To a web server it ends a request, so that it answers at once."""
_CALL = b"\x80\x01\x00\x01" + _METHOD + _SEQUENCE_ID + b"\x00"
_QUESTION = len(_CALL).to_bytes(4, "big") + _CALL
_LENGTH_BYTES = 4
_ANSWER = b"\x80\x01\x00\x02" + _METHOD + _SEQUENCE_ID
"""How a reply begins; an exception, as from another Thrift server, begins differently."""


async def _ask_thrift(
    host: str, port: int, tls: ssl.SSLContext | None, seconds: float
) -> ServerKind:
    """`MODELDB_V1`; `UNREACHABLE`; `OTHER` for every other reaction, and for none."""
    connected = False
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=tls, server_hostname=host if tls is not None else None
            )
            connected = True
            try:
                writer.write(_QUESTION)
                answer = await reader.readexactly(_LENGTH_BYTES + len(_ANSWER))
            finally:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, asyncio.IncompleteReadError, UnicodeError):
        # TimeoutError and ssl.SSLError are OSErrors, too; UnicodeError: a host like a..b
        return ServerKind.OTHER if connected else ServerKind.UNREACHABLE
    return ServerKind.MODELDB_V1 if answer[_LENGTH_BYTES:] == _ANSWER else ServerKind.OTHER


_LONGEST_ANSWER = 65_536
_OK = 200
_SERVER_ERROR = 500
_CODES_OF_GRPC = range(1, 17)


async def _ask_http(
    host: str, port: int, tls: ssl.SSLContext | None, paths: Sequence[str], seconds: float
) -> Server:
    """`MODELDB_V2`, `HTTP`, `SILENT`; `OTHER` where no HTTP comes back."""
    status = 0
    origin = URL.build(scheme="http" if tls is None else "https", host=host, port=port)
    try:
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=tls if tls is not None else True, force_close=True
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "application/json"},
                timeout=aiohttp.ClientTimeout(total=None),
            ) as session,
        ):
            for path in paths:
                base = f"{origin}{path}"
                async with session.get(
                    f"{base}/project/verifyConnection", allow_redirects=False
                ) as response:
                    status = status or response.status
                    if _is_modeldb_v2(response.status, await _start_of(response)):
                        return Server(ServerKind.MODELDB_V2, url=base, path=path)
    except TimeoutError:
        return Server(ServerKind.HTTP, status=status) if status else Server(ServerKind.SILENT)
    except (aiohttp.ClientError, OSError):
        return Server(ServerKind.HTTP, status=status) if status else Server(ServerKind.OTHER)
    return Server(ServerKind.HTTP, status=status)


async def _start_of(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _LONGEST_ANSWER:
            break
    return bytes(body)


def _is_modeldb_v2(status: int, body: bytes) -> bool:
    """Whether its proxy says that its back end is there, or in the words of its API that something
    behind it is not.

    Other refusals do not tell: they look the same on any gateway of this make.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(content, dict):
        return False
    if status == _OK:
        return content.get("status") is True
    told_twice = isinstance(content.get("error"), str) and content.get("error") == content.get(
        "message"
    )
    return status >= _SERVER_ERROR and told_twice and content.get("code") in _CODES_OF_GRPC


FROM_IN_FRONT = frozenset({401, 403, 407, 429, *range(500, 600)})
"""Statuses by which a proxy speaks of the server behind it."""
_MODELDB = frozenset({ServerKind.MODELDB_V1, ServerKind.MODELDB_V2})


@dataclass(frozen=True, slots=True)
class Address:
    """Where a target is configured to be."""

    host: str
    port: int
    encrypted: bool
    path: str = V2_PATHS[0]
    """Of the REST API of ModelDB V2, where that is configured."""

    def __str__(self) -> str:
        return host_and_port(self.host, self.port)


async def server_at(address: Address, ca_file: Path | None) -> tuple[Address, Server]:
    """What answers at an address and, where that is no ModelDB behind TLS, without TLS.

    Takes up to 5 seconds, or 10 with TLS.

    Returns:
        The address with or without TLS, and the server.
    """
    there = await _server(address, ca_file)
    if address.encrypted and there.kind not in _MODELDB:
        plain = replace(address, encrypted=False)
        there_plain = await _server(plain, ca_file)
        if there_plain.kind in _MODELDB:
            return plain, there_plain
    return address, there


def speaks_neither(address: Address) -> str:
    """The advice about a server of kind `ServerKind.OTHER`."""
    return f"what answers at {address} speaks neither the Thrift of ModelDB V1 nor HTTP"


async def _server(address: Address, ca_file: Path | None) -> Server:
    tls = tls_context(ca_file) if address.encrypted else None
    paths = tuple(dict.fromkeys((address.path, *V2_PATHS)))
    return await which_server(address.host, address.port, tls=tls, v2_paths=paths)

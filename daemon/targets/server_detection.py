"""Detects the kind of server at an address, to advise on a target that does not work.

Sends requests in turn, which change nothing, read no database and carry no credentials, because any
server may receive them: ModelDB V1's ``testConnection`` over framed Thrift,
``GET …/project/verifyConnection`` of ModelDB V2's REST API, and of MLflow's a call without its
parameter. The targets' clients are not used for these: they send credentials and report any other
server as an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from daemon.http_date import clock_ahead
from daemon.targets.addresses import host_and_port
from daemon.targets.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

V2_PATHS = ("/v1", "/api/v1/modeldb")
"""Where the REST API of ModelDB V2 is: on its own proxy, and on the web front end."""
MLFLOW_PATHS = ("", "/mlflow")
"""Where an MLflow server is: usually at the root, else often under its name."""


class ServerKind(StrEnum):
    """Kinds of server."""

    MODELDB_V1 = "modeldb-v1"
    MODELDB_V2 = "modeldb-v2"
    MLFLOW = "mlflow"
    HTTP = "http"  # a web server, but nothing at the paths of ModelDB V2 and MLflow
    OTHER = "other"  # takes connections, and speaks neither
    SILENT = "silent"  # takes connections, and nothing comes back in time
    UNREACHABLE = "unreachable"  # takes no connection


@dataclass(frozen=True, slots=True)
class Server:
    """The server that answered."""

    kind: ServerKind
    url: str = ""
    """For `MODELDB_V2`: the base URL of its REST API; for `MLFLOW`: what stands before
    ``/api/2.0/mlflow``.
    """
    path: str = ""
    """For `MODELDB_V2` and `MLFLOW`: the path in it, as it was given."""
    version: str = ""
    """For `MLFLOW`; "": it tells it only to those who are logged in."""
    wants_login: bool = False
    """For `MLFLOW`: it answers only those who are logged in."""
    status: int = 0
    """For `HTTP`: its answer, to the first of the paths."""
    clock_ahead_seconds: float | None = field(default=None, compare=False)
    """For `MODELDB_V2` and `MLFLOW`: of its clock, against this machine's; None: it does not tell
    the time.
    """


async def which_server(
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    v2_paths: Sequence[str] = V2_PATHS,
    mlflow_paths: Sequence[str] = MLFLOW_PATHS,
    seconds: float = 5.0,
) -> Server:
    """Detects the server at an address. Never raises for what it finds.

    Args:
        host: a name, or an IPv4 or IPv6 address without brackets.
        port: of TCP.
        tls: for a server behind TLS; None: no TLS.
        v2_paths: where the REST API of ModelDB V2 may be, without a slash at the end; the first
            that answers is taken.
        mlflow_paths: the same for MLflow.
        seconds: deadline of the whole; Thrift and HTTP get half each.
    """
    thrift = await _ask_thrift(host, port, tls, seconds / 2)
    if thrift is not ServerKind.OTHER:
        return Server(thrift)
    return await _ask_http(host, port, tls, (v2_paths, mlflow_paths), seconds / 2)


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
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    paths: tuple[Sequence[str], Sequence[str]],
    seconds: float,
) -> Server:
    """`MODELDB_V2`, `MLFLOW`, `HTTP`, `SILENT`; `OTHER` where no HTTP comes back."""
    v2_paths, mlflow_paths = paths
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
            for path in v2_paths:
                base = f"{origin}{path}"
                async with session.get(
                    f"{base}/project/verifyConnection", allow_redirects=False
                ) as response:
                    status = status or response.status
                    if _is_modeldb_v2(response.status, await _start_of(response)):
                        ahead = clock_ahead(response.headers.get("Date"))
                        return Server(ServerKind.MODELDB_V2, base, path, clock_ahead_seconds=ahead)
            for path in mlflow_paths:
                mlflow = await _ask_mlflow(session, f"{origin}{path}", path)
                if mlflow is not None:
                    return mlflow
    except TimeoutError:
        return Server(ServerKind.HTTP, status=status) if status else Server(ServerKind.SILENT)
    except (aiohttp.ClientError, OSError):
        return Server(ServerKind.HTTP, status=status) if status else Server(ServerKind.OTHER)
    return Server(ServerKind.HTTP, status=status)


async def _ask_mlflow(session: aiohttp.ClientSession, base: str, path: str) -> Server | None:
    """The MLflow whose API is at this base; None: there is none."""
    url = f"{base}/api/2.0/mlflow/experiments/get-by-name"
    async with session.get(url, allow_redirects=False) as response:
        status, body = response.status, await _start_of(response)
        wants_login = status == _UNAUTHORIZED and _REALM in response.headers.get(
            "WWW-Authenticate", ""
        )
        ahead = clock_ahead(response.headers.get("Date"))
    # both also where the API is not
    anywhere = wants_login or (status == _FORBIDDEN and body.startswith(_INVALID_HOST))
    if not anywhere and not _is_of_mlflow(body):
        return None
    version = ""
    async with session.get(f"{base}/version", allow_redirects=False) as response:
        text = await _start_of(response)
        if response.status == _OK and (found := _VERSION.fullmatch(text.strip())):
            version = found[0].decode()
    if anywhere and not version:
        async with session.get(f"{base}/health", allow_redirects=False) as response:
            if response.status != _OK or await _start_of(response) != b"OK":
                return None
    return Server(
        ServerKind.MLFLOW,
        base,
        path,
        version=version,
        wants_login=wants_login,
        clock_ahead_seconds=ahead,
    )


def _is_of_mlflow(body: bytes) -> bool:
    """Whether this is how MLflow's API says that a parameter is missing."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("error_code") == "INVALID_PARAMETER_VALUE"


_UNAUTHORIZED, _FORBIDDEN = 401, 403
_REALM = 'realm="mlflow"'
_INVALID_HOST = b"Invalid Host header"
_VERSION = re.compile(rb"[0-9]+\.[0-9]+[0-9A-Za-z.+-]{0,40}")


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
_KNOWN = frozenset({ServerKind.MODELDB_V1, ServerKind.MODELDB_V2, ServerKind.MLFLOW})
_PLAIN_TO_TLS = 400
"""What web servers answer to HTTP without TLS on a port with TLS."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a target is configured to be."""

    host: str
    port: int
    encrypted: bool
    path: str = V2_PATHS[0]
    """Of the REST API, where one is configured."""

    def __str__(self) -> str:
        return host_and_port(self.host, self.port)


async def server_at(address: Address, ca_file: Path | None) -> tuple[Address, Server]:
    """What answers at an address and, where that is none of the known servers, without TLS or
    behind it.

    Takes up to 5 seconds, or 10 where it asks twice.

    Returns:
        The address with or without TLS, and the server.
    """
    there = await _server(address, ca_file)
    may_need_tls = there.kind is ServerKind.OTHER or there.status == _PLAIN_TO_TLS
    if there.kind not in _KNOWN and (address.encrypted or may_need_tls):
        other = replace(address, encrypted=not address.encrypted)
        # whom it trusts can only be configured with https; nothing secret is sent
        there_other = await _server(other, ca_file, trusted=address.encrypted)
        if there_other.kind in _KNOWN:
            return other, there_other
    return address, there


def is_mlflow(address: Address, there: Server) -> str:
    """The advice of the other kinds of target about a server of kind `ServerKind.MLFLOW`."""
    return (
        f"an MLflow answers at {address}: set target.kind: mlflow, target.tracking_uri: {there.url}"
    )


def speaks_neither(address: Address) -> str:
    """The advice about a server of kind `ServerKind.OTHER`."""
    return f"what answers at {address} speaks neither the Thrift of ModelDB V1 nor HTTP"


async def _server(address: Address, ca_file: Path | None, *, trusted: bool = True) -> Server:
    tls = tls_context(ca_file) if address.encrypted else None
    if tls is not None and not trusted:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return await which_server(
        address.host,
        address.port,
        tls=tls,
        v2_paths=tuple(dict.fromkeys((address.path, *V2_PATHS))),
        mlflow_paths=tuple(dict.fromkeys((address.path, *MLFLOW_PATHS))),
    )

"""Opening a connection: addresses, timeouts, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from daemon.targets.modeldb_v1.connection import Connection
from daemon.targets.modeldb_v1.errors import CallErrorKind
from tests.support.modeldb_v1_connections import (
    answer_all,
    failure_of,
)
from tests.support.scripted_addresses import listening, silence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


async def answers(host: str, port: int, **options: Any) -> bool:
    connection = await Connection.open(host, port, **options)
    try:
        return bool(await connection.call("testConnection") == 200)
    finally:
        await connection.aclose()


def free_port(address: str) -> int:
    with socket.socket() as closed:
        closed.bind((address, 0))
        return int(closed.getsockname()[1])


@contextlib.contextmanager
def silent(address: str, port: int = 0) -> Iterator[int]:
    """A port that takes no connection and refuses none: its queue is full. Gives the port."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((address, port))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Host names and their IPv4 addresses; no other name is known."""
    known: dict[str, list[str]] = {}

    async def getaddrinfo(host: str, port: int, **_: object) -> list[Any]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return known


# Addresses
# ---


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_names_and_addresses_of_both_kinds(host: str) -> None:
    try:
        async with listening(answer_all, host="127.0.0.1" if host == "localhost" else host) as port:
            assert await answers(host, port)
    except OSError as error:
        pytest.skip(f"no {host} here: {error}")


async def test_small_frames_leave_at_once_and_a_silent_peer_is_noticed() -> None:
    async with listening(silence) as port:
        connection = await Connection.open("127.0.0.1", port)
        sock = connection._writer.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        await connection.aclose()


async def test_the_first_address_that_takes_a_connection_is_used(
    names: dict[str, list[str]],
) -> None:
    async with listening(answer_all) as port:
        names["modeldb"] = ["127.0.0.2", "127.0.0.1"]  # nobody listens on the first
        assert await answers("modeldb", port)
        with silent("127.0.0.3", port):
            names["modeldb"] = ["127.0.0.3", "127.0.0.1"]
            assert await answers("modeldb", port, connect_seconds=0.6)


async def test_an_address_that_refuses(names: dict[str, list[str]]) -> None:
    names["modeldb"] = ["127.0.0.1", "127.0.0.2"]
    port = free_port("127.0.0.1")
    failed = await failure_of(Connection.open("modeldb", port))
    assert (failed.kind, failed.answered, failed.sent, failed.method) == (
        CallErrorKind.UNREACHABLE,
        False,
        False,
        "connect",
    )
    assert failed.detail == f"modeldb:{port}: Connection refused"


async def test_an_address_that_does_not_answer() -> None:
    with silent("127.0.0.1") as port:
        begun = time.monotonic()
        failed = await failure_of(Connection.open("127.0.0.1", port, connect_seconds=0.2))
        assert 0.19 < time.monotonic() - begun < 2
        assert (failed.kind, failed.sent) == (CallErrorKind.UNREACHABLE, False)
        assert failed.detail == f"127.0.0.1:{port}: no connection within 0.2 s"


async def test_a_name_that_nobody_knows(names: dict[str, list[str]]) -> None:
    assert not names
    failed = await failure_of(Connection.open("modeldb", 6543))
    assert (failed.kind, failed.sent) == (CallErrorKind.UNREACHABLE, False)
    assert failed.detail == "modeldb:6543: Name or service not known"


async def test_a_name_that_is_none() -> None:
    failed = await failure_of(Connection.open("x" * 64 + ".example", 6543))
    assert (failed.kind, failed.sent) == (CallErrorKind.UNREACHABLE, False)


async def test_cancelling_while_connecting_leaves_no_socket() -> None:
    with silent("127.0.0.1") as port:
        opening = asyncio.create_task(Connection.open("127.0.0.1", port))
        await asyncio.sleep(0.05)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening


# TLS
# ---


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, signed by itself, with its key: a PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "of an address")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "modeldb.pem"
    file.write_bytes(key_text + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def with_tls(certificate: Path) -> ssl.SSLContext:
    """Of the server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusting(certificate: Path) -> ssl.SSLContext:
    """Of the client."""
    return ssl.create_default_context(cafile=certificate)


async def test_over_tls(with_tls: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async with listening(answer_all, tls=with_tls) as port:
        assert await answers("127.0.0.1", port, ssl_context=trusting)


async def test_a_connection_over_tls_is_closed_with_calls_on_it(
    with_tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with listening(silence, tls=with_tls) as port:
        connection = await Connection.open("127.0.0.1", port, ssl_context=trusting)
        call = asyncio.create_task(connection.call("testConnection"))
        await asyncio.sleep(0)
        await connection.aclose()
        assert (await failure_of(call)).sent


async def test_a_certificate_that_is_not_trusted(with_tls: ssl.SSLContext) -> None:
    async with listening(answer_all, tls=with_tls) as port:
        failed = await failure_of(
            Connection.open("127.0.0.1", port, ssl_context=ssl.create_default_context())
        )
        assert (failed.kind, failed.sent) == (CallErrorKind.UNREACHABLE, False)
        assert (
            "its certificate is not trusted: self-signed certificate; target.ca_file"
            in failed.detail
        )


async def test_a_certificate_of_another_name(
    with_tls: ssl.SSLContext, trusting: ssl.SSLContext, names: dict[str, list[str]]
) -> None:
    names["modeldb"] = ["127.0.0.1"]
    async with listening(answer_all, tls=with_tls) as port:
        failed = await failure_of(Connection.open("modeldb", port, ssl_context=trusting))
        assert (failed.kind, failed.sent) == (CallErrorKind.UNREACHABLE, False)
        assert "modeldb" in failed.detail.partition("its certificate is not trusted")[2]


async def test_tls_with_a_name_that_no_certificate_can_have(
    trusting: ssl.SSLContext, names: dict[str, list[str]]
) -> None:
    names[".modeldb"] = ["127.0.0.1"]
    async with listening(silence) as port:
        failed = await failure_of(Connection.open(".modeldb", port, ssl_context=trusting))
        assert (failed.kind, failed.sent) == (CallErrorKind.UNREACHABLE, False)


async def test_tls_with_a_server_that_answers_something_else(trusting: ssl.SSLContext) -> None:
    async def handler(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        await silence(_reader, writer)

    async with listening(handler) as port:
        failed = await failure_of(Connection.open("127.0.0.1", port, ssl_context=trusting))
        assert (failed.kind, failed.sent) == (CallErrorKind.NOT_THE_API, False)
        assert "is target.tls right?" in failed.detail


async def test_tls_with_a_server_that_closes_as_modeldb_does(trusting: ssl.SSLContext) -> None:
    async def handler(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(4)  # no length that it takes

    async with listening(handler) as port:
        failed = await failure_of(Connection.open("127.0.0.1", port, ssl_context=trusting))
        assert (failed.kind, failed.sent) == (CallErrorKind.UNREACHABLE, False)
        assert failed.detail.endswith(" in the TLS handshake; is target.tls right?")


async def test_tls_with_a_server_that_does_not_answer(trusting: ssl.SSLContext) -> None:
    async with listening(silence) as port:
        failed = await failure_of(
            Connection.open("127.0.0.1", port, ssl_context=trusting, connect_seconds=0.2)
        )
        assert (failed.kind, failed.sent) == (CallErrorKind.UNREACHABLE, False)
        assert failed.detail == f"127.0.0.1:{port}: no TLS handshake within 0.2 s"
